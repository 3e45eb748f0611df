"""Constants between the units of a potential (eV, Å, u, e) and those of a spectrum, from scipy's CODATA table."""

from __future__ import annotations

import math

from scipy import constants

COULOMB = constants.e / (4 * math.pi * constants.epsilon_0) * 1e10
"""Energy of two charges e at a distance of 1 Å, e²/(4π ε_vacuum): 14.399645 eV Å."""

TO_THZ = math.sqrt(constants.e / constants.atomic_mass) / (2 * math.pi) * 1e-2
"""Frequency of a mode whose eigenvalue is 1 eV/(Å² u): 15.633304 THz. With phonopy's constants, those of 1986, it is
15.633302 THz."""

TO_WAVENUMBER = TO_THZ * 1e12 / (100 * constants.c)
"""Wavenumber of the same mode: 521.4709 cm⁻¹."""
