"""Calibrated intervals from the spread of an ensemble, by split conformal prediction.

For a number y of a crystal, on the scale of `zoo.evaluation.quantities` that suits the target, with ŷ that of the
ensemble's mean tensor and σ its standard deviation over the members, the score is |y - ŷ| / (σ + floor). Of n
validation crystals the ⌈(n + 1)·level⌉-th smallest score q makes the interval ŷ ± q (σ + floor), which holds y for a
share `level` of crystals that are exchangeable with those (Vovk, Gammerman, Shafer, Algorithmic Learning in a Random
World, 2005; Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), section 5.2, for the scaled score). The validation part
has chosen the epoch, too, so the shares are measured on the test part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from zoo.contract.target import TensorTarget
from zoo.evaluation.quantities import TENSOR, ScaleKind, natural_scale, quantities

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)


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
    """Scales of all quantities of a target.

    Attributes:
        n: number of crystals that they were fitted to.
        scales: by the name of the quantity.
        kind: scale on which errors and spreads are measured (see `zoo.evaluation.quantities`).
    """

    n: int
    scales: Mapping[str, Scale]
    kind: ScaleKind = "linear"

    @classmethod
    def fit(
        cls, members: np.ndarray, true: np.ndarray, target: TensorTarget, kind: ScaleKind | None = None
    ) -> Calibration:
        """Fit the scales to predictions for crystals that no member was trained on: validation part, or out of fold.

        Args:
            members: predictions of two members at least, (members, n, *target.shape).
            true: true tensors, (n, *target.shape).
            target: the tensor that is predicted; if it is one tensor per atom, n counts atoms.
            kind: scale; None for the one that suits the target.
        """
        kind = natural_scale(target) if kind is None else kind
        scales: dict[str, Scale] = {}
        for name, of in quantities(target, kind).items():
            _, spread, error = of.measure(members, true)
            if len(error):
                floor = float(np.median(spread)) or 1e-12
                scores = np.sort((error / (spread + floor)).max(axis=1))
                ranks = {level: math.ceil((len(scores) + 1) * level) for level in LEVELS}
                scales[name] = Scale(floor, {k: float(scores[r - 1]) for k, r in ranks.items() if r <= len(scores)})
        return cls(len(true), scales, kind)

    def coverage(self, members: np.ndarray, true: np.ndarray, target: TensorTarget) -> dict[str, dict[str, Any]]:
        """Measure how often the truth lies within the intervals: arguments as in `fit`, crystals of another part.

        Returns:
            quantity -> `n`, the number of crystals for which it is defined; `levels` -> `covered`, the share of them,
            and `width`, the median full width (of a tensor: the radius).
        """
        found: dict[str, dict[str, Any]] = {}
        for name, scale in self.scales.items():
            quantity = quantities(target, self.kind)[name]
            centre, spread, error = quantity.measure(members, true)
            if not len(error):
                continue
            found[name] = {"n": len(error), "levels": {}}
            for level in scale.quantiles:
                half = scale.half_width(spread, level)
                assert half is not None
                width = quantity.width(centre, half)
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
            quantity = quantities(target, self.kind)[name]
            centre, spread = quantity.centre_and_spread(members[:, None])
            half = scale.half_width(spread, level)
            if half is None or not np.isfinite(centre + half).all():
                continue
            if name == TENSOR:
                radius = float(quantity.width(centre, half)[0, 0])
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
        return {"n": self.n, "kind": self.kind, "scales": scales}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], target: TensorTarget) -> Calibration:
        """Restore a calibration from `as_dict`; one without a kind, as models of format 4 and before have, is linear.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: the content is no calibration, or that of another target.
        """
        kind = content.get("kind", "linear")
        if kind not in get_args(ScaleKind):
            raise ValueError(f"no scale of calibration is called {kind}")
        unknown = content["scales"].keys() - quantities(target, kind).keys()
        if unknown:
            raise ValueError(f"'{target.name}' has no {', '.join(sorted(unknown))}")
        scales = {
            name: Scale(scale["floor"], {float(k): v for k, v in scale["quantiles"].items()})
            for name, scale in content["scales"].items()
        }
        return cls(content["n"], scales, kind)
