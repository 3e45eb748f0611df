"""The surface that shows a tensor: an ellipsoid, or Young's modulus over all directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.data.elasticity import smallest_eigenvalue, to_voigt
from zoo.evaluation.derived import is_stiffness, is_symmetric_matrix, principal_axes
from zoo.ui.shapes import Shape, sphere

CORNERS = 1200


@dataclass(frozen=True)
class Surface:
    """Surface that is drawn for one tensor, in the tensor's unit and Cartesian frame, about the origin.

    Attributes:
        shape: the surface itself.
        axes: (3, 3), the rows are the principal axes, each as long as its eigenvalue; None where there are none.
        values: (3,) the eigenvalues, or None.
    """

    shape: Shape
    axes: np.ndarray | None
    values: np.ndarray | None


def surface_of(tensor: np.ndarray, target: TensorTarget) -> Surface | None:
    """The surface of a tensor, (*target.shape); None where there is nothing to draw (see `caption` for why).

    Of a symmetric (3, 3) tensor T the ellipsoid r = T·n over all unit vectors n. Of an elastic stiffness r = E(n) n,
    with Young's modulus E for a pull along n.
    """
    if target.per_atom or not np.isfinite(tensor).all():
        return None
    ball = sphere(CORNERS)
    if is_symmetric_matrix(target):
        tensor = 0.5 * (tensor + tensor.T)
        axes = principal_axes(tensor)
        values = np.linalg.eigvalsh(tensor)
        return Surface(Shape(ball.points @ tensor, ball.faces), axes * values[:, None], values)
    if is_stiffness(target) and smallest_eigenvalue(tensor[None])[0] > 0:
        return Surface(Shape(ball.points * young_modulus(tensor, ball.points)[:, None], ball.faces), None, None)
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
            f"from {np.linalg.norm(surface.shape.points, axis=1).min():.3g} to "
            f"{np.linalg.norm(surface.shape.points, axis=1).max():.3g} {target.unit}."
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
