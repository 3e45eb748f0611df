"""Ideal crystals of all 32 classes: what the conformance suite runs on.

Idealised coordinates, exact to rounding: a class of symmetry is met to 1e-15 Å, so that a tensor can be held to 1e-10.
They are oriented as crystal physics has it (Nye, Physical Properties of Crystals): z along c, y along b in the
monoclinic system, x, y, z along a, b, c in the orthorhombic one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import spglib
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.groups import SpaceGroup

Site = tuple[str, float, float, float]
SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")


@dataclass(frozen=True)
class Prototype:
    """An ideal crystal.

    Attributes:
        point_group: its class in international notation, as spglib writes it: `-42m`, `m-3m`, ...
        system: its crystal system, one of `SYSTEMS`.
        structure: in the standard orientation.
    """

    point_group: str
    system: str
    structure: Structure

    @functools.cached_property
    def rotations(self) -> np.ndarray:
        """(n, 3, 3) the operations of the point group of the structure as it is, Cartesian, improper ones too."""
        return point_operations(self.structure)


def point_operations(structure: Structure) -> np.ndarray:
    """(n, 3, 3) Cartesian orthogonal matrices of a structure's point group, from spglib."""
    lattice = structure.lattice.matrix
    cell = (lattice.tolist(), structure.frac_coords.tolist(), list(structure.atomic_numbers))
    symmetry = spglib.get_symmetry(cell, symprec=1e-5)
    if symmetry is None:
        raise ValueError(f"spglib finds no symmetry of {structure.formula}: do atoms overlap?")
    fractional = np.unique(symmetry["rotations"], axis=0)
    return np.einsum("ai,nab,bj->nij", lattice, fractional, np.linalg.inv(lattice).T)


@functools.cache
def prototypes() -> dict[str, Prototype]:
    """One prototype of each of the 32 classes, by point group."""
    return {point_group: _make(point_group, *row) for point_group, row in _TABLE.items()}


def _make(point_group: str, system: str, space_group: int, cell: tuple[float, ...], sites: list[Site]) -> Prototype:
    operations = [op.affine_matrix for op in SpaceGroup.from_int_number(space_group).symmetry_ops]
    species: list[str] = []
    coords: list[np.ndarray] = []
    for element, *xyz in sites:
        orbit = _orbit(np.array([*xyz, 1.0]), operations)
        species += [element] * len(orbit)
        coords += orbit
    return Prototype(point_group, system, Structure(_lattice(system, cell), species, coords))


def _orbit(point: np.ndarray, operations: list[np.ndarray]) -> list[np.ndarray]:
    """All images of a point; pymatgen's own orbits are rounded to 1e-10."""
    orbit: list[np.ndarray] = []
    for operation in operations:
        image = (operation @ point)[:3]
        if not any(np.abs((image - other) - np.round(image - other)).max() < 1e-6 for other in orbit):
            orbit.append(image)
    return orbit


