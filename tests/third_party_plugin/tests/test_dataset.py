"""`induced-dipoles`: the zoo's checks, and the formula against a crystal that can be summed by hand."""

from typing import ClassVar

import numpy as np
import pytest
from bond_polarisability import InducedDipoles, InducedDipolesHypers
from bond_polarisability.dataset import POLARISABILITY, permittivity
from pymatgen.core import Lattice, Structure

from zoo.testing import DatasetTests


class TestInducedDipoles(DatasetTests):
    dataset = InducedDipoles
    hypers: ClassVar = {"size": 40}


def test_a_cubic_crystal_has_no_interaction_left() -> None:
    """Rock salt: the sum over a cubic shell of 3 r̂r̂ᵀ - 1 vanishes, so ε = 1 + 4π (α_Na + α_Cl) / V."""
    salt = Structure(Lattice([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    alpha = POLARISABILITY["Na"] + POLARISABILITY["Cl"]
    expected = 1 + 4 * np.pi * alpha / salt.volume
    np.testing.assert_allclose(permittivity(salt, 5.0), expected * np.eye(3), atol=1e-12)
    assert expected == pytest.approx(2.07, abs=0.01)  # the measured ε∞ is 2.34, with the local field


def test_a_chain_polarises_along_itself() -> None:
    """Chlorine atoms 4 Å apart along z, 20 Å across: one shell of two, 4 α² f / r³ along z and half of that across."""
    chain = Structure(Lattice.orthorhombic(20, 20, 4.0), ["Cl"], [[0, 0, 0]])
    alpha, f = POLARISABILITY["Cl"], (1 - (4 / 5) ** 2) ** 2
    along = 1 + 4 * np.pi / chain.volume * (alpha + 4 * alpha**2 * f / 4**3)
    across = 1 + 4 * np.pi / chain.volume * (alpha - 2 * alpha**2 * f / 4**3)
    np.testing.assert_allclose(permittivity(chain, 5.0), np.diag([across, across, along]), atol=1e-12)


def test_another_seed_makes_other_crystals() -> None:
    first, second = (next(InducedDipoles(InducedDipolesHypers(seed=s)).records()) for s in (0, 1))
    assert not np.allclose(first.targets["point_dipole"], second.targets["point_dipole"])
