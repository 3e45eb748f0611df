"""Irreducible representations of modes at Γ, by phonopy's character tables."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from pymatgen.core import Structure

from zoo.phonons.modes import GammaModes, without_translations

SYMPREC = 1e-3
"""Å, within which the space group is looked for: what four digits in a CIF leave."""
_OVERLAP = 0.9


def irrep_labels(modes: GammaModes, structure: Structure, symprec: float = SYMPREC) -> list[str | None]:
    """Label the degenerate subspaces of `modes` by Mulliken symbols, such as `A2u`.

    phonopy (A. Togo, J. Phys. Soc. Jpn. 92, 012001 (2023)) looks for the space group, symmetrises the dynamical matrix
    and divides the modes into irreducible ones; a subspace of ours is what it overlaps with. Two that coincide by
    accident are `A1+E`.

    Args:
        modes: of this structure, the atoms in its order.
        structure: a primitive cell. One of another size has no labels: its modes at Γ are not all at Γ of the crystal.
        symprec: tolerance of the space group, Å.

    Returns:
        A label for each of `modes.subspaces`; None where there is none: no primitive cell, a mode that is not symmetric
        within a tenth, or phonopy is not installed.
    """
    nothing: list[str | None] = [None] * len(modes.subspaces)
    if not modes.subspaces or find_spec("phonopy") is None:
        return nothing
    found = _of_phonopy(modes, structure, symprec)
    if found is None:
        return nothing
    sets, labels, vectors = found
    named: list[list[str | None]] = [[] for _ in modes.subspaces]
    covered = [0] * len(modes.subspaces)
    for bands, label in zip(sets, labels, strict=True):
        overlaps = np.linalg.norm(modes.eigenvectors.T @ vectors[:, bands], axis=1) ** 2
        inside = np.array([overlaps[which].sum() for which in modes.subspaces]) / len(bands)
        best = int(inside.argmax())
        if inside[best] > _OVERLAP:
            named[best].append(label)
            covered[best] += len(bands)
    whole = [which.stop - which.start for which in modes.subspaces]
    return [
        "+".join(sorted(filter(None, names))) if None not in names and count == size else None
        for names, count, size in zip(named, covered, whole, strict=True)
    ]


def _of_phonopy(
    modes: GammaModes, structure: Structure, symprec: float
) -> tuple[Sequence[Sequence[int]], Sequence[str | None], np.ndarray] | None:
    """Return phonopy's sets of bands, their labels and its eigenvectors (3N, 3N); None where it finds no symmetry."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        numbers=list(structure.atomic_numbers),
        masses=modes.masses,
        scaled_positions=structure.frac_coords,
        cell=structure.lattice.matrix,
    )
    try:
        phonons = Phonopy(cell, supercell_matrix=np.eye(3, dtype=int), primitive_matrix=np.eye(3), symprec=symprec)
        phonons.force_constants = _force_constants(modes)
        irreps = phonons.run_irreps([0, 0, 0], symmetry_adapted=True)
    except Exception:  # a cell that is not primitive, no symmetry at all; phonopy and spglib raise what they like
        return None
    # phonopy prints the labels, or writes them into a file; there is no other public way to them.
    return irreps.band_indices, irreps._ir_labels or [None] * len(irreps.band_indices), irreps.eigenvectors


def _force_constants(modes: GammaModes) -> np.ndarray:
    """Return Φ of the modes in phonopy's layout, (N, N, 3, 3), eV/Å²."""
    atoms = len(modes.masses)
    weighted = modes.eigenvectors * np.repeat(np.sqrt(modes.masses), 3)[:, None]
    matrix = without_translations(weighted * modes.eigenvalues @ weighted.T)
    return np.ascontiguousarray(matrix.reshape(atoms, 3, atoms, 3).transpose(0, 2, 1, 3))
