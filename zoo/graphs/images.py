"""Neighbours among explicit periodic images: many small crystals in a few array operations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from zoo.graphs.atoms import Atoms, Pairs


@dataclass(frozen=True)
class Images:
    """The cells around that of each of B crystals, its own among them, in which neighbours may lie.

    Attributes:
        shift: (T, 3) int64, for each crystal in ascending order.
        vector: (T, 3) float64 Å, `shift @ cell`.
        first: (B + 1,) int64: crystal b has the images [first[b], first[b + 1]).
        own: (B,) int64: the one that is the cell itself, shift 0.
    """

    shift: np.ndarray
    vector: np.ndarray
    first: np.ndarray
    own: np.ndarray


def periodic_images(atoms: Atoms, reach: float) -> Images:
    """All images that hold an atom closer than `reach` (Å) to one of the cell."""
    # The spacing of lattice planes is one over the length of a reciprocal vector, a column of the inverse.
    most = np.floor(reach * np.linalg.norm(atoms.inverse, axis=1) + extent(atoms.fractions, atoms.first)[1]).astype(int)
    blocks = [_block(*sides) for sides in most.tolist()]
    shift = np.concatenate(blocks)
    vector = np.concatenate([block @ cell for block, cell in zip(blocks, atoms.cells, strict=True)])
    # No two atoms of a cell are farther apart than the diagonal of the box around them.
    limit = (reach + np.linalg.norm(extent(atoms.positions, atoms.first)[1], axis=1)) ** 2
    ends = np.cumsum([0] + [len(block) for block in blocks])
    near = np.flatnonzero(np.einsum("ti,ti->t", vector, vector) < np.repeat(limit, np.diff(ends)))
    own = np.searchsorted(near, (ends[:-1] + ends[1:]) // 2)  # in the middle of each block
    shift, vector = shift.take(near, axis=0).astype(np.int64), vector.take(near, axis=0)
    return Images(shift, vector, np.searchsorted(near, ends), own)


@lru_cache(maxsize=512)
def _block(a: int, b: int, c: int) -> np.ndarray:
    """(T, 3) float64 all shifts up to ±a, ±b, ±c, in ascending order."""
    return np.indices((2 * a + 1, 2 * b + 1, 2 * c + 1)).reshape(3, -1).T - np.array([a, b, c], dtype=np.float64)


def extent(values: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) of atoms -> (B, 3) smallest of each crystal, and (B, 3) by how much the largest is larger."""
    low = np.minimum.reduceat(values, first[:-1])
    return low, np.maximum.reduceat(values, first[:-1]) - low


def images(atoms: Atoms, reach: float) -> Pairs:
    """Every pair with every image, |d + t|² = |d|² + 2 d·t + |t|² as a product of matrices.

    The work grows as the square of the number of atoms in a cell; up to some thirty nothing is faster, where one call
    is for four crystals or more.
    """
    around = periodic_images(atoms, reach)
    n, t = atoms.counts, np.diff(around.first)
    dst = np.repeat(np.arange(len(atoms.positions)), np.repeat(n, n))
    before = np.concatenate([[0], np.cumsum(n * n)])  # pairs (dst, src) of the crystals before
    src = np.arange(before[-1]) - np.repeat(before[:-1], n * n)
    src = src % np.repeat(n, n * n) + np.repeat(atoms.first[:-1], n * n)
    d = atoms.positions.take(src, axis=0) - atoms.positions.take(dst, axis=0)
    left = np.column_stack([d, (d * d).sum(axis=1), np.ones(len(d))])
    right = np.vstack([2 * around.vector.T, np.ones(len(around.vector)), (around.vector**2).sum(axis=1)])
    start = np.concatenate([[0], np.cumsum(n * n * t)])
    squared = np.empty(start[-1])
    ranges = zip(pairwise(before.tolist()), pairwise(around.first.tolist()), pairwise(start.tolist()), strict=True)
    for (p0, p1), (t0, t1), (s0, s1) in ranges:
        np.matmul(left[p0:p1], right[:, t0:t1], out=squared[s0:s1].reshape(p1 - p0, t1 - t0))
    # The atom itself: of its crystal the pair (i, i) and the cell's own image.
    i = np.arange(len(atoms.positions)) - np.repeat(atoms.first[:-1], n)
    squared[np.repeat(start[:-1] + around.own - around.first[:-1], n) + i * np.repeat((n + 1) * t, n)] = np.inf
    hit = np.flatnonzero(squared < reach * reach)
    hits = np.diff(np.searchsorted(hit, start))
    image = hit - np.repeat(start[:-1], hits)
    images_each = np.repeat(t, hits)
    pair = (image / images_each).astype(np.int64)  # exact, and faster than dividing integers
    image -= pair * images_each
    image += np.repeat(around.first[:-1], hits)
    pair += np.repeat(before[:-1], hits)
    return Pairs(src.take(pair), dst.take(pair), around.shift.take(image, axis=0), squared.take(hit))
