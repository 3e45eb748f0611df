"""Periodic neighbour lists: the same edges in the same order, whichever library looked for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from zoo.graphs import neighbour_backends
from zoo.graphs.atoms import Atoms
from zoo.graphs.crystal import Crystal

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]

MARGIN = 1e-6  # Å; distances of any backend are right to far better than this


def neighbour_lists(
    crystals: Sequence[Crystal], cutoff: float, backend: str = neighbour_backends.DEFAULT
) -> list[Edges]:
    """Directed edges between all atoms and images closer than `cutoff`, for each crystal.

    A pair is an edge if, in float64, |positions[src] - positions[dst] + shift @ cell|² < cutoff². A backend's own
    distance decides unless it is within `MARGIN` of the cutoff: so all backends give the same edges, and never one
    without its reverse. One call for many crystals is faster than many calls.

    Args:
        crystals: B of them.
        cutoff: Å.
        backend: one of `backends.NAMES`.

    Returns:
        For each: src (E,), dst (E,), shift (E, 3), int64, by dst, then src, then shift: the edge runs from dst to
        `positions[src] + shift @ cell`. An atom's own images are among its neighbours, the atom itself is not.

    Raises:
        ZooError: no such backend, or it is not installed.
    """
    search = neighbour_backends.choose(backend)
    if not crystals:
        return []
    atoms = Atoms.of(crystals)
    away = np.floor(atoms.fractions)
    far = np.abs(away).max() > 1  # what lies far outside its cell would cost time and memory without end
    pairs = search(atoms.moved(-away) if far else atoms, cutoff + MARGIN)
    src, dst = pairs.src, pairs.dst
    shift = pairs.shift + away[dst] - away[src] if far else pairs.shift
    doubtful = np.flatnonzero(pairs.squared > (cutoff - MARGIN) ** 2)
    if len(doubtful):
        edge = np.ones(len(src), dtype=bool)
        edge[doubtful] = _squared_lengths(atoms, src[doubtful], dst[doubtful], shift[doubtful]) < cutoff * cutoff
        src, dst, shift = (part.compress(edge, axis=0) for part in (src, dst, shift))
    ends = np.searchsorted(dst, atoms.first)
    offset = np.repeat(atoms.first[:-1], np.diff(ends))
    src, dst, shift = src - offset, dst - offset, shift.astype(np.int64, copy=False)
    return [(src[a:b], dst[a:b], shift[a:b]) for a, b in pairwise(ends.tolist())]


def _squared_lengths(atoms: Atoms, src: np.ndarray, dst: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(n,) Å², term by term: of a pair and its reverse the same to the last bit."""
    a, b, c = atoms.cells[np.searchsorted(atoms.first, dst, side="right") - 1].swapaxes(0, 1)
    moved = shift[:, :1] * a + shift[:, 1:2] * b + shift[:, 2:] * c
    x, y, z = (atoms.positions[src] - atoms.positions[dst] + moved).T
    return x * x + y * y + z * z
