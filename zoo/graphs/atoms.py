"""Data that pass between the neighbour list and its backends: atoms of several crystals, and pairs of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from zoo.graphs.crystal import Crystal


@dataclass(frozen=True)
class Atoms:
    """Atoms of B crystals, numbered through.

    Attributes:
        positions: (N, 3) float64 Å.
        cells: (B, 3, 3) float64 Å, lattice vectors as rows.
        first: (B + 1,) int64: crystal b has the atoms [first[b], first[b + 1]).
    """

    positions: np.ndarray
    cells: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, crystals: Sequence[Crystal]) -> Atoms:
        """All of some crystals, one at least."""
        return cls(
            positions=np.concatenate([crystal.positions for crystal in crystals]),
            cells=np.stack([crystal.cell for crystal in crystals]),
            first=np.cumsum([0] + [len(crystal.positions) for crystal in crystals]),
        )

    @cached_property
    def counts(self) -> np.ndarray:
        """(B,) atoms of each crystal."""
        return np.diff(self.first)

    @cached_property
    def inverse(self) -> np.ndarray:
        """(B, 3, 3) 1/Å, reciprocal vectors (without 2π) as columns."""
        return np.linalg.inv(self.cells)

    @cached_property
    def fractions(self) -> np.ndarray:
        """(N, 3) fractional coordinates."""
        return np.einsum("ni,nij->nj", self.positions, np.repeat(self.inverse, self.counts, axis=0))

    def moved(self, shift: np.ndarray) -> Atoms:
        """By (N, 3) lattice vectors."""
        vectors = np.einsum("ni,nij->nj", shift, np.repeat(self.cells, self.counts, axis=0))
        return Atoms(self.positions + vectors, self.cells, self.first)

    def one_by_one(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions and cell of each crystal."""
        for (start, end), cell in zip(pairwise(self.first.tolist()), self.cells, strict=True):
            yield self.positions[start:end], cell


@dataclass(frozen=True)
class Pairs:
    """Pairs of atoms, by dst, then src, then shift; none is an atom with itself, its images apart.

    Attributes:
        src, dst: (E,) int64.
        shift: (E, 3) whole numbers, int or float: the pair is dst and src moved by `shift @ cell`.
        squared: (E,) float64 Å², of the distance.
    """

    src: np.ndarray
    dst: np.ndarray
    shift: np.ndarray
    squared: np.ndarray

    @classmethod
    def in_order(cls, src: np.ndarray, dst: np.ndarray, shift: np.ndarray, squared: np.ndarray) -> Pairs:
        """From pairs in any order, with themselves among them; integers of any type."""
        src, dst = src.astype(np.int64, copy=False), dst.astype(np.int64, copy=False)
        if len(src):
            # One whole number a pair, exact in float64 for all that fits into memory, is sorted many times faster.
            atoms, shifts = dst.max() + 1, float(shift.max()) - float(shift.min()) + 1
            image = shift @ np.array([shifts**2, shifts, 1.0])
            rank = (dst * atoms + src) * shifts**3 + image
            itself = (src == dst) & (image == 0)
            rank[itself] = np.inf
            order = np.argsort(rank)[: len(rank) - np.count_nonzero(itself)]
            src, dst, shift, squared = (part.take(order, axis=0) for part in (src, dst, shift, squared))
        return cls(src, dst, shift, squared)
