"""Acquisition functions: scores that say which candidates are worth a calculation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import FiniteFloat
from scipy.special import erfcx, ndtr

from zoo.contract.discovery import Acquisition
from zoo.contract.plugin import Hypers

SMALLEST = 1e-100
"""Standard deviation that is taken for one of zero: squares of what is divided by it are still finite numbers."""


class UpperConfidenceBoundHypers(Hypers):
    """Keys of `ucb`."""

    kappa: FiniteFloat = 1.5
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
    """Expected improvement over the best value so far, for members that are draws of a normal distribution.

    Jones, Schonlau, Welch, J. Glob. Optim. 13, 455 (1998), eq. (15), of which the score is the logarithm: far below the
    best the expectation itself is smaller than any number, and all candidates would be the same there. After Ament,
    Daulton, Eriksson, Balandat, Bakshy, "Unexpected improvements to expected improvement", NeurIPS 2023.
    """

    needs_ensemble: ClassVar[bool] = True
    needs_best: ClassVar[bool] = True

    def scores(self, values: np.ndarray, best: float | None, keys: Sequence[str], seed: int) -> np.ndarray:
        """log(σ h(z)), h(z) = φ(z) + z Φ(z), z = (μ - y*)/σ, y* the best so far.

        Members that agree leave μ - y* to expect or, below the best, nothing. Its logarithm would be -∞ whatever the
        mean: in its place is that of `SMALLEST`, a number below all others, and the higher the higher the mean.
        """
        assert best is not None  # needs_best
        sigma = np.maximum(spread(values), SMALLEST)
        return np.asarray(np.log(sigma) + log_improvement((values.mean(0) - best) / sigma))


def log_improvement(z: np.ndarray) -> np.ndarray:
    """log(φ(z) + z Φ(z)), φ and Φ of the standard normal distribution, to rounding for any z of up to 1e150.

    Where z is negative the two terms cancel: there φ is taken out, of which what remains is 1 - x for -1000 < z, and
    its asymptotic series beyond, where 1 - x cancels too.

    Args:
        z: (n,).

    Returns:
        (n,).
    """
    log_density = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
    near, below, far = np.maximum(z, -1), np.clip(-z, 1, 1000), np.maximum(-z, 1000)
    x = below * math.sqrt(math.pi / 2) * erfcx(below / math.sqrt(2))
    direct = np.log(np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * ndtr(near))
    series = np.log1p(-3 / far**2) - 2 * np.log(far)
    return np.where(z > -1, direct, log_density + np.where(z > -1000, np.log1p(-x), series))


def spread(values: np.ndarray) -> np.ndarray:
    """(n,) standard deviation over (members, n), ddof = 1; zero for a single member."""
    return values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
