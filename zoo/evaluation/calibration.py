"""Calibrated intervals from the spread of an ensemble, by split conformal prediction.

For a number y of a crystal, with ŷ that of the ensemble's mean tensor and σ its standard deviation over the members,
the score is |y - ŷ| / (σ + floor). Of n validation crystals the ⌈(n + 1)·level⌉-th smallest score q makes the interval
ŷ ± q (σ + floor), which holds y for a share `level` of crystals that are exchangeable with those (Vovk, Gammerman,
Shafer, Algorithmic Learning in a Random World, 2005; Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), section 5.2, for
the scaled score). The validation part has chosen the epoch, too, so the shares are measured on the test part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.evaluation import derived

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
TENSOR = "tensor"
"""Name of the score of a whole tensor: the Frobenius norm of the error over that of the spread, free of the frame."""


@dataclass(frozen=True)
class Scale:
    """Conversion of the spread of one quantity into the half-width of an interval.

    Attributes:
        floor: added to the spread, so that members which happen to agree give no interval of width zero; the median
            spread of the validation part.
        quantiles: level -> that of the scores; levels for which there are too few crystals are missing.
    """

    floor: float
    quantiles: Mapping[float, float]

    def half_width(self, spread: np.ndarray, level: float) -> np.ndarray | None:
        """Return half-widths in the shape of `spread`; None where there is no quantile of that level."""
        return self.quantiles[level] * (spread + self.floor) if level in self.quantiles else None


@dataclass(frozen=True)
class Calibration:
    """Scales of all quantities of a target, and the number n of crystals that they were fitted to."""

    n: int
    scales: Mapping[str, Scale]

    @classmethod
    def fit(cls, members: np.ndarray, true: np.ndarray, target: TensorTarget) -> Calibration:
        """Fit the scales to predictions for the validation part.

        Args:
            members: predictions of two members at least, (members, n, *target.shape).
            true: true tensors, (n, *target.shape).
            target: the tensor that is predicted; if it is one tensor per atom, n counts atoms.
        """
        scales: dict[str, Scale] = {}
        for name, of in quantities(target).items():
            _, spread, error = of.measure(members, true)
            if len(error):
                floor = float(np.median(spread)) or 1e-12
                scores = np.sort((error / (spread + floor)).max(axis=1))
                ranks = {level: math.ceil((len(scores) + 1) * level) for level in LEVELS}
                scales[name] = Scale(floor, {k: float(scores[r - 1]) for k, r in ranks.items() if r <= len(scores)})
        return cls(len(true), scales)

    def coverage(self, members: np.ndarray, true: np.ndarray, target: TensorTarget) -> dict[str, dict[str, Any]]:
        """Measure how often the truth lies within the intervals: arguments as in `fit`, crystals of another part.

        Returns:
            quantity -> `n`, the number of crystals for which it is defined; `levels` -> `covered`, the share of them,
            and `width`, the median full width (of a tensor: the radius).
        """
        found: dict[str, dict[str, Any]] = {}
        for name, scale in self.scales.items():
            quantity = quantities(target)[name]
            centre, spread, error = quantity.measure(members, true)
            if not len(error):
                continue
            found[name] = {"n": len(error), "levels": {}}
            for level in scale.quantiles:
                half = scale.half_width(spread, level)
                assert half is not None
                width = half if quantity.whole else np.diff(quantity.ends(centre, half))
                covered = float((error <= half).all(axis=1).mean())
                found[name]["levels"][str(level)] = {"covered": covered, "width": float(np.median(width))}
        return found

    def intervals(
        self, members: np.ndarray, target: TensorTarget, level: float
    ) -> tuple[dict[str, list[Any]], float | None]:
        """Compute one crystal's intervals by name and its tensor's radius, from (members, *target.shape).

        What is undefined for it, or for one of its members, has no interval.
        """
        found: dict[str, list[Any]] = {}
        radius = None
        for name, scale in self.scales.items():
            quantity = quantities(target)[name]
            centre, spread = quantity.centre_and_spread(members[:, None])
            half = scale.half_width(spread, level)
            if half is None or not np.isfinite(centre + half).all():
                continue
            if quantity.whole:
                radius = float(half[0, 0])
            else:
                ends = quantity.ends(centre, half)[0]
                found[name] = ends.tolist() if len(ends) > 1 else ends[0].tolist()
        return found, radius

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        scales = {
            name: {"floor": scale.floor, "quantiles": {str(k): v for k, v in scale.quantiles.items()}}
            for name, scale in self.scales.items()
        }
        return {"n": self.n, "scales": scales}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], target: TensorTarget) -> Calibration:
        """Restore a calibration from `as_dict`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: the content is no calibration, or that of another target.
        """
        unknown = content["scales"].keys() - quantities(target).keys()
        if unknown:
            raise ValueError(f"'{target.name}' has no {', '.join(sorted(unknown))}")
        scales = {
            name: Scale(scale["floor"], {float(k): v for k, v in scale["quantiles"].items()})
            for name, scale in content["scales"].items()
        }
        return cls(content["n"], scales)


@dataclass(frozen=True)
class Quantity:
    """A quantity that has intervals.

    Attributes:
        values: (n, *target.shape) -> (n, k), NaN where it is not defined.
        whole: the k components together have one error and one spread (their norms) in place of one each.
        back: the inverse of the scale on which `values` are calibrated (the exponential of a logarithm, say).
    """

    values: Callable[[np.ndarray], np.ndarray]
    whole: bool = False
    back: Callable[[np.ndarray], np.ndarray] = lambda values: values

    def ends(self, centre: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Return the ends of intervals in the quantity itself, (n, k, 2), from centre and half-width, (n, k)."""
        return self.back(np.stack([centre - half, centre + half], axis=-1))

    def centre_and_spread(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values (n, k) of the mean tensor and spread over (members, n, *shape): (n, k), for a whole (n, 1)."""
        spread = np.stack([self.values(member) for member in members]).std(0, ddof=1)
        return self.values(members.mean(0)), self._norm(spread)

    def measure(self, members: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return centre, spread and error, (m, k), of the m crystals with a value for the truth and every member."""
        centre, spread = self.centre_and_spread(members)
        error = self._norm(np.abs(self.values(true) - centre))
        defined = np.isfinite(spread + error).all(axis=1)
        return centre[defined], spread[defined], error[defined]

    def _norm(self, values: np.ndarray) -> np.ndarray:
        return np.linalg.norm(values, axis=1, keepdims=True) if self.whole else values


def quantities(target: TensorTarget) -> dict[str, Quantity]:
    """Return the quantities that have intervals, for tensors of this kind."""
    found = {TENSOR: Quantity(lambda tensors: tensors.reshape(len(tensors), -1), whole=True)}
    if target.per_atom:
        return found
    if derived.is_symmetric_matrix(target):
        found["polycrystalline"] = Quantity(lambda tensors: derived.polycrystalline(tensors)[:, None])
        found["eigenvalues"] = Quantity(np.linalg.eigvalsh)
    # Ratios, indices and moduli are positive: an interval of their logarithm is one of a factor.
    for name, scalar in derived.scalars(target).items():
        back = _ratio if name == "anisotropy" else _exp
        found[name] = Quantity(lambda tensors, scalar=scalar: np.log(scalar(tensors))[:, None], back=back)  # type: ignore[misc]
    return found


def _exp(logarithm: np.ndarray) -> np.ndarray:
    """Exponentiate, clipped at e^±20: wider intervals mean nothing, and infinity is no JSON number."""
    return np.exp(np.clip(logarithm, -20, 20))


def _ratio(logarithm: np.ndarray) -> np.ndarray:
    """Convert to the ratio of largest to smallest eigenvalue; it is never below 1, nor is an interval."""
    return np.maximum(_exp(logarithm), 1.0)
