"""Transverse and longitudinal modes along a direction, and how strong they are: a spectrum in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from zoo.phonons.infrared import longitudinal_modes, unit
from zoo.phonons.polar_modes import PolarModes


def oscillator_rows(
    polar: PolarModes, electronic: np.ndarray, direction: np.ndarray, labels: Sequence[str | None] | None = None
) -> list[dict[str, Any]]:
    """Tabulate the modes that are polar along a direction, softest first.

    Args:
        polar: transverse optic modes.
        electronic: ε∞, (3, 3).
        direction: (3,), Cartesian, of any length: that of the field, and of q for the longitudinal modes.
        labels: irreducible representations of the degenerate subspaces.

    Returns:
        Of each `transverse` and `longitudinal`, cm⁻¹, the k-th of one and the k-th of the other, between which the
        crystal reflects; `strength`, the part of q̂·ε0·q̂ of the transverse mode, which is its oscillator strength;
        `irrep` of that, None where it is not known.

    Raises:
        ZooError: as `zoo.phonons.infrared.longitudinal_modes`.
    """
    axis = unit(direction)
    strengths = np.einsum("a,gab,b->g", axis, polar.contributions, axis)
    upper = [float(wavenumber) for _, wavenumber in _along(longitudinal_modes(polar, electronic, axis), axis)]
    rows = []
    for lower, above in zip_longest(_along(polar, axis), upper):
        number, wavenumber = lower if lower is not None else (None, None)
        rows.append(
            {
                "transverse": wavenumber,
                "longitudinal": above,
                "strength": None if number is None else float(strengths[number]),
                "irrep": None if number is None or labels is None else labels[number],
            }
        )
    return rows


def _along(polar: PolarModes, axis: np.ndarray) -> list[tuple[int, float]]:
    """Numbers and wavenumbers of the degenerate subspaces that are polar along an axis."""
    strengths = (polar.charges @ axis) ** 2
    return [
        (number, float(polar.modes.wavenumbers[which].mean()))
        for number, which in enumerate(polar.modes.subspaces)
        if polar.is_polar(strengths[which].sum()).any()
    ]
