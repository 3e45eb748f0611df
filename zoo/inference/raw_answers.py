"""Answers of all members of a model for a batch of crystals, before they are put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding
from zoo.contract.plugin import Encoder
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import CrystalGraph, collate
from zoo.inference.novelty import describe_crystals
from zoo.model.tensor_model import TensorModel
from zoo.phonons.common_factor import common_factor
from zoo.phonons.force_constants import ForceConstants, force_constants_each
from zoo.phonons.force_constants_store import mean_of, padded
from zoo.phonons.kept_force_constants import KeptForceConstants
from zoo.runtime.timing import Stopwatch


@dataclass(frozen=True)
class Response:
    """Born charges and corrected force constants that the members of a model make the ionic tensor of a crystal of.

    Attributes:
        born: (N, 3, 3), e; float64, as the others.
        force_constants: (3N, 3N), eV/Å².
        absolute: see `zoo.contract.lattice_response.LatticeResponse`.
    """

    born: np.ndarray
    force_constants: np.ndarray
    absolute: bool = False

    @classmethod
    def mean(cls, each: Sequence[Response]) -> Response:
        """Mean charges and mean force constants of several members."""
        return cls(
            np.mean([one.born for one in each], axis=0),
            np.mean([one.force_constants for one in each], axis=0),
            each[0].absolute,
        )


@dataclass(frozen=True)
class Raw:
    """All that the members of a model say of one crystal.

    Attributes:
        tensors: by the name of the target, or of each part of a joint one, (members, *shape), per atom
            (members, n_atoms, *shape).
        descriptor: (D,) what `Novelty.novelty` describes the crystal by, where the model knows its training crystals.
        force_constants: those of the potential, where the readout needs them.
        response: mean over the members of what they make the ionic tensor of, where the readout explains.
        by_potential: (P, 3, 3) mean over the members of the ionic tensor by the force constants of each potential,
            where there are several and the readout explains.
    """

    tensors: Mapping[str, np.ndarray]
    descriptor: np.ndarray | None = None
    force_constants: ForceConstants | None = None
    response: Response | None = None
    by_potential: np.ndarray | None = None


def ionic_part(target: TensorTarget) -> TensorTarget:
    """The tensor that a readout explains: the ionic part of a joint target, else the target itself."""
    return next((part for part in target.parts if part.name == "ionic"), target.main)


def answers_of(
    graphs: Sequence[CrystalGraph],
    members: Sequence[TensorModel],
    potentials: Sequence[Encoder],
    describe: bool,
    device: torch.device,
    watch: Stopwatch,
    keep: bool,
    level: int | None = None,
) -> list[Raw | ZooError]:
    """Predict one batch of crystals; one that has no force constants has an error in its place.

    Args:
        graphs: of the crystals.
        members: the models of an ensemble; with a frozen encoder they share it.
        potentials: give the force constants, where the readouts need them.
        describe: describe each crystal, too.
        device: where the members are.
        watch: counts the time of each stage.
        keep: look for force constants in the cache, and keep them there.
        level: of theory, by its number in `zoo.contract.level_of_theory.LEVELS`; None: PBE's.
    """
    if not potentials:
        return [*_answers(graphs, members, [], describe, device, watch, level)]
    with watch("phonons"):
        crystals = [Crystal(graph.positions, graph.numbers, graph.cell) for graph in graphs]
        by_potential = [_force_constants(potential, crystals, keep) for potential in potentials]
    failed, good, each = {}, [], []
    for k, of_one in enumerate(zip(*by_potential, strict=True)):
        constants = [one for one in of_one if not isinstance(one, ZooError)]
        if len(constants) == len(of_one):
            good.append(graphs[k])
            each.append(constants)
        else:
            failed[k] = next(one for one in of_one if isinstance(one, ZooError))
    made = iter(_answers(good, members, [*zip(*each, strict=True)], describe, device, watch, level) if good else ())
    return [failed[k] if k in failed else next(made) for k in range(len(graphs))]


def _force_constants(potential: Encoder, crystals: Sequence[Crystal], keep: bool) -> list[ForceConstants | ZooError]:
    """Force constants of each crystal by one potential, from the cache where they are kept there."""
    if not keep:
        return force_constants_each(potential, crystals)
    kept = KeptForceConstants(potential)
    found: list[ForceConstants | ZooError | None] = [kept.read(crystal) for crystal in crystals]
    missing = [k for k, one in enumerate(found) if one is None]
    for k, one in zip(missing, force_constants_each(potential, [crystals[k] for k in missing]), strict=True):
        found[k] = one
        if not isinstance(one, ZooError):
            kept.write(crystals[k], one)
    return [one for one in found if one is not None]


def _answers(
    graphs: Sequence[CrystalGraph],
    members: Sequence[TensorModel],
    each: Sequence[Sequence[ForceConstants]],
    describe: bool,
    device: torch.device,
    watch: Stopwatch,
    level: int | None,
) -> list[Raw]:
    """Predict crystals, of which `each` potential's force constants are known where the readouts need some."""
    with watch("graphs"):
        batch = collate(graphs).to(device)
        if level is not None:
            batch = replace(batch, level=torch.full((len(graphs),), level, device=device))
    constants = [mean_of(of_one) for of_one in zip(*each, strict=True)]
    if constants:
        with watch("phonons"):
            batch = _with(batch, constants)
    first = members[0]
    target, explains = first.target, first.readout.explains and bool(each)
    embedding, found, responses, alone = None, [], [], []
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
                if explains:
                    responses.append(_response(member, batch, mine, constants))
                if explains and len(each) > 1:
                    alone.append(_by_potential(member, batch, mine, each))
    descriptors: list[np.ndarray | None] = [None] * len(graphs)
    if describe:
        with torch.no_grad(), watch("encoder"):
            atoms = (first.encoder(batch) if embedding is None else embedding).atoms
            descriptors = list(describe_crystals(atoms, batch.crystal, len(graphs)).cpu().numpy())
    tensors = np.stack(found)
    if target.per_atom:
        ends = np.cumsum([len(graph.numbers) for graph in graphs])
        apart = np.split(tensors, ends[:-1], axis=1)
    else:
        apart = list(tensors.swapaxes(0, 1))
    spread = np.mean(alone, axis=0) if alone else None
    return [
        Raw(
            {name: part for name, (_, part) in target.split(one).items()},
            descriptors[k],
            constants[k] if constants else None,
            Response.mean([of_member[k] for of_member in responses]) if responses else None,
            None if spread is None else spread[:, k],
        )
        for k, one in enumerate(apart)
    ]


