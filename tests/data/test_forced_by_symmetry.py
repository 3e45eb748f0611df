"""Infrared modes and cubic symmetry: where a tensor or a part of it is known without any model."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from zoo.data.symmetry import has_infrared_modes, is_cubic

SILICON = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])
SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
GRAPHITE = Structure.from_spacegroup(
    "P6_3/mmc", Lattice.hexagonal(2.46, 6.71), ["C", "C"], [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]]
)
TELLURIUM = Structure.from_spacegroup("P3_121", Lattice.hexagonal(4.45, 5.93), ["Te"], [[0.27, 0, 1 / 3]])
ARSENIC = Structure.from_spacegroup("R-3m", Lattice.hexagonal(3.76, 10.55), ["As"], [[0, 0, 0.227]])
IRON = Structure.from_spacegroup("Im-3m", Lattice.cubic(2.87), ["Fe"], [[0, 0, 0]])


@pytest.mark.parametrize(
    ("crystal", "infrared", "cubic"),
    [
        (SILICON, False, True),
        (SILICON.get_primitive_structure(), False, True),
        (IRON, False, True),
        (ARSENIC, False, False),
        (SALT, True, True),
        (GRAPHITE, True, False),
        (TELLURIUM, True, False),
    ],
    ids=["diamond", "primitive", "one atom", "arsenic", "salt", "graphite", "tellurium"],
)
def test_symmetry_tells_which_crystals_have_infrared_modes(crystal: Structure, infrared: bool, cubic: bool) -> None:
    """Some elements have: graphite A2u + E1u, tellurium A2 + E; arsenic (A1g + Eg) and diamond (T2g) have not."""
    assert has_infrared_modes(crystal) == infrared
    assert is_cubic(crystal) == cubic


def test_a_crystal_that_is_nearly_symmetric_is_not() -> None:
    moved = SILICON.copy()
    moved.translate_sites([0], np.array([0.01, 0, 0]), frac_coords=False)
    assert has_infrared_modes(moved)
    assert not is_cubic(moved)
