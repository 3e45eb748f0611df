"""Numbers of a tensor that get calibrated intervals, and the scale on which each is calibrated.

On the scale "linear" an interval of tr/3 or of an eigenvalue is y ± half-width. On the scale "log", that of dielectric
tensors, it is u ± half-width in

    u(y) = log(1 + max(y - b, 0)),    y = b + exp(max(u, 0)) - 1,

where no crystal is below b (`zoo.evaluation.derived.lower_bound`): with b = 1, of ε∞ and ε, u is the logarithm of the
eigenvalue itself, with b = 0, of ε0, that of 1 + ε0. So no end is below b, an error counts as a factor where the value
is large and as a difference where ε0 vanishes, and a prediction below b (as DTNet's may be) counts as b. The root of
the interval of tr/3 is that of a refractive index; the radius about a whole tensor y is in units of ‖y + (1 - b) 1‖_F.

On both scales ratios, indices and moduli are positive, and their intervals are those of a logarithm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.evaluation import derived

TENSOR = "tensor"
"""Name of the score of a whole tensor: the Frobenius norm of the error over that of the spread, free of the frame."""

ScaleKind = Literal["linear", "log"]
Function = Callable[[np.ndarray], np.ndarray]


def _same(values: np.ndarray) -> np.ndarray:
    return values


@dataclass(frozen=True)
class Quantity:
    """A quantity of a tensor that has intervals, of k numbers.

    Attributes:
        values: (n, *target.shape) -> (n, k), on the scale of calibration; NaN where it is not defined.
        back: the inverse of that scale.
    """

    values: Function
    back: Function = _same

    def ends(self, centre: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Return the ends of intervals in the quantity itself, (n, k, 2), from centre and half-width, (n, k)."""
        return self.back(np.stack([centre - half, centre + half], axis=-1))

    def width(self, centre: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Return the widths of intervals in the quantity itself, (n, k)."""
        return np.diff(self.ends(centre, half))[..., 0]

    def centre_and_spread(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values of the mean tensor and their spread over (members, n, *target.shape), (n, k)."""
        return self.values(members.mean(0)), np.stack([self.values(one) for one in members]).std(0, ddof=1)

    def error(self, members: np.ndarray, true: np.ndarray) -> np.ndarray:
        """Return by how much the mean tensor is off, (n, k)."""
        return np.abs(self.values(true) - self.values(members.mean(0)))

    def measure(self, members: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return centre, spread and error, (m, k), of the m crystals with a value for the truth and every member."""
        centre, spread = self.centre_and_spread(members)
        error = self.error(members, true)
        defined = np.isfinite(spread + error).all(axis=1)
        return centre[defined], spread[defined], error[defined]


@dataclass(frozen=True)
class WholeTensor(Quantity):
    """The tensor as a whole: error and spread are the norms over all components, (n, 1), in a unit of each crystal.

    Attributes:
        unit: (n, *target.shape) -> (n, 1), of the predicted tensors; it takes the place of a centre.
    """

    values: Function = lambda tensors: tensors.reshape(len(tensors), -1)
    unit: Function = lambda tensors: np.ones((len(tensors), 1))

    def width(self, centre: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Return the radius about each tensor, (n, 1)."""
        return half * centre

    def centre_and_spread(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the units of n crystals and the spread over (members, n, *target.shape) in these, (n, 1)."""
        unit = self.unit(members.mean(0))
        return unit, _norms(super().centre_and_spread(members)[1]) / unit

    def error(self, members: np.ndarray, true: np.ndarray) -> np.ndarray:
        """Return the norm of what the mean tensor is off by, (n, 1)."""
        return _norms(super().error(members, true)) / self.unit(members.mean(0))


def quantities(target: TensorTarget, kind: ScaleKind) -> dict[str, Quantity]:
    """Return the quantities that have intervals, for tensors of this target, on one of the two scales.

    Raises:
        ValueError: the scale is "log", and the target has no lower bound.
    """
    scale = _linear(target) if kind == "linear" else _above(target)
    # Ratios, indices and moduli are positive: an interval of their logarithm is one of a factor.
    for name, scalar in {} if target.per_atom else derived.scalars(target).items():
        back = _ratio if name == "anisotropy" else _exp
        scale.setdefault(name, Quantity(lambda tensors, scalar=scalar: np.log(scalar(tensors))[:, None], back))  # type: ignore[misc]
    return scale


def natural_scale(target: TensorTarget) -> ScaleKind:
    """Return the scale that suits a target: "log" where its eigenvalues have a lower bound."""
    return "linear" if target.per_atom or derived.lower_bound(target) is None else "log"


def _linear(target: TensorTarget) -> dict[str, Quantity]:
    found: dict[str, Quantity] = {TENSOR: WholeTensor()}
    if derived.is_symmetric_matrix(target) and not target.per_atom:
        found["polycrystalline"] = Quantity(_polycrystalline)
        found["eigenvalues"] = Quantity(np.linalg.eigvalsh)
    return found


def _above(target: TensorTarget) -> dict[str, Quantity]:
    """Return the quantities of a dielectric tensor on the logarithmic scale of the module's docstring."""
    bound = derived.lower_bound(target)
    if bound is None:
        raise ValueError(f"'{target.name}' has no lower bound")

    def scale(values: np.ndarray) -> np.ndarray:
        return np.log1p(np.maximum(values - bound, 0))

    def back(values: np.ndarray) -> np.ndarray:
        return bound + np.expm1(np.clip(values, 0, 20))

    def unit(tensors: np.ndarray) -> np.ndarray:
        return np.maximum(_norms((tensors + (1 - bound) * np.eye(3)).reshape(len(tensors), -1)), 1.0)

    found: dict[str, Quantity] = {
        TENSOR: WholeTensor(unit=unit),
        "polycrystalline": Quantity(lambda tensors: scale(_polycrystalline(tensors)), back),
        "eigenvalues": Quantity(lambda tensors: scale(np.linalg.eigvalsh(tensors)), back),
    }
    if "refractive_index" in derived.scalars(target):
        found["refractive_index"] = Quantity(found["polycrystalline"].values, lambda values: np.sqrt(back(values)))
    return found


def _polycrystalline(tensors: np.ndarray) -> np.ndarray:
    return derived.polycrystalline(tensors)[:, None]


def _norms(values: np.ndarray) -> np.ndarray:
    return np.linalg.norm(values, axis=1, keepdims=True)


def _exp(logarithm: np.ndarray) -> np.ndarray:
    """Exponentiate, clipped at e^±20: wider intervals mean nothing, and infinity is no JSON number."""
    return np.exp(np.clip(logarithm, -20, 20))


def _ratio(logarithm: np.ndarray) -> np.ndarray:
    """Convert to the ratio of largest to smallest eigenvalue; it is never below 1, nor is an interval."""
    return np.maximum(_exp(logarithm), 1.0)
