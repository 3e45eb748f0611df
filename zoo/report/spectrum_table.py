"""An infrared spectrum as columns of numbers."""

from __future__ import annotations

import numpy as np

from zoo.phonons.infrared import InfraredSpectrum
from zoo.report.phonon_figures import axis_words


def spectrum_columns(spectrum: InfraredSpectrum) -> dict[str, np.ndarray]:
    """Return the columns of a table with their units in the names: the wavenumber, then four of each axis that differs.

    Of each axis Re ε and Im ε of the field along it, the absorption coefficient, and the reflectivity at normal
    incidence, between 0 and 1.
    """
    columns = {"wavenumber (cm⁻¹)": spectrum.wavenumbers}
    for number in spectrum.distinct_axes():
        axis, words = spectrum.axes[number], axis_words(spectrum, number)
        along = spectrum.along(axis)
        columns |= {
            f"Re ε, {words}": along.real,
            f"Im ε, {words}": along.imag,
            f"absorption (cm⁻¹), {words}": spectrum.absorption(axis),
            f"reflectivity, {words}": spectrum.reflectivity(axis),
        }
    return columns
