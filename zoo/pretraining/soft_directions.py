"""Displacements that look at the soft modes of a crystal: what its force constants are asked about."""

from __future__ import annotations

import numpy as np

from zoo.phonons.force_constants import ForceConstants

FARTHEST = 2.0
"""The largest displacement of an atom, in units of the step: where one would go farther, the step is shortened."""


def soft_direction(constants: ForceConstants, softness: float, random: np.random.Generator) -> np.ndarray:
    """(N, 3) v = Σ c_m u_m (|λ_m| + s)^(-1/2), c_m standard normal, without its rigid translation, |v|² = N.

    An error of Φ matters as 1/λ: drawn evenly, v would be spent on the stiff modes.

    Args:
        constants: eigenvalues λ_m and eigenvectors u_m, without masses, of a cell of at least two atoms.
        softness: s, eV/Å².
        random: draws the c_m.
    """
    weights = (np.abs(constants.eigenvalues) + softness) ** -0.5
    v = (constants.eigenvectors @ (random.normal(size=len(weights)) * weights)).reshape(-1, 3)
    v -= v.mean(axis=0)
    return v * (len(v) / np.square(v).sum()) ** 0.5


def step_along(v: np.ndarray, step: float) -> float:
    """Å: the step, shortened so that no atom moves farther than `FARTHEST` times it."""
    return step / max(1.0, float(np.linalg.norm(v, axis=1).max()) / FARTHEST)
