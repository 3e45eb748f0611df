"""The surface that shows a tensor: an ellipsoid, or Young's modulus over all directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.data.elasticity import smallest_eigenvalue, to_voigt
from zoo.evaluation.derived import is_stiffness, is_symmetric_matrix, principal_axes

ROWS, COLUMNS = 25, 48
"""Directions of a surface's grid: from pole to pole, and around; `assets/scene.js` has the same."""


@dataclass(frozen=True)
class Surface:
    """Surface that is drawn for one tensor, in the tensor's unit and Cartesian frame, about the origin.

    Attributes:
        matrix: (3, 3): a direction (x, y, z) of the grid is at radius·(x, y, z) @ matrix. Of an ellipsoid its rows are
            the principal axes, each as long as its eigenvalue.
        radii: (ROWS, COLUMNS), or None where all are 1.
        values: (3,) the eigenvalues, or None.
    """

    matrix: np.ndarray
    radii: np.ndarray | None
    values: np.ndarray | None

    @property
    def points(self) -> np.ndarray:
        """Points of the grid, (ROWS, COLUMNS, 3)."""
        scaled = grid() if self.radii is None else grid() * self.radii[..., None]
        return scaled @ self.matrix

    @property
    def lengths(self) -> np.ndarray:
        """Radii of these, (ROWS, COLUMNS)."""
        return np.linalg.norm(self.points, axis=-1)


def grid() -> np.ndarray:
    """Unit vectors, (ROWS, COLUMNS, 3), from one pole on z to the other."""
    down = np.linspace(0, np.pi, ROWS)[:, None]
    around = np.linspace(0, 2 * np.pi, COLUMNS, endpoint=False)
    parts = (np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down) * np.ones(COLUMNS))
    return np.stack(parts, axis=-1)


def surface_of(tensor: np.ndarray, target: TensorTarget) -> Surface | None:
    """The surface of a tensor, (*target.shape); None where there is nothing to draw (see `caption` for why).

    Of a symmetric (3, 3) tensor T the ellipsoid r = T·n over all unit vectors n. Of an elastic stiffness r = E(n) n,
    with Young's modulus E for a pull along n.
    """
    if target.per_atom or not np.isfinite(tensor).all():
        return None
    if is_symmetric_matrix(target):
        tensor = 0.5 * (tensor + tensor.T)
        values = np.linalg.eigvalsh(tensor)
        return Surface(principal_axes(tensor) * values[:, None], None, values)
    if is_stiffness(target) and smallest_eigenvalue(tensor[None])[0] > 0:
        return Surface(np.eye(3), young_modulus(tensor, grid().reshape(-1, 3)).reshape(ROWS, COLUMNS), None)
    return None


def young_modulus(stiffness: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(n,) of a positive definite stiffness (3, 3, 3, 3), for pulls along unit vectors (n, 3); in its unit.

    A stress σ = n⊗n makes the strain σ·S·σ along n. Voigt's inverse 6×6 matrix has the factors of shear in it already.
    """
    x, y, z = directions.T
    stress = np.stack([x * x, y * y, z * z, y * z, x * z, x * y], axis=1)
    return 1 / np.einsum("na,ab,nb->n", stress, np.linalg.inv(to_voigt(stiffness)), stress)


def caption(target: TensorTarget, surface: Surface | None) -> str:
    """One or two sentences: which surface is drawn, or why there is none."""
    if surface is None:
        if target.per_atom:
            return "This model predicts one tensor per atom: no surface is drawn."
        if is_stiffness(target):
            return "The predicted stiffness is not positive definite: Young's modulus is not defined, none is drawn."
        return f"Tensors {target.formula} have no ellipsoid: no surface is drawn."
    if surface.values is None:
        return (
            f"Surface: Young's modulus, r = E(n) n over all unit vectors n; "
            f"from {surface.lengths.min():.3g} to {surface.lengths.max():.3g} {target.unit}."
        )
    dielectric = "dielectric" in target.quantity
    symbol = "ε" if dielectric else "T"
    sentence = (
        f"Ellipsoid: the surface r = {symbol}·n over all unit vectors n"
        + (", the displacement D/ε₀ that a unit field makes in each direction" if dielectric else "")
        + ". Its semi-axes are the eigenvalues along the principal axes."
    )
    if (surface.values < 0).any():
        sentence += " An eigenvalue is negative: its absolute value is drawn."
    return sentence