def _lattice(system: str, cell: tuple[float, ...]) -> Lattice:
    """Å and degrees: a b c α β γ, a b c β, a b c, a c, a c, a c, a, from the triclinic to the cubic system.

    Set down component by component: cosines of 90° would leave 1e-16 where 0 is meant.
    """
    if system == "triclinic":
        return Lattice.from_parameters(*cell)
    if system == "monoclinic":
        a, b, c, beta = cell
        return Lattice([[a * np.sin(np.radians(beta)), 0, a * np.cos(np.radians(beta))], [0, b, 0], [0, 0, c]])
    if system in ("trigonal", "hexagonal"):
        a, c = cell
        return Lattice([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
    a, b, c = {1: cell * 3, 2: (cell[0], cell[0], cell[-1]), 3: cell}[len(cell)]
    return Lattice(np.diag([a, b, c]))


# Point group: system, space group, cell, one site of each orbit. Lengths are off round numbers, so that no shell of
# neighbours falls on a cutoff that somebody would choose.
_TABLE: dict[str, tuple[str, int, tuple[float, ...], list[Site]]] = {
    "1": ("triclinic", 1, (4.113, 4.787, 5.331, 83.0, 97.0, 104.0),
          [("Ti", 0.03, 0.11, 0.07), ("O", 0.42, 0.28, 0.31), ("Si", 0.71, 0.64, 0.66), ("O", 0.13, 0.71, 0.38)]),
    "-1": ("triclinic", 2, (4.213, 4.687, 5.431, 81.0, 98.0, 101.0), [("Ti", 0, 0, 0), ("O", 0.31, 0.24, 0.29)]),
    "2": ("monoclinic", 3, (4.913, 4.127, 5.233, 102.0), [("Ti", 0, 0, 0), ("O", 0.31, 0.23, 0.27)]),
    "m": ("monoclinic", 6, (4.113, 3.927, 5.233, 98.0),
          [("Ti", 0, 0, 0), ("O", 0.37, 0.5, 0.29), ("O", 0.52, 0, 0.21), ("Si", 0.61, 0.5, 0.67)]),
    "2/m": ("monoclinic", 10, (4.613, 3.427, 5.233, 103.0), [("Ti", 0, 0, 0), ("O", 0.31, 0.5, 0.23)]),
    "222": ("orthorhombic", 16, (5.413, 5.927, 6.533), [("Ti", 0, 0, 0), ("O", 0.19, 0.23, 0.16)]),
    "mm2": ("orthorhombic", 25, (3.913, 4.327, 5.133),
            [("Ti", 0, 0, 0), ("O", 0, 0.5, 0.11), ("O", 0.5, 0, 0.17), ("Ba", 0.5, 0.5, 0.54)]),
    "mmm": ("orthorhombic", 47, (3.913, 4.327, 5.133), [("Ti", 0, 0, 0), ("O", 0.5, 0, 0), ("O", 0, 0.5, 0.5)]),
    "4": ("tetragonal", 75, (5.113, 4.533), [("Ti", 0, 0, 0), ("O", 0.31, 0.17, 0.21), ("Si", 0.5, 0.5, 0.57)]),
    "-4": ("tetragonal", 81, (5.113, 4.733), [("Ti", 0, 0, 0), ("O", 0.29, 0.16, 0.23)]),
    "4/m": ("tetragonal", 83, (5.113, 3.733), [("Ti", 0, 0, 0), ("O", 0.34, 0.17, 0)]),
    "422": ("tetragonal", 89, (6.213, 5.733), [("Ti", 0, 0, 0), ("O", 0.29, 0.16, 0.23)]),
    "4mm": ("tetragonal", 99, (3.913, 4.333), [("Ba", 0, 0, 0), ("Ti", 0.5, 0.5, 0.53), ("O", 0.5, 0.5, 0.09),
                                               ("O", 0.5, 0, 0.61)]),
    "-42m": ("tetragonal", 111, (5.113, 4.933), [("Ti", 0, 0, 0), ("O", 0.22, 0.22, 0.24)]),
    "4/mmm": ("tetragonal", 136, (4.613, 2.967), [("Ti", 0, 0, 0), ("O", 0.305, 0.305, 0)]),
    "3": ("trigonal", 143, (5.113, 4.533), [("Ti", 0, 0, 0), ("O", 0.34, 0.09, 0.27), ("Si", 1 / 3, 2 / 3, 0.71)]),
    "-3": ("trigonal", 147, (5.113, 4.733), [("Ti", 0, 0, 0), ("O", 0.34, 0.09, 0.23)]),
    "32": ("trigonal", 154, (4.921, 5.417), [("Si", 0.47, 0, 2 / 3), ("O", 0.413, 0.267, 0.786)]),
    "3m": ("trigonal", 156, (3.513, 5.233), [("Ti", 0, 0, 0), ("O", 1 / 3, 2 / 3, 0.21), ("O", 2 / 3, 1 / 3, 0.83),
                                             ("Ba", 2 / 3, 1 / 3, 0.37)]),
    "-3m": ("trigonal", 164, (3.613, 5.833), [("Ti", 0, 0, 0), ("O", 1 / 3, 2 / 3, 0.241)]),
    "6": ("hexagonal", 168, (5.613, 4.533), [("Ti", 0, 0, 0), ("O", 0.36, 0.11, 0.23), ("Si", 1 / 3, 2 / 3, 0.61)]),
    "-6": ("hexagonal", 174, (5.113, 3.533), [("Ti", 0, 0, 0), ("O", 0.37, 0.09, 0), ("Si", 1 / 3, 2 / 3, 0.5)]),
    "6/m": ("hexagonal", 175, (6.113, 3.533), [("Ti", 0, 0, 0), ("O", 0.33, 0.08, 0)]),
    "622": ("hexagonal", 180, (5.003, 5.467), [("Si", 0.5, 0, 0), ("O", 0.207, 0.414, 0.5)]),
    "6mm": ("hexagonal", 186, (3.253, 5.213), [("Ti", 1 / 3, 2 / 3, 0), ("O", 1 / 3, 2 / 3, 0.389)]),
    "-6m2": ("hexagonal", 187, (2.913, 2.867), [("Ti", 0, 0, 0), ("O", 1 / 3, 2 / 3, 0.5)]),
    "6/mmm": ("hexagonal", 191, (3.213, 3.467), [("Ti", 0, 0, 0), ("O", 1 / 3, 2 / 3, 0.5)]),
    "23": ("cubic", 198, (4.517,), [("Ti", 0.137, 0.137, 0.137), ("Si", 0.842, 0.842, 0.842)]),
    "m-3": ("cubic", 205, (5.117,), [("Ti", 0, 0, 0), ("O", 0.385, 0.385, 0.385)]),
    "432": ("cubic", 212, (6.517,), [("Ba", 0.125, 0.125, 0.125), ("Si", 0.423, 0.423, 0.423)]),
    "-43m": ("cubic", 215, (4.817,), [("Ti", 0, 0, 0), ("O", 0.237, 0.237, 0.237)]),
    "m-3m": ("cubic", 221, (3.917,), [("Ba", 0, 0, 0), ("Ti", 0.5, 0.5, 0.5), ("O", 0.5, 0.5, 0)]),
}  # fmt: skip

# No symmetry; the four classes whose rotations alone demand less than their reflections; a chiral crystal.
VARIED = ("1", "m", "mm2", "-4", "-42m", "32")


def varied() -> list[Structure]:
    """The crystals of the classes in `VARIED`."""
    return [prototypes()[name].structure for name in VARIED]
