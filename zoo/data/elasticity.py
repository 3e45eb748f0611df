"""Elastic stiffness: Voigt's 6×6 matrices and full tensors, and the moduli of a polycrystal.

Numpy and GPa throughout (any unit of pressure does). Voigt's order is xx, yy, zz, yz, xz, xy (Nye, Physical Properties
of Crystals, chapter VIII): C_αβ = C_ijkl without any factor, as holds for stiffnesses and not for compliances.
"""

from __future__ import annotations

import numpy as np

_FIRST = np.array([0, 1, 2, 1, 0, 0])
_SECOND = np.array([0, 1, 2, 2, 2, 1])
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Voigt's index of the pair (i, j)."""
_MANDEL = np.sqrt([1, 1, 1, 2, 2, 2])
"""Factors that make the 6×6 matrix isometric to the tensor: its inverse is the compliance, its eigenvalues are
those of the tensor as a map of symmetric strains."""


def from_voigt(matrices: np.ndarray) -> np.ndarray:
    """Convert stiffnesses from Voigt matrices (..., 6, 6) to tensors (..., 3, 3, 3, 3)."""
    return np.asarray(matrices)[..., _VOIGT[:, :, None, None], _VOIGT[None, None]]


def to_voigt(tensors: np.ndarray) -> np.ndarray:
    """Convert stiffnesses (..., 3, 3, 3, 3) to Voigt matrices (..., 6, 6), reading the elements with i ≤ j."""
    i, j = _FIRST[:, None], _SECOND[:, None]
    return np.asarray(tensors)[..., i, j, _FIRST[None], _SECOND[None]]


def _mandel(tensors: np.ndarray) -> np.ndarray:
    """Return symmetric (n, 6, 6) matrices in Mandel's notation."""
    matrices = to_voigt(np.asarray(tensors, dtype=np.float64)) * _MANDEL[:, None] * _MANDEL
    return 0.5 * (matrices + np.swapaxes(matrices, -1, -2))


def smallest_eigenvalue(tensors: np.ndarray) -> np.ndarray:
    """Return the smallest eigenvalue of stiffnesses (n, 3, 3, 3, 3), (n,): positive where the crystal is stable (Born).

    Mouhat, Coudert, Phys. Rev. B 90, 224104 (2014): all eigenvalues of the stiffness must be positive.
    """
    return np.linalg.eigvalsh(_mandel(tensors))[..., 0]


def moduli(tensors: np.ndarray) -> dict[str, np.ndarray]:
    """Return bulk and shear modulus of a polycrystal, the Voigt-Reuss-Hill averages, in the tensors' unit.

    Hill, Proc. Phys. Soc. A 65, 349 (1952): the mean of Voigt's value (uniform strain) and Reuss's (uniform stress).
    With C the stiffness and S the compliance, sums over repeated indices: K_V = C_iijj / 9, K_R = 1 / S_iijj,
    G_V = (3 C_ijij - C_iijj) / 30, G_R = 15 / (6 S_ijij - 2 S_iijj).

    Args:
        tensors: stiffnesses, (n, 3, 3, 3, 3), finite.

    Returns:
        `bulk_modulus` (n,) and `shear_modulus` (n,); both NaN where the tensor is not positive definite, since
        Reuss's average means nothing for a crystal that is not stable.
    """
    matrices = _mandel(tensors)
    stable = np.linalg.eigvalsh(matrices)[:, 0] > 0
    values = np.full((2, len(matrices)), np.nan)
    stiffness = matrices[stable]
    c_iijj, c_ijij = _invariants(stiffness)
    s_iijj, s_ijij = _invariants(np.linalg.inv(stiffness))
    values[0, stable] = 0.5 * (c_iijj / 9 + 1 / s_iijj)
    values[1, stable] = 0.5 * ((3 * c_ijij - c_iijj) / 30 + 15 / (6 * s_ijij - 2 * s_iijj))
    return {"bulk_modulus": values[0], "shear_modulus": values[1]}


def _invariants(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two linear invariants A_iijj and A_ijij, (n,) each, of tensors as (n, 6, 6) in Mandel's factors."""
    return matrices[:, :3, :3].sum((1, 2)), np.trace(matrices, axis1=1, axis2=2)
