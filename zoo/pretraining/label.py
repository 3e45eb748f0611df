"""Structures near given crystals, labelled with energy, forces and stress by a potential: what another one learns from.

The structures of some crystals at a time are made, computed and written by one thread. A frame of the file depends on
its crystal, the settings and the potential alone but for rounding, which depends on the frames it is computed with:
these are the same whenever the same crystals are labelled, so that work which was stopped ends in the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from ase import Atoms

from zoo.contract.plugin import Encoder
from zoo.contract.potential import forces_and_stress
from zoo.data.crystal_files import NamedCrystal
from zoo.data.extxyz_frames import extxyz, labelled_frame
from zoo.data.inputs import checked_crystal
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.graph import MAX_EDGES, CrystalGraph, collate, crystal_graphs, refuse_too_many_edges, size_sorted
from zoo.pretraining.perturbations import LEAST_ATOMS, Perturbed, perturbed, repeated, too_close
from zoo.runtime.threads import cores, in_order

LARGEST_FORCE = 50.0
"""eV/Å: where an atom feels more, its structure is left out. No potential is right there, and none needs to be."""

DTYPE = torch.float32
"""Precision of the labels: forces are rounded by 1e-5 to 4e-4 eV/Å, a hundredth of a potential's error and less."""

EDGES_PER_BATCH = {"cpu": 6_000}
ATOMS_PER_PIECE = {"cpu": 300}
ON_A_GPU = 50  # times as much

TOO_CLOSE = "two atoms too close"
TOO_LARGE_FORCE = f"a force above {LARGEST_FORCE:g} eV/Å"
NOT_FINITE = "no finite energy, forces or stress"


@dataclass(frozen=True)
class Labelling:
    """The settings by which structures are made and labelled.

    Attributes:
        potential: an encoder with an energy, in eval mode and of precision `DTYPE`.
        name: of the potential and the fingerprint of its energy, for each frame.
        per_crystal: number of structures of each crystal, the crystal itself among them.
        seed: of the perturbations.
        device: on which the potential is.
    """

    potential: Encoder
    name: str
    per_crystal: int
    seed: int
    device: torch.device


@dataclass
class Labelled:
    """Labels of some consecutive crystals of a source.

    Attributes:
        text: frames of extended XYZ.
        crystals: number of the crystals that they were made of, those without any frame included.
        structures: number of the frames.
        atoms: number of atoms in them.
        digest: identifies all crystals of the source up to the last of these.
        left_out: structures that were left out, by the reason.
        refused: for each crystal of which nothing was made, the reason, which names it.
    """

    text: str = ""
    crystals: int = 0
    structures: int = 0
    atoms: int = 0
    digest: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Piece:
    """Consecutive crystals that one thread labels; of those that are refused the reason stands in their place."""

    crystals: list[tuple[str, Crystal | ZooError]]
    digest: str


def labels(how: Labelling, crystals: Iterable[NamedCrystal], start: int = 0, digest: str = "") -> Iterator[Labelled]:
    """Label the structures near all crystals, some crystals at a time, in their order.

    Args:
        how: potential, number and seed.
        crystals: of a source, in the same order each time.
        start: number of crystals that were labelled before.
        digest: what identified them.

    Raises:
        ZooError: the first `start` crystals are not those that were labelled before.
    """
    pieces = _pieces(how, iter(crystals), start, digest)
    yield from in_order(partial(_labelled, how), pieces, cores() if how.device.type == "cpu" else 1)


def _pieces(how: Labelling, crystals: Iterator[NamedCrystal], start: int, digest: str) -> Iterator[_Piece]:
    so_far = ""
    for number in range(start):
        named = next(crystals, None)
        if named is None:
            raise ZooError(f"the source held {start:,} crystals at least when they were labelled, now only {number:,}")
        so_far = _digest(so_far, named)
    if so_far != digest:
        raise ZooError("the source is not what it was when its first crystals were labelled: label it anew")
    piece: list[tuple[str, Crystal | ZooError]] = []
    atoms, most = 0, ATOMS_PER_PIECE.get(how.device.type, ON_A_GPU * ATOMS_PER_PIECE["cpu"])
    for named in crystals:
        so_far = _digest(so_far, named)
        piece.append((named.key, _checked(how.potential, named)))
        atoms += 0 if isinstance(named.structure, ZooError) else max(len(named.structure), LEAST_ATOMS)
        if atoms * how.per_crystal >= most:
            yield _Piece(piece, so_far)
            piece, atoms = [], 0
    if piece:
        yield _Piece(piece, so_far)


