"""Displacements of single atoms from which all force constants at Γ follow by symmetry.

A displacement of one atom along one direction gives a column of Φ, that of the forces on all atoms. Operations that
leave the atom in its place turn the direction into others, and operations that move it give the columns of the atoms
that it goes to: see Parlinski, Li, Kawazoe, Phys. Rev. Lett. 78, 4063 (1997).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.graphs.space_group import SpaceGroup

WELL_CONDITIONED = 0.3
"""Smallest singular value, of 1 at most, that the directions made of one displacement must have."""

_CANDIDATES = np.array(
    [
        *([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]),
        *([1, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1], [1, 2, 3], [3, 1, -2], [-2, 3, 1]),
    ],
    dtype=np.float64,
)
_CANDIDATES /= np.linalg.norm(_CANDIDATES, axis=1, keepdims=True)


@dataclass(frozen=True)
class Displacement:
    """One atom displaced along a direction.

    Attributes:
        atom: which.
        direction: (3,) of length 1.
        opposite: the operation that turns the direction into its opposite and leaves the atom in its place, None where
            there is none; the forces of the opposite displacement then follow by it.
    """

    atom: int
    direction: np.ndarray
    opposite: int | None


def displacements(group: SpaceGroup) -> list[Displacement]:
    """Choose displacements from which, by the operations of `group`, all force constants follow."""
    chosen = []
    for atom in np.unique(group.moves.min(axis=0)):
        site = np.flatnonzero(group.moves[:, atom] == atom)
        turned = np.einsum("gab,cb->cga", group.rotations[site], _CANDIDATES)  # (candidates, operations, 3)
        directions = np.zeros((0, 3))
        while not _spans(directions):
            together = [np.concatenate([directions, more]) for more in turned]
            best = int(np.argmax([_quality(each) for each in together]))
            directions = together[best]
            back = np.flatnonzero(np.abs(turned[best] + _CANDIDATES[best]).max(axis=1) < 1e-6)
            chosen.append(Displacement(int(atom), _CANDIDATES[best], int(site[back[0]]) if len(back) else None))
    return chosen


def _singular_values(directions: np.ndarray) -> np.ndarray:
    return np.linalg.svd(directions, compute_uv=False) / len(directions) ** 0.5 * 3**0.5


def _quality(directions: np.ndarray) -> float:
    """Larger the more dimensions are spanned, and the more evenly."""
    values = _singular_values(directions)
    spanned = values[values > 1e-3]
    return len(spanned) * 10 + float(spanned.min())


def _spans(directions: np.ndarray) -> bool:
    return len(directions) >= 3 and float(_singular_values(directions).min()) > WELL_CONDITIONED


def assemble(group: SpaceGroup, made: list[Displacement], columns: np.ndarray) -> np.ndarray:
    """Force constants (3N, 3N) from the columns that displacements gave.

    Args:
        group: the operations that `displacements` chose by.
        made: the displacements.
        columns: (displacements, N, 3), minus the derivative of the forces along each.
    """
    n = group.moves.shape[1]
    out = np.zeros((n, 3, n, 3))
    for atom in dict.fromkeys(one.atom for one in made):
        site = np.flatnonzero(group.moves[:, atom] == atom)
        rotations, moves = group.rotations[site], group.moves[site]
        directions, known = [], []
        for one, column in zip(made, columns, strict=True):
            if one.atom != atom:
                continue
            directions.append(rotations @ one.direction)  # (operations, 3)
            turned = np.empty((len(site), n, 3))
            turned[np.arange(len(site))[:, None], moves] = np.einsum("gab,nb->gna", rotations, column)
            known.append(turned)
        inverse = np.linalg.pinv(np.concatenate(directions))  # (3, M)
        block = np.einsum("cm,mna->nac", inverse, np.concatenate(known))  # (N, 3, 3): atom, its force; displacement
        for there in np.unique(group.moves[:, atom]):
            g = int(np.flatnonzero(group.moves[:, atom] == there)[0])
            rotation, move = group.rotations[g], group.moves[g]
            out[move, :, there, :] = np.einsum("ab,nbc,dc->nad", rotation, block, rotation)
    return out.reshape(3 * n, 3 * n)
