"""Answers of all members of a model for a batch of crystals, before they are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from zoo.contract.plugin import Encoder
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import CrystalGraph, collate
from zoo.inference.novelty import describe_crystals
from zoo.model.tensor_model import TensorModel
from zoo.phonons.force_constants import LARGE_FORCE, SOFT, ForceConstants, force_constants
from zoo.phonons.force_constants_store import mean_of, padded
from zoo.runtime.timing import Stopwatch


@dataclass(frozen=True)
class Raw:
    """All that the members of a model say of one crystal.

    Attributes:
        tensors: by the name of the target, or of each part of a joint one, (members, *shape), per atom
            (members, n_atoms, *shape).
        descriptor: (D,) what `Novelty.novelty` describes the crystal by, where the model knows its training crystals.
        force_constants: those of the potential, where the readout needs them.
    """

    tensors: Mapping[str, np.ndarray]
    descriptor: np.ndarray | None
    force_constants: ForceConstants | None


def answers_of(
    graphs: Sequence[CrystalGraph],
    members: Sequence[TensorModel],
    potentials: Sequence[Encoder],
    describe: bool,
    device: torch.device,
    watch: Stopwatch,
) -> list[Raw]:
    """Predict one batch of crystals.

    Args:
    graphs: of the crystals.
    members: the models of an ensemble; with a frozen encoder they share it.
    potential: gives the force constants, where the readouts need them.
    describe: describe each crystal, too.
    device: where the members are.
    watch: counts the time of each stage.
    """
    with watch("graphs"):
        batch = collate(graphs).to(device)
    constants: list[ForceConstants | None] = [None] * len(graphs)
    if potentials:
        with watch("phonons"):
            crystals = [Crystal(graph.positions, graph.numbers, graph.cell) for graph in graphs]
            by_potential = [force_constants(potential, crystals) for potential in potentials]
            means = [mean_of(each) for each in zip(*by_potential, strict=True)]
            constants, like = list(means), batch.positions
            batch = replace(batch, force_constants=padded(means).each(lambda t: _as(t, like)))
    first = members[0]
    target = first.target
    embedding, found = None, []
    with nullcontext() if first.readout.needs_grad else torch.inference_mode():
        for member in members:
            mine = None
            if not member.readout.needs_grad:
                # A frozen encoder is shared, and runs once for all members.
                with watch("encoder"):
                    mine = (
                        embedding
                        if embedding is not None and member.encoder is first.encoder
                        else member.encoder(batch)
                    )
                embedding = mine if member is first else embedding
            with watch("readout"):
                found.append(member(batch, mine).detach().cpu().numpy())
    descriptors: list[np.ndarray | None] = [None] * len(graphs)
    if describe:
        with torch.no_grad(), watch("encoder"):
            atoms = (first.encoder(batch) if embedding is None else embedding).atoms
            descriptors = list(describe_crystals(atoms, batch.crystal, len(graphs)).cpu().numpy())
    tensors = np.stack(found)
    if target.per_atom:
        ends = np.cumsum([len(graph.numbers) for graph in graphs])
        each = np.split(tensors, ends[:-1], axis=1)
    else:
        each = list(tensors.swapaxes(0, 1))
    split = [{name: part for name, (_, part) in target.split(one).items()} for one in each]
    return [Raw(*of_one) for of_one in zip(split, descriptors, constants, strict=True)]


def _as(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """On the device of `like`, and in its dtype where it is floating-point."""
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)


def phonon_warnings(found: ForceConstants) -> list[str]:
    """Reasons not to trust an ionic tensor that are seen from the force constants alone."""
    out = []
    if found.largest_force > LARGE_FORCE:
        out.append(
            f"the potential has a force of {found.largest_force:.2f} eV/Å on an atom: the structure is not at rest in "
            "it, and its force constants are uncertain"
        )
    softest = found.softest
    if softest is not None and softest < SOFT:
        kind = "imaginary" if softest < 0 else "very soft"
        out.append(f"the potential has {kind} modes ({softest:.3f} eV/Å²): the ionic tensor is uncertain")
    return out