def _digest(before: str, named: NamedCrystal) -> str:
    """Identifies a crystal and all before it."""
    structure = named.structure
    parts = [before.encode(), named.key.encode("utf-8", "backslashreplace")]
    if isinstance(structure, ZooError):
        parts.append(b"cannot be read")
    else:
        species = [str(site.species) for site in structure]
        parts += [json.dumps(species).encode(), structure.lattice.matrix.tobytes(), structure.frac_coords.tobytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _checked(potential: Encoder, named: NamedCrystal) -> Crystal | ZooError:
    """The crystal, or why it cannot be labelled."""
    if isinstance(named.structure, ZooError):
        return named.structure
    try:
        crystal = checked_crystal(named.structure, MAX_EDGES)
        refuse_unknown_elements(potential, [named.name], [crystal])
        # An eighth: a structure that is made of it may be denser.
        refuse_too_many_edges(repeated(crystal, LEAST_ATOMS), potential.cutoff, MAX_EDGES // 8)
    except ZooError as error:
        text = str(error)
        return error if named.name in text else ZooError(f"{named.name}: {text}")
    return crystal


def _labelled(how: Labelling, piece: _Piece) -> Labelled:
    out = Labelled(crystals=len(piece.crystals), digest=piece.digest)
    made: list[tuple[str, int, Perturbed]] = []  # key of the crystal, number among its structures
    for key, crystal in piece.crystals:
        if isinstance(crystal, ZooError):
            out.refused.append(str(crystal))
        else:
            each = perturbed(crystal, key, how.per_crystal, how.seed, how.potential.elements())
            made += [(key, number, one) for number, one in enumerate(each)]
    graphs = list(crystal_graphs((one.crystal for _, _, one in made), how.potential.cutoff))
    apart = [i for i, graph in enumerate(graphs) if not too_close(graph)]
    out.left_out[TOO_CLOSE] += len(graphs) - len(apart)
    frames: dict[int, Atoms] = {}
    for index, answer in _computed(how, {i: graphs[i] for i in apart}):
        if not all(np.isfinite(values).all() for values in answer.values()):
            out.left_out[NOT_FINITE] += 1
        elif np.linalg.norm(answer["forces"], axis=1).max() > LARGEST_FORCE:
            out.left_out[TOO_LARGE_FORCE] += 1
        else:
            key, number, one = made[index]
            frames[index] = labelled_frame(one.crystal, _info(key, number, one, how.name), **answer)
    ordered = [frames[i] for i in sorted(frames)]
    out.structures, out.atoms = len(ordered), sum(map(len, ordered))
    out.text = extxyz(ordered)
    return out


def _computed(how: Labelling, graphs: dict[int, CrystalGraph]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Key of each graph, and energy, forces, stress and, where there are, energies of its atoms; in like batches."""
    keys = list(graphs)
    budget = EDGES_PER_BATCH.get(how.device.type, ON_A_GPU * EDGES_PER_BATCH["cpu"])
    for chosen in size_sorted([len(graph.src) for graph in graphs.values()], budget):
        batch = collate([graphs[keys[i]] for i in chosen], DTYPE).to(how.device)
        answer = forces_and_stress(how.potential, batch)
        energy, forces, stress = (x.cpu().double().numpy() for x in (answer.energy, answer.forces, answer.stress))
        ends = np.cumsum([len(graphs[keys[i]].numbers) for i in chosen])[:-1]
        by_crystal: dict[str, Any] = {"energy": energy.tolist(), "stress": stress, "forces": np.split(forces, ends)}
        if answer.atomic_energies is not None:
            by_crystal["atomic_energies"] = np.split(answer.atomic_energies.cpu().double().numpy(), ends)
        for row, index in enumerate(chosen):
            yield keys[index], {name: values[row] for name, values in by_crystal.items()}


def _info(key: str, number: int, made: Perturbed, potential: str) -> dict[str, Any]:
    """Key of the frame, which no other has, and of its crystal; what was done to it; the potential."""
    info: dict[str, Any] = {"key": f"{key}#{number}", "crystal": key, "kind": made.kind}
    info |= {"rattle": round(made.rattle, 6), "strain": round(made.strain, 6)}
    return info | ({"swap": made.swap} if made.swap else {}) | {"potential": potential}
