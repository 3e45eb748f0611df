"""One crystal as a graph, and several as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pymatgen.core import DummySpecies, Structure

from zoo.contract.batch import CrystalBatch
from zoo.errors import ZooError
from zoo.graphs.neighbours import neighbours


@dataclass(frozen=True)
class CrystalGraph:
    """One crystal and its edges; numpy, so that it can be mapped from disk. Fields as in `CrystalBatch`.

    Attributes:
        positions: (N, 3) float64 Å.
        numbers: (N,) int.
        cell: (3, 3) float64 Å, lattice vectors as rows.
        src, dst: (E,) int; sorted by dst.
        shift: (E, 3) int.
    """

    positions: np.ndarray
    numbers: np.ndarray
    cell: np.ndarray
    src: np.ndarray
    dst: np.ndarray
    shift: np.ndarray


def crystal_graph(structure: Structure, cutoff: float) -> CrystalGraph:
    """All edges no longer than `cutoff` (Å), in the frame of the structure.

    Raises:
        ZooError: a site is partly occupied or holds no element, so it has no atomic number.
    """
    if not structure.is_ordered:
        raise ZooError(
            f"{structure.composition.reduced_formula} has partially occupied sites; "
            "order it first, for instance with pymatgen's OrderDisorderedStructureTransformation"
        )
    if any(isinstance(site.specie, DummySpecies) for site in structure):  # these have a made-up Z
        raise ZooError(f"{structure.formula} has a site that holds no chemical element; name the element or remove it")
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int64)
    positions = np.asarray(structure.cart_coords, dtype=np.float64)
    cell = np.asarray(structure.lattice.matrix, dtype=np.float64)
    src, dst, shift = neighbours(positions, cell, cutoff)
    return CrystalGraph(positions, numbers, cell, src, dst, shift)


def collate(graphs: Sequence[CrystalGraph], dtype: torch.dtype = torch.float32) -> CrystalBatch:
    """One batch of several crystals; floating-point values in `dtype`."""
    atoms = [len(graph.numbers) for graph in graphs]
    offsets = np.concatenate([[0], np.cumsum(atoms)[:-1]]).astype(np.int64)

    def joined(arrays: list[np.ndarray], kind: torch.dtype) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(arrays)).to(kind)

    return CrystalBatch(
        positions=joined([g.positions for g in graphs], dtype),
        numbers=joined([g.numbers for g in graphs], torch.int64),
        cell=joined([g.cell[None] for g in graphs], dtype),
        crystal=torch.from_numpy(np.repeat(np.arange(len(graphs)), atoms)),
        src=joined([g.src + o for g, o in zip(graphs, offsets, strict=True)], torch.int64),
        dst=joined([g.dst + o for g, o in zip(graphs, offsets, strict=True)], torch.int64),
        shift=joined([g.shift for g in graphs], torch.int64),
    )
