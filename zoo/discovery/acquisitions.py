"""Which candidates are worth a calculation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from scipy.stats import norm

from zoo.contract.discovery import Acquisition
from zoo.contract.plugin import Hypers


class UpperConfidenceBoundHypers(Hypers):
    """Keys of `ucb`."""

    kappa: float = 1.5
    """Weight of the standard deviation over the members; 1.5 is the DTNet paper's."""


class UpperConfidenceBound(Acquisition):
    """Mean plus κ standard deviations over the members: a(x) = μ + κσ, the DTNet paper's."""

    Hypers = UpperConfidenceBoundHypers
    hypers: UpperConfidenceBoundHypers
    needs_ensemble: ClassVar[bool] = True

    def scores(self, values: np.ndarray, best: float | None, keys: Sequence[str], seed: int) -> np.ndarray:
        """μ + κσ."""
        return np.asarray(values.mean(0) + self.hypers.kappa * spread(values))


class Greedy(Acquisition):
    """The mean over the members: what is believed to be best."""

    def scores(self, values: np.ndarray, best: float | None, keys: Sequence[str], seed: int) -> np.ndarray:
        """μ."""
        return values.mean(0)


class Random(Acquisition):
    """Any, to compare with; drawn from seed and key, so that the order of the candidates does not matter."""

    def scores(self, values: np.ndarray, best: float | None, keys: Sequence[str], seed: int) -> np.ndarray:
        """Uniform on [0, 1)."""
        digests = (hashlib.sha256(f"{seed} {key}".encode()).digest() for key in keys)
        return np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests])


class ExpectedImprovement(Acquisition):
    """How far it is expected to be above the best so far, taking the members for draws of a normal distribution.

    Jones, Schonlau, Welch, J. Glob. Optim. 13, 455 (1998), eq. (15).
    """

    needs_ensemble: ClassVar[bool] = True
    needs_best: ClassVar[bool] = True

    def scores(self, values: np.ndarray, best: float | None, keys: Sequence[str], seed: int) -> np.ndarray:
        """(μ - y*) Φ(z) + σ φ(z), z = (μ - y*)/σ, y* the best so far."""
        assert best is not None  # needs_best
        mean, sigma = values.mean(0), spread(values)
        above = mean - best
        z = np.divide(above, sigma, out=np.zeros_like(above), where=sigma > 0)
        expected = above * norm.cdf(z) + sigma * norm.pdf(z)
        return np.where(sigma > 0, expected, np.maximum(above, 0.0))  # members that agree leave nothing to expect


def spread(values: np.ndarray) -> np.ndarray:
    """(n,) standard deviation over (members, n), ddof = 1; zero for a single member."""
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
