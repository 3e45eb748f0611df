"""Periodic neighbour lists: the same edges in the same order, whichever library looked for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from zoo.graphs import backends
from zoo.graphs.backends import Atoms, Pairs
from zoo.graphs.crystal import Crystal

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]

MARGIN = 1e-6  # Å; distances of any backend are right to far better than this


def neighbour_lists(crystals: Sequence[Crystal], cutoff: float, backend: str = backends.DEFAULT) -> list[Edges]:
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
    search = backends.choose(backend)
    if not crystals:
        return []
    positions = np.concatenate([crystal.positions for crystal in crystals])
    cells = np.stack([crystal.cell for crystal in crystals])
    first = np.cumsum([0] + [len(crystal.positions) for crystal in crystals])
    cell = np.repeat(cells, np.diff(first), axis=0)  # (N, 3, 3) that of each atom
    fractions = np.einsum("ni,nij->nj", positions, np.repeat(np.linalg.inv(cells), np.diff(first), axis=0))
    # Into the cell: what lies far outside would cost time and memory without end.
    cells_away = np.floor(fractions)
    within = positions - np.einsum("ni,nij->nj", cells_away, cell)

    pairs = search(Atoms(within, cells, first), cutoff + MARGIN)
    moved = pairs.shift + (cells_away[pairs.dst] - cells_away[pairs.src])
    edge = pairs.distance < cutoff
    doubtful = np.flatnonzero(pairs.distance > cutoff - MARGIN)
    if len(doubtful):
        src, dst = pairs.src[doubtful], pairs.dst[doubtful]
        edge[doubtful] = _squared(positions[src] - positions[dst], moved[doubtful], cell[dst]) < cutoff * cutoff
    close = np.flatnonzero(pairs.distance < MARGIN)  # the atom itself; but two atoms at one place are neighbours
    edge[close] &= (pairs.src[close] != pairs.dst[close]) | pairs.shift[close].any(axis=1)

    kept = _in_order(pairs, edge)
    dst = pairs.dst[kept]
    ends = np.searchsorted(dst, first)
    offset = np.repeat(first[:-1], np.diff(ends))
    src, dst, shift = pairs.src[kept] - offset, dst - offset, moved[kept].astype(np.int64)
    return [(src[a:b], dst[a:b], shift[a:b]) for a, b in pairwise(ends)]


def _squared(difference: np.ndarray, shift: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """(n,) |difference + shift @ cell|², term by term: of a pair and its reverse the same to the last bit."""
    x, y, z = (difference + (shift[:, :1] * cell[:, 0] + shift[:, 1:2] * cell[:, 1] + shift[:, 2:] * cell[:, 2])).T
    return x * x + y * y + z * z


def _in_order(pairs: Pairs, edge: np.ndarray) -> np.ndarray:
    """The numbers of the edges among the pairs, by dst, then src, then shift.

    One whole number a pair, exact in float64 for all that fits into memory: sorting these is many times faster.
    """
    if not len(edge):
        return np.zeros(0, dtype=np.int64)
    atoms, shifts = pairs.dst.max() + 1, pairs.shift.max() - pairs.shift.min() + 1.0
    rank = (pairs.dst * atoms + pairs.src) * shifts**3 + pairs.shift @ np.array([shifts**2, shifts, 1.0])
    rank[~edge] = np.inf
    return np.argsort(rank)[: np.count_nonzero(edge)]
