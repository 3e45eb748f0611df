"""The primitive cell of a structure, in its own Cartesian frame."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from zoo.data.symmetry import primitive_cell


@pytest.fixture
def salt() -> Structure:
    turn = Rotation.random(rng=1).as_matrix()
    return Structure(
        5.64 * turn,
        ["Na"] * 4 + ["Cl"] * 4,
        [
            [0, 0, 0],
            [0, 0.5, 0.5],
            [0.5, 0, 0.5],
            [0.5, 0.5, 0],
            [0.5, 0.5, 0.5],
            [0.5, 0, 0],
            [0, 0.5, 0],
            [0, 0, 0.5],
        ],
    )


def test_it_is_not_turned(salt: Structure) -> None:
    found = primitive_cell(salt)
    assert sorted(site.specie.symbol for site in found) == ["Cl", "Na"]
    assert found.volume == pytest.approx(salt.volume / 4)
    # Lattice vectors of the primitive cell are vectors between like atoms of the given one.
    halves = 2 * found.lattice.matrix @ np.linalg.inv(salt.lattice.matrix)
    assert halves == pytest.approx(np.rint(halves), abs=1e-8)


def test_a_primitive_cell_stays_as_it_is() -> None:
    crystal = Structure(Lattice.orthorhombic(3, 4, 5), ["Na", "Cl"], [[0.1, 0, 0], [0.5, 0.4, 0.3]])
    assert primitive_cell(crystal) is crystal
