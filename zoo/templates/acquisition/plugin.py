"""An acquisition function: it scores each candidate by what an ensemble predicts for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from scipy.stats import norm

from zoo.api import Acquisition, Hypers


class MyPluginHypers(Hypers):
    """Keys that a recipe may give beside the name; anything else is refused with the nearest key."""

    margin: Annotated[float, Field(ge=0)] = 0.0
    """By so much the best so far must be surpassed, in the objective's unit."""


class MyPlugin(Acquisition):
    """Probability that a candidate surpasses the best so far, for members that are draws of a normal distribution."""

    Hypers = MyPluginHypers
    hypers: MyPluginHypers
    needs_ensemble: ClassVar[bool] = True
    needs_best: ClassVar[bool] = True

    def scores(self, values: np.ndarray, best: float | None, keys: Sequence[str], seed: int) -> np.ndarray:
        """(n,) of values (members, n), the highest first in line; each of its candidate alone."""
        assert best is not None  # needs_best
        above = values.mean(0) - (best + self.hypers.margin)
        spread = values.std(0, ddof=1)
        return np.asarray(norm.cdf(above / np.maximum(spread, 1e-12)))
