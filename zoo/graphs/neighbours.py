"""Periodic neighbour lists, exact for cells of any shape and size, by vesin's cell lists."""

from __future__ import annotations

import numpy as np
from vesin import NeighborList

from zoo.errors import ZooError

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

    Raises:
        ZooError: the cell has no volume, or a number is not finite (vesin would end the process with a signal).
    """
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ZooError("the cell or the positions hold a NaN or an infinity; correct the structure")
    if abs(np.linalg.det(cell)) < 1e-6:
        raise ZooError("the cell has no volume; correct its lattice vectors")
    finder = NeighborList(cutoff=cutoff, full_list=True)
    dst, src, shift = finder.compute(points=positions, box=cell, periodic=True, quantities="ijS", copy=True)
    order = np.argsort(dst, kind="stable")
    return src[order].astype(np.int64), dst[order].astype(np.int64), shift[order].astype(np.int64)
