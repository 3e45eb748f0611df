"""Space groups, crystal systems and point groups, by spglib, in the frame of the structure as it stands."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from pymatgen.core import Structure

from zoo.contract.plugin import Record

CRYSTAL_SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
_LAST_NUMBER = (2, 15, 74, 142, 167, 194, 230)

SYMPREC = 0.1
"""Tolerance, Å, with which the Materials Project assigns space groups: it gives all those of Petousis' table."""

_SAME_PLACE = 0.1
"""Å, more than an operation of a crystal misses an atom by, and less than atoms are apart."""

ENANTIOMORPHS = {78: 76, 95: 91, 96: 92, 145: 144, 153: 151, 154: 152, 170: 169, 172: 171, 179: 178, 181: 180, 213: 212}
"""Space group -> the group of the mirror image of its crystals, where this is another one, of lower number."""

_SpglibError: type[Exception] = getattr(spglib, "SpglibError", RuntimeError)  # raised from 2.7 on, None before


@dataclass(frozen=True)
class Symmetry:
    """Space group and point group of a crystal.

    Attributes:
        number: number of the space group, 1..230.
        rotations: (n, 3, 3), the operations of the point group, Cartesian, orthogonal, r -> R r.
    """

    number: int
    rotations: np.ndarray


def symmetry(structure: Structure, symprec: float = SYMPREC) -> Symmetry | None:
    """Return space group and point group; None where spglib finds none (atoms on top of one another, for instance)."""
    found = _found(structure, symprec)
    if found is None:
        return None
    lattice = structure.lattice.matrix
    if found.mapping_to_primitive.max() + 1 < len(structure):
        # Of a supercell spglib gives the operations that keep its lattice; those of the crystal keep the primitive one.
        cell: Any = (lattice, structure.frac_coords, structure.atomic_numbers)
        try:
            primitive: Any = spglib.standardize_cell(cell, to_primitive=True, no_idealize=True, symprec=symprec)
            smaller = None if primitive is None else spglib.get_symmetry_dataset(primitive, symprec=symprec)
        except _SpglibError:
            smaller = None
        if smaller is not None and smaller.number == found.number:
            found, lattice = smaller, np.asarray(primitive[0])
    columns = lattice.T  # r = columns @ x, and spglib's rotations W act as x -> W x
    operations = columns @ np.unique(found.rotations, axis=0) @ np.linalg.inv(columns)
    # A lattice is symmetric within symprec only: take the nearest orthogonal matrices.
    left, _, right = np.linalg.svd(operations)
    return Symmetry(int(found.number), left @ right)


def primitive_cell(structure: Structure, symprec: float = 1e-3) -> Structure:
    """Return a primitive cell in the Cartesian frame of the structure: itself, where it is one or spglib finds none."""
    found = _found(structure, symprec)
    if found is None or found.mapping_to_primitive.max() + 1 == len(structure):
        return structure
    cell: Any = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    try:
        primitive: Any = spglib.standardize_cell(cell, to_primitive=True, no_idealize=True, symprec=symprec)
    except _SpglibError:
        return structure
    return structure if primitive is None else Structure(primitive[0], primitive[2], primitive[1])


def primitive_atoms(structure: Structure, symprec: float = 1e-3) -> np.ndarray:
    """Number the atoms so that those which a lattice vector of the primitive cell brings to each other share one.

    Returns:
        (N,) int64, from zero on; all different in a primitive cell, and where spglib finds no symmetry.
    """
    found = _found(structure, symprec)
    numbers = np.arange(len(structure)) if found is None else np.asarray(found.mapping_to_primitive)
    return np.unique(numbers, return_inverse=True)[1]


def is_cubic(structure: Structure, symprec: float = 1e-3) -> bool:
    """Return whether a crystal is cubic at a tight tolerance: each symmetric tensor of rank 2 is isotropic."""
    found = _found(structure, symprec)
    return found is not None and crystal_system(int(found.number)) == "cubic"


def has_infrared_modes(structure: Structure, symprec: float = 1e-3) -> bool:
    """Return whether symmetry allows an optic mode at Γ that moves charge; the ionic tensor is zero where it does not.

    Such a mode transforms as a vector. How often the displacements of the atoms do, less the translations, is the mean
    over the operations R of the space group of χ(R)² (f(R) - 1): χ(R) is the trace of R, f(R) the number of atoms of
    the primitive cell that R leaves in their places. Where spglib finds no group, one is allowed.
    """
    primitive = primitive_cell(structure, symprec)
    found = _found(primitive, symprec)
    if found is None:
        return True
    at = primitive.frac_coords
    moved = np.einsum("gij,nj->gni", found.rotations, at) + found.translations[:, None] - at
    distances = np.linalg.norm((moved - np.round(moved)) @ primitive.lattice.matrix, axis=-1)
    fixed = (distances < _SAME_PLACE).sum(1)
    traces = np.trace(found.rotations, axis1=1, axis2=2)
    return bool((traces**2 * (fixed - 1)).sum() > 0)


def _found(structure: Structure, symprec: float) -> Any:
    """Return spglib's dataset, None where it finds nothing."""
    cell: Any = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    try:
        return spglib.get_symmetry_dataset(cell, symprec=symprec)
    except _SpglibError:
        return None


def rotated(tensor: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Apply each of (n, 3, 3) operations to a tensor of any rank, (n, *tensor.shape); R acts on each index."""
    turned = np.broadcast_to(tensor, (len(rotations), *tensor.shape))
    for _ in range(tensor.ndim):  # each turn takes the last index and puts it in front: after all, the order is back
        turned = np.einsum("nij,n...j->ni...", rotations, turned)
    return turned


def space_group(crystal: Record | Structure, symprec: float = SYMPREC) -> int | None:
    """Return the space-group number that the record holds, else spglib's; None where spglib finds none."""
    if isinstance(crystal, Record):
        known = crystal.properties.get("space_group")
        if isinstance(known, int) and not isinstance(known, bool) and 1 <= known <= 230:
            return known
        crystal = crystal.structure
    found = _found(crystal, symprec)
    return None if found is None else int(found.number)


def crystal_system(crystal: Record | Structure | int) -> str:
    """Return one of `CRYSTAL_SYSTEMS`, from a space-group number where there is one, else by spglib.

    Where spglib finds no symmetry at all, not even the identity, the crystal counts as triclinic.
    """
    number = crystal if isinstance(crystal, int) else space_group(crystal) or 1
    return CRYSTAL_SYSTEMS[bisect_left(_LAST_NUMBER, number)]