def _response(
    member: TensorModel, batch: CrystalBatch, embedding: Embedding | None, constants: Sequence[ForceConstants]
) -> list[Response]:
    """Collect what a member makes the ionic tensor of each crystal of, as stiff as the potential's force constants."""
    made = member.explain(batch, embedding)
    assert made is not None  # it explains
    charges = torch.split(made.born, batch.atoms_per_crystal().tolist())
    out = []
    for charge, force, known in zip(charges, made.force_constants, constants, strict=True):
        matrix, born = force.double().cpu().numpy(), charge.double().cpu().numpy()
        if not made.absolute:
            factor = common_factor(matrix, known.matrix)
            matrix, born = factor**2 * matrix, factor * born
        out.append(Response(born, matrix, made.absolute))
    return out


def _by_potential(
    member: TensorModel, batch: CrystalBatch, embedding: Embedding | None, each: Sequence[Sequence[ForceConstants]]
) -> np.ndarray:
    """(P, B, 3, 3), the ionic tensors of one member by the force constants of each potential alone."""
    name = ionic_part(member.target).name

    def tensors() -> Iterator[np.ndarray]:
        for constants in each:
            made = member(_with(batch, constants), embedding).detach().cpu().numpy()
            yield member.target.split(made)[name][1]

    return np.stack(list(tensors()))


def _with(batch: CrystalBatch, constants: Sequence[ForceConstants]) -> CrystalBatch:
    """The batch with force constants on its device, in its precision."""
    like = batch.positions
    # In two steps: they are float64, which mps has not.
    given = padded(constants).each(lambda t: (t.to(like.dtype) if t.is_floating_point() else t).to(like.device))
    return replace(batch, force_constants=given)
