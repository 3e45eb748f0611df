"""One crystal as a graph, and several as a batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pymatgen.core import Structure

from zoo.contract.batch import CrystalBatch
from zoo.errors import ZooError
from zoo.graphs import neighbour_backends
from zoo.graphs.crystal import Crystal
from zoo.graphs.neighbours import neighbour_lists

MAX_EDGES = 1_000_000
"""Edges of one crystal, unless said otherwise; with SevenNet-0 such a crystal takes some 6 GB and a minute."""
ATOMS_AT_ONCE = 320  # when graphs are made: what is passed around then stays in the processor's cache


@dataclass(frozen=True)
class CrystalGraph:
    """One crystal and its edges; numpy, so that it can be mapped from disk. Fields as in `CrystalBatch`.

    Attributes:
        positions: (N, 3) float64 Å.
        numbers: (N,) int.
        cell: (3, 3) float64 Å, lattice vectors as rows.
        src, dst: (E,) int; sorted by dst, then src, then shift.
        shift: (E, 3) int.
    """

    positions: np.ndarray
    numbers: np.ndarray
    cell: np.ndarray
    src: np.ndarray
    dst: np.ndarray
    shift: np.ndarray


def refuse_too_many_edges(crystal: Crystal, cutoff: float, at_most: int = MAX_EDGES) -> None:
    """Check, before it is made, that a graph will not be too large.

    Args:
        crystal: its edges are estimated: as many as if its atoms filled the cell evenly.
        cutoff: Å.
        at_most: number of edges.

    Raises:
        ZooError: they are more.
    """
    count = len(crystal.numbers)
    expected = count**2 / abs(np.linalg.det(crystal.cell)) * 4 / 3 * np.pi * cutoff**3
    if expected > at_most:
        raise ZooError(too_many_edges(count, round(expected), cutoff, at_most))


def too_many_edges(atoms: int, edges: int, cutoff: float, at_most: int) -> str:
    """Return the error message for a graph that is too large."""
    return (
        f"{atoms:,} atoms with some {edges:,} neighbours within {cutoff:g} Å, at most {at_most:,} are answered here; "
        "are the lengths in Å?"
    )


def crystal_graph(structure: Structure | Crystal, cutoff: float) -> CrystalGraph:
    """All edges shorter than `cutoff` (Å), in the frame of the structure.

    Raises:
        ZooError: as `Crystal.of`.
    """
    return next(crystal_graphs([structure], cutoff))


def crystal_graphs(
    structures: Iterable[Structure | Crystal], cutoff: float, backend: str = neighbour_backends.DEFAULT
) -> Iterator[CrystalGraph]:
    """Make the graphs of many crystals, several at once, which is faster; only these are in memory.

    Args:
        structures: in any number.
        cutoff: Å.
        backend: looks for the edges (`zoo.graphs.neighbour_backends`).

    Raises:
        ZooError: as `Crystal.of`, `refuse_too_many_edges` and `neighbour_lists`.
    """
    for crystals in _together(_checked(s, cutoff) for s in structures):
        found = neighbour_lists(crystals, cutoff, backend)
        for crystal, edges in zip(crystals, found, strict=True):
            yield CrystalGraph(crystal.positions, crystal.numbers, crystal.cell, *edges)


def _checked(structure: Structure | Crystal, cutoff: float) -> Crystal:
    crystal = structure if isinstance(structure, Crystal) else Crystal.of(structure)
    refuse_too_many_edges(crystal, cutoff)
    return crystal


def _together(crystals: Iterable[Crystal]) -> Iterator[list[Crystal]]:
    """In their order, of at most `ATOMS_AT_ONCE` atoms, or of one crystal."""
    chunk: list[Crystal] = []
    atoms = 0
    for crystal in crystals:
        if chunk and atoms + len(crystal.numbers) > ATOMS_AT_ONCE:
            yield chunk
            chunk, atoms = [], 0
        chunk.append(crystal)
        atoms += len(crystal.numbers)
    if chunk:
        yield chunk


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


def size_sorted(edges: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of crystals, by their numbers of edges, in batches of like size: of at most `budget` edges, or of one."""
    batches: list[list[int]] = []
    total = 0
    for index in sorted(range(len(edges)), key=lambda i: edges[i]):
        if not batches or total + edges[index] > budget:
            batches.append([])
            total = 0
        batches[-1].append(index)
        total += edges[index]
    return batches
