"""Crystals as a user may give them: pymatgen's Structure, ASE's Atoms, their dicts, or the path of a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ase import Atoms
from pymatgen.core import IStructure, Structure
from pymatgen.core.structure import SiteCollection

from zoo.data.crystal_files import one_crystal
from zoo.data.structures import MOLECULE, check_geometry, crystal_in, structure_from_atoms, structure_from_dict
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal

CrystalLike = Structure | IStructure | Atoms | Mapping[str, Any] | str | Path
_ONE = (SiteCollection, Atoms, Mapping, str, Path)
CLOSEST = 0.5  # Å; the shortest bond there is, H-H, has 0.74

DENSEST = 1.0
"""Smallest volume, Å³ per atom. Diamond has 5.7, hydrogen at 500 GPa some 1.3; in less, an atom has thousands of
neighbours."""


def is_one(crystals: object) -> bool:
    """Return whether an input is a single crystal rather than a collection (Structures and Atoms are iterable, too)."""
    return isinstance(crystals, _ONE) or not isinstance(crystals, Iterable)


def structure_of(crystal: CrystalLike) -> Structure:
    """Convert a crystal to a Structure in the Cartesian frame in which it is given.

    Raises:
        ZooError: a file that cannot be read; not periodic in three directions; an object of another kind.
    """
    if isinstance(crystal, str | Path):
        return one_crystal(str(crystal))
    if isinstance(crystal, Mapping):
        content = crystal_in(crystal)
        if content is None:
            raise ZooError("a dict of a crystal is what Structure.as_dict gives; this one has no 'lattice' and 'sites'")
        return structure_from_dict(content)
    if isinstance(crystal, Atoms):
        name = crystal.get_chemical_formula()
        if not crystal.cell.any():
            raise ZooError(f"{name} {MOLECULE}")
        if not crystal.pbc.all():
            raise ZooError(f"{name} is not periodic in all three directions: set pbc=True")
        try:
            return structure_from_atoms(crystal)
        except ZooError as error:
            raise ZooError(f"{name}: {error}") from None
    if isinstance(crystal, IStructure) and not isinstance(crystal, Structure):
        crystal = Structure.from_sites(crystal.sites)
    if isinstance(crystal, SiteCollection) and not isinstance(crystal, Structure):
        raise ZooError(f"{crystal.composition.reduced_formula} {MOLECULE}")
    if not isinstance(crystal, Structure):
        kind = type(crystal).__name__
        raise ZooError(f"a crystal is a pymatgen Structure, ASE Atoms, a dict, or the path of a file, not {kind}")
    if not len(crystal):
        raise ZooError("the structure has no atoms")
    name = crystal.composition.reduced_formula
    if not all(crystal.lattice.pbc):
        raise ZooError(f"{name} is not periodic in all three directions")
    try:
        check_geometry(crystal.lattice.matrix, crystal.frac_coords)
    except ZooError as error:
        raise ZooError(f"{name}: {error}") from None
    return crystal


def checked_crystal(structure: Structure, max_atoms: int) -> Crystal:
    """Return the positions, elements and cell for a graph, refusing crystals whose graph would be too large.

    Raises:
        ZooError: too many atoms, a partly occupied site, a lattice vector shorter than `CLOSEST`, or less than
            `DENSEST` an atom.
    """
    name = structure.composition.reduced_formula
    if len(structure) > max_atoms:
        raise ZooError(f"{name} has {len(structure):,} atoms, at most {max_atoms:,} are answered here")
    crystal = Crystal.of(structure)
    if min(structure.lattice.get_lll_reduced_lattice().abc) < CLOSEST:
        raise ZooError(too_close(name))
    if structure.volume < DENSEST * len(structure):
        share = structure.volume / len(structure)
        raise ZooError(f"{name}: {share:.2g} Å³ an atom is denser than matter; mend the structure (lengths are in Å)")
    return crystal


def too_close(name: str) -> str:
    """Return the error message for atoms that overlap."""
    return f"{name}: two atoms are less than {CLOSEST} Å apart; mend the structure"
