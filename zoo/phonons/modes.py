"""Normal modes at Γ from force constants and masses, without the macroscopic field: the optic ones, transverse.

Of the 3N modes three are rigid translations, at zero by the acoustic sum rule. They are taken out by projection: the
dynamical matrix is diagonalised in the 3N-3 dimensions orthogonal to them, so that an optic mode which is as soft, or
imaginary, is neither taken for one of them nor mixed with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from pymatgen.core import Structure

from zoo.errors import ZooError
from zoo.phonons.units import TO_THZ, TO_WAVENUMBER

SAME_FREQUENCY = 1e-3
"""THz (0.033 cm⁻¹): modes that follow each other within it belong to one degenerate subspace."""


@dataclass(frozen=True)
class GammaModes:
    """The 3N-3 optic modes at Γ of a cell of N atoms, softest first.

    Attributes:
        eigenvalues: of the mass-weighted force constants, (3N-3,), eV/(Å² u); negative: the mode is imaginary.
        eigenvectors: columns, (3N, 3N-3), orthonormal; row 3κ+α is √M_κ times the displacement of atom κ along α.
        masses: (N,), u.
    """

    eigenvalues: np.ndarray
    eigenvectors: np.ndarray
    masses: np.ndarray

    @cached_property
    def frequencies(self) -> np.ndarray:
        """Frequencies, (3N-3,), THz; those of imaginary modes negative."""
        return TO_THZ * np.sign(self.eigenvalues) * np.sqrt(np.abs(self.eigenvalues))

    @cached_property
    def wavenumbers(self) -> np.ndarray:
        """Wavenumbers, (3N-3,), cm⁻¹; those of imaginary modes negative."""
        return TO_WAVENUMBER * np.sign(self.eigenvalues) * np.sqrt(np.abs(self.eigenvalues))

    @cached_property
    def subspaces(self) -> tuple[slice, ...]:
        """Degenerate subspaces, softest first: which modes belong to each (`SAME_FREQUENCY`)."""
        apart = np.flatnonzero(np.diff(self.frequencies) > SAME_FREQUENCY) + 1
        bounds = [0, *apart.tolist(), len(self.frequencies)]
        return tuple(slice(start, stop) for start, stop in pairwise(bounds) if start < stop)


def gamma_modes(force_constants: np.ndarray, masses: np.ndarray, frozen: np.ndarray | None = None) -> GammaModes:
    """Diagonalise force constants at Γ.

    Args:
        force_constants: Φ = ∂²E/∂r∂r per cell, (3N, 3N), eV/Å², row and column 3κ+α, every image of an atom moving
            along. What breaks its index symmetry and the acoustic sum rule is projected out.
        masses: (N,), u.
        frozen: displacements that the atoms shall not make, (3N, K), orthonormal columns and none of them rigid
            translations; there are K modes less.

    Raises:
        ZooError: shapes that do not belong together, numbers that are not finite, a mass that is not positive.
    """
    masses = np.asarray(masses, dtype=np.float64)
    if masses.ndim != 1 or not len(masses) or not (np.isfinite(masses) & (masses > 0)).all():
        raise ZooError("masses are one positive number of u for each atom")
    weights = np.sqrt(np.repeat(masses, 3))
    dynamical = without_translations(checked(force_constants, len(masses))) / np.outer(weights, weights)
    basis = _complement(np.sqrt(masses))
    if frozen is not None and frozen.size:
        # A displacement u is e/√M: it is at right angles to v where e is to v/√M.
        forbidden = basis.T @ (frozen / weights[:, None])
        basis = basis @ np.linalg.qr(forbidden, mode="complete")[0][:, frozen.shape[1] :]
    eigenvalues, columns = np.linalg.eigh(basis.T @ dynamical @ basis)
    return GammaModes(eigenvalues, basis @ columns, masses)


def masses_of(structure: Structure) -> np.ndarray:
    """Return the masses of the atoms, (N,), u: those of the natural mixture of isotopes."""
    return np.array([float(site.specie.atomic_mass) for site in structure])


def checked(force_constants: np.ndarray, atoms: int) -> np.ndarray:
    """Return force constants, (3N, 3N), as float64 and symmetric.

    Raises:
        ZooError: another shape, or numbers that are not finite.
    """
    matrix = np.asarray(force_constants, dtype=np.float64)
    if matrix.shape != (3 * atoms, 3 * atoms):
        raise ZooError(f"force constants of {atoms} atoms are a matrix of {3 * atoms}×{3 * atoms}, not {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ZooError("the force constants hold NaN or infinite numbers: the potential does not hold for this crystal")
    return 0.5 * (matrix + matrix.T)


def without_translations(matrix: np.ndarray) -> np.ndarray:
    """Return P Φ P of (3N, 3N) force constants, P removing rigid translations: they then obey the acoustic sum rule."""
    blocks = matrix.reshape(len(matrix) // 3, 3, -1, 3)
    blocks = blocks - blocks.mean(axis=0, keepdims=True)
    blocks = blocks - blocks.mean(axis=2, keepdims=True)
    return blocks.reshape(matrix.shape)


def uniform_complement(atoms: int) -> np.ndarray:
    """Return an orthonormal basis, (3N, 3N-3), of the displacements orthogonal to rigid translations."""
    return _complement(np.ones(atoms))


def _complement(weights: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis, (3N, 3N-3), of what is orthogonal to `weights` (N,) along x, along y and along z."""
    orthogonal, _ = np.linalg.qr(weights[:, None], mode="complete")
    return np.kron(orthogonal[:, 1:], np.eye(3))
