"""Zeros as zeros in tensors, and numbers for JSON with six significant digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

NOISE = 1e-5
"""Size, relative to the largest component of a tensor, up to which another is the rounding of float32: predictions are
good to so much, and components that symmetry forbids come out as some 1e-7 of the others."""

_DIGITS = 6


def plain(content: Any, least: float = 0.0) -> Any:
    """Convert numbers, arrays, lists and mappings of them to JSON values; what is smaller than `least` becomes 0."""
    if isinstance(content, Mapping):
        return {name: plain(value, least) for name, value in content.items()}
    if isinstance(content, np.ndarray):
        return plain(content.tolist(), least)
    if isinstance(content, list | tuple):
        return [plain(value, least) for value in content]
    if isinstance(content, float | np.floating):
        value = float(content)
        return 0.0 if abs(value) < least else float(f"{value:.{_DIGITS}g}") + 0.0  # + 0.0: there is a -0.0
    return content


def noise_of(tensor: np.ndarray) -> float:
    """Return the size up to which components of a tensor are noise; those of a small one have their own."""
    return NOISE * float(np.abs(tensor).max(initial=0.0))


def without_noise(tensor: np.ndarray) -> np.ndarray:
    """Return a tensor with zeros for what is noise in it."""
    return np.where(np.abs(tensor) < noise_of(tensor), np.zeros_like(tensor), tensor)
