"""Force constants and Born charges of the primitive cell, from those of a cell that is a multiple of it."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Structure

from zoo.data.symmetry import primitive_atoms, primitive_cell


def primitive_part(
    structure: Structure, force_constants: np.ndarray, born: np.ndarray
) -> tuple[Structure, np.ndarray, np.ndarray]:
    """Return the primitive cell, its force constants at Γ and its Born charges, in the frame of the structure.

    At Γ of the primitive cell all images of an atom move together, so that its force constants are sums over the images
    of the second atom; modes of the larger cell in which they do not are at other points of the Brillouin zone, and
    make no part of the ionic tensor.

    Args:
        structure: a crystal with N atoms. Where it is a primitive cell all is returned as it is.
        force_constants: (3N, 3N), eV/Å².
        born: (N, 3, 3), e.

    Returns:
        The cell with n atoms, the first of each set of images; (3n, 3n); (n, 3, 3).
    """
    which = primitive_atoms(structure)
    small = primitive_cell(structure)
    n, atoms = len(small), len(structure)
    counts = np.bincount(which, minlength=n)
    if n == atoms or len(counts) != n or (counts != atoms // n).any():
        return structure, force_constants, born
    images = (which == np.arange(n)[:, None]).astype(np.float64)  # (n, N)
    blocks = force_constants.reshape(atoms, 3, atoms, 3)
    summed = np.einsum("pi,iajb,qj->paqb", images, blocks, images, optimize=True) * (n / atoms)
    charges = np.einsum("pi,iab->pab", images, born) * (n / atoms)
    first = [int(np.flatnonzero(which == number)[0]) for number in range(n)]
    cell = Structure(
        small.lattice,
        [structure[i].specie for i in first],
        [structure[i].coords for i in first],
        coords_are_cartesian=True,
    )
    return cell, summed.reshape(3 * n, 3 * n), charges
