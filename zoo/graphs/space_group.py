"""Operations of the space group of a cell, and which atom each of them brings to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib

from zoo.graphs.crystal import Crystal

SYMPREC = 1e-3
"""Å within which atoms must come to lie on one another; of what is less symmetric, fewer operations are found."""


@dataclass(frozen=True)
class SpaceGroup:
    """Operations of the space group of a cell, pure translations of a supercell included, in its Cartesian frame.

    Attributes:
        rotations: (G, 3, 3) orthogonal matrices, r -> R r.
        moves: (G, N): the atom that operation g brings atom i to is `moves[g, i]`.
    """

    rotations: np.ndarray
    moves: np.ndarray

    @classmethod
    def of(cls, crystal: Crystal, symprec: float = SYMPREC) -> SpaceGroup:
        """Find the operations by spglib; the identity alone where it finds none."""
        fractions = np.linalg.solve(crystal.cell.T, crystal.positions.T).T
        cell: Any = (crystal.cell, fractions, crystal.numbers)
        identity = cls(np.eye(3)[None], np.arange(len(fractions))[None])
        try:
            found = spglib.get_symmetry(cell, symprec=symprec)
        except Exception:  # spglib's errors have several names; none of them forbids a calculation without symmetry
            return identity
        if found is None:
            return identity
        columns = crystal.cell.T
        left, _, right = np.linalg.svd(columns @ found["rotations"] @ np.linalg.inv(columns))
        moves = np.stack(
            [
                _moves(fractions, rotation, translation, columns)
                for rotation, translation in zip(found["rotations"], found["translations"], strict=True)
            ]
        )
        # Within the tolerance two atoms might be brought to one; such an operation is none.
        good = np.array([len(set(move)) == len(fractions) for move in moves.tolist()])
        return cls((left @ right)[good], moves[good])

    def average(self, matrix: np.ndarray) -> np.ndarray:
        """Mean of a (3N, 3N) matrix over all operations."""
        n = self.moves.shape[1]
        blocks = matrix.reshape(n, 3, n, 3)
        total = np.zeros_like(blocks)
        for rotation, move in zip(self.rotations, self.moves, strict=True):
            turned = np.einsum("ab,ibjc,dc->iajd", rotation, blocks, rotation, optimize=True)
            total[np.ix_(move, range(3), move, range(3))] += turned
        return total.reshape(3 * n, 3 * n) / len(self.moves)


def _moves(fractions: np.ndarray, rotation: np.ndarray, translation: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(N,) the atom nearest to where each atom is brought."""
    away = (fractions @ rotation.T + translation)[:, None] - fractions
    away -= np.rint(away)
    return np.linalg.norm(away @ columns.T, axis=2).argmin(axis=1)
