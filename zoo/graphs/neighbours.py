"""Periodic neighbour lists, exact for cells of any shape and size, by vesin's cell lists."""

from __future__ import annotations

import numpy as np
from vesin import NeighborList

Edges = tuple[np.ndarray, np.ndarray, np.ndarray]


def neighbours(positions: np.ndarray, cell: np.ndarray, cutoff: float) -> Edges:
    """Directed edges between all atoms and images closer than `cutoff`.

    Args:
        positions: (N, 3) Å; atoms may lie outside the cell.
        cell: (3, 3) Å, lattice vectors as rows, of either handedness.
        cutoff: Å.

    Returns:
        src (E,), dst (E,), shift (E, 3), int64, sorted by dst: the edge runs from dst to
        `positions[src] + shift @ cell`. An atom's own images are among its neighbours, the atom itself is not.
    """
    finder = NeighborList(cutoff=cutoff, full_list=True)
    dst, src, shift = finder.compute(points=positions, box=cell, periodic=True, quantities="ijS", copy=True)
    order = np.argsort(dst, kind="stable")
    return src[order].astype(np.int64), dst[order].astype(np.int64), shift[order].astype(np.int64)
