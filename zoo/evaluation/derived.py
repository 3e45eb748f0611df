"""Scalars and axes derived from one tensor, such as eigenvalues and moduli; float64 numpy.

Which ones there are is the target's: a symmetric tensor of rank 2 has eigenvalues, an electronic dielectric tensor a
refractive index, an elastic stiffness the moduli of a polycrystal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.data.elasticity import moduli, to_voigt

NEAR_ZERO = 0.1
"""Threshold below which a dielectric tensor counts as zero.

A tensor whose Frobenius norm is no larger has no meaningful relative error, and one whose smallest eigenvalue is no
larger no meaningful anisotropy ratio: 25 % of it is 0.025, less than the DFPT of the tables is converged to. Electronic
and total tensors have at least the vacuum's 1; ionic ones vanish with the Born charges. Other quantities, in other
units, are compared with zero."""

_SAME_EIGENVALUE = 1e-4
"""Relative difference below which eigenvalues share their axes; predictions in float32 are good to 1e-5."""

Scalar = Callable[[np.ndarray], np.ndarray]
"""Function from tensors (n, *target.shape) to scalars (n,), NaN where the scalar is not defined."""


def is_symmetric_matrix(target: TensorTarget) -> bool:
    """Whether each tensor is a symmetric 3×3 matrix."""
    return target.rank == 2 and {ir.l for _, ir in target.irreps} == {0, 2}


def is_stiffness(target: TensorTarget) -> bool:
    """Whether each tensor is an elastic stiffness, by its quantity."""
    return target.rank == 4 and "elastic" in target.quantity


def least(target: TensorTarget) -> float:
    """Return the threshold up to which norms and eigenvalues count as zero."""
    return NEAR_ZERO if "dielectric" in target.quantity else 0.0


def lower_bound(target: TensorTarget) -> float | None:
    """Return what no eigenvalue of a tensor of this kind is below; None where there is no such bound.

    Static and optical permittivity are at least the vacuum's 1, what ions add to it is at least 0: both follow from the
    stability of the ground state. A quantity that is `dielectric` and no more may be either: the target's name tells.
    """
    kind = target.quantity.removesuffix("dielectric").strip()
    if not target.quantity.endswith("dielectric") or not is_symmetric_matrix(target):
        return None
    return 1.0 if (kind or target.name) in ("electronic", "total") else 0.0


def scalars(target: TensorTarget) -> dict[str, Scalar]:
    """Return the scalars of a target by name; each may be undefined for some tensors."""
    found: dict[str, Scalar] = {}
    if is_symmetric_matrix(target):
        found["anisotropy"] = lambda tensors: anisotropy(tensors, least(target))
    if target.quantity == "electronic dielectric":
        found["refractive_index"] = refractive_index
    if is_stiffness(target):
        found["bulk_modulus"] = lambda tensors: moduli(tensors)["bulk_modulus"]
        found["shear_modulus"] = lambda tensors: moduli(tensors)["shear_modulus"]
    return found


def describe(tensor: np.ndarray, target: TensorTarget) -> dict[str, Any]:
    """Derive what follows from one tensor, (*target.shape), of the target's index symmetry; ready for JSON.

    Returns:
        Of a symmetric (3, 3) tensor `eigenvalues`, ascending; `axes`, the rows are their unit vectors in the tensor's
        frame (see `principal_axes`); `polycrystalline`, tr/3; `anisotropy`, λ_max/λ_min, None where λ_min is near zero
        or negative; for the quantity "electronic dielectric" `refractive_index`, sqrt(tr/3), None where the trace is
        not positive. Of an elastic stiffness `voigt`, the 6×6 matrix, `bulk_modulus` and `shear_modulus`
        (Voigt-Reuss-Hill), None where it is not positive definite. Of others nothing.
    """
    tensor = np.asarray(tensor, dtype=np.float64)
    answer: dict[str, Any] = {}
    if is_symmetric_matrix(target):
        tensor = 0.5 * (tensor + tensor.T)
        answer["eigenvalues"] = np.linalg.eigvalsh(tensor).tolist()
        answer["axes"] = principal_axes(tensor).tolist()
        answer["polycrystalline"] = float(polycrystalline(tensor[None])[0])
    if is_stiffness(target):
        answer["voigt"] = to_voigt(tensor).tolist()
    for name, of in scalars(target).items():
        value = float(of(tensor[None])[0])
        answer[name] = None if np.isnan(value) else value
    return answer


def polycrystalline(tensors: np.ndarray) -> np.ndarray:
    """Return tr/3 of (n, 3, 3) tensors, (n,): the constant of a polycrystal without texture."""
    return np.trace(tensors, axis1=1, axis2=2) / 3


def anisotropy(tensors: np.ndarray, least: float) -> np.ndarray:
    """Return λ_max/λ_min of (n, 3, 3) tensors, (n,): NaN where λ_min is not above `least`."""
    smallest, _, largest = np.linalg.eigvalsh(tensors).T
    return np.divide(largest, smallest, out=np.full(len(smallest), np.nan), where=smallest > least)


def refractive_index(tensors: np.ndarray) -> np.ndarray:
    """Return sqrt(tr/3) of (n, 3, 3) tensors, (n,): NaN where the trace is not positive."""
    square = polycrystalline(tensors)
    return np.sqrt(square, out=np.full(len(square), np.nan), where=square > 0)


def principal_axes(tensor: np.ndarray) -> np.ndarray:
    """Return the unit eigenvectors of a symmetric tensor as rows, (3, 3), eigenvalues ascending, in a unique choice.

    Right-handed; the first component above 0.1 of the first axis and of the second (of the optic axis, where two
    eigenvalues coincide) is positive. Where two coincide, one of their axes lies in the plane of that optic axis and x
    (y, if the optic axis is near x); where all three do, the axes are x, y, z.
    """
    tensor = np.asarray(tensor, dtype=np.float64)
    values, columns = np.linalg.eigh(0.5 * (tensor + tensor.T))
    first, second, third = columns.T
    same = _SAME_EIGENVALUE * np.abs(values).max()
    lower, upper = values[1] - values[0] <= same, values[2] - values[1] <= same
    if lower and upper:
        return np.eye(3)
    if lower:
        third = _positive(third)
        first = _perpendicular(third)
        return np.stack([first, np.cross(third, first), third])
    first = _positive(first)
    second = _perpendicular(first) if upper else _positive(second)
    return np.stack([first, second, np.cross(first, second)])


def _positive(axis: np.ndarray) -> np.ndarray:
    """Return the axis or its opposite: the first component above a threshold, as the largest may not be unique."""
    return axis * np.sign(axis[np.abs(axis) > 0.1][0])


def _perpendicular(axis: np.ndarray) -> np.ndarray:
    """Return the unit vector perpendicular to a unit axis that is nearest x, or y where the axis is near x."""
    near = np.eye(3)[0 if abs(axis[0]) < 0.9 else 1]
    across = near - (near @ axis) * axis
    return across / np.linalg.norm(across)
