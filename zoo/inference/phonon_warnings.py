"""Reasons not to trust an ionic tensor, from the force constants that it rests on."""

from __future__ import annotations

import numpy as np

from zoo.inference.doubt import Doubt
from zoo.inference.raw_answers import Response
from zoo.phonons.force_constants import LARGE_FORCE, SOFT, USUAL_PRESSURE, ForceConstants
from zoo.phonons.polar_modes import share_along

MUCH = 0.25
"""Share of tr ε0 from which on soft or imaginary modes are warned of: the tensor then rests on the model's correction
of a stiffness that the potential does not know."""

APART = 0.25
"""Half the difference of the largest and the smallest tr ε0 by several potentials, relative to their mean, that is
warned of."""


def phonon_warnings(
    found: ForceConstants,
    response: Response | None = None,
    by_potential: np.ndarray | None = None,
) -> list[Doubt]:
    """Say in one line each what makes an ionic tensor doubtful.

    A soft mode that is not polar is no reason, so the modes count by their share in ε0. They are the potential's:
    the model's correction makes all of them stable.

    Args:
        found: force constants of the potential, or the mean of several.
        response: Born charges and corrected force constants of the model; None where it does not tell them, and all
            soft modes are warned of.
        by_potential: ε0 by each of several potentials alone, (P, 3, 3).
    """
    out = []
    if found.largest_force > LARGE_FORCE:
        out.append(
            Doubt(
                "force",
                f"the potential has a force of {found.largest_force:.2f} eV/Å on an atom: the structure is not at rest "
                "in it, and its force constants are uncertain",
            )
        )
    least, most = USUAL_PRESSURE
    if found.pressure < least or found.pressure > most:  # neither where it is not known
        kind = "compressed" if found.pressure > 0 else "stretched"
        words = f"the potential has a pressure of {found.pressure:.0f} GPa: the cell is {kind}, or lengths are not in Å"
        out.append(Doubt("pressure", words))
    out += _soft_modes(found, response)
    if by_potential is not None and len(by_potential) > 1:
        traces = np.trace(by_potential, axis1=1, axis2=2) / 3
        half = float(np.ptp(traces)) / 2
        if half > APART * float(np.abs(traces).mean()) and half > 0:
            each = ", ".join(f"{trace:.2f}" for trace in traces)
            out.append(
                Doubt(
                    "potentials disagree",
                    f"the potentials disagree on the ionic tensor: its tr/3 is {each} by the modes of each alone",
                )
            )
    return out


def _soft_modes(found: ForceConstants, response: Response | None) -> list[Doubt]:
    softest = found.softest
    if softest is None or softest >= SOFT:
        return []
    if response is None:
        kind = "imaginary" if softest < 0 else "very soft"
        words = f"the potential has {kind} modes ({softest:.3f} eV/Å²): the ionic tensor is uncertain"
        return [Doubt("soft modes", words)]
    # Rigid translations lie among the soft ones at zero; they carry nothing.
    for kind, below in (("imaginary", -1e-6), ("very soft or imaginary" if softest < 0 else "very soft", SOFT)):
        share = share_along(response.force_constants, response.born, found.eigenvectors[:, found.eigenvalues < below])
        if share > MUCH:
            words = (
                f"{100 * share:.0f} % of the ionic tensor comes from modes that are {kind} in the potential (lowest "
                f"{softest:.3f} eV/Å²): it rests on the model's correction of them"
            )
            return [Doubt("soft modes", words)]
    return []
