"""Charges of modes at Γ, and the ionic dielectric tensor that the modes make, at fixed cell.

With Born charges Z*_κ of the atoms, e, and modes e_m of eigenvalue λ_m (Gonze and Lee, Phys. Rev. B 55, 10355 (1997),
eqs. (51) to (55); Born and Huang, Dynamical Theory of Crystal Lattices, 1954, chapter II):

    ε0 = (4πk/V) Σ_m S_m ⊗ S_m / λ_m        S_m,α = Σ_κβ Z*_κ,αβ e_κβ,m / √M_κ        k = e²/(4π ε_vacuum)

The strain is clamped: a piezoelectric crystal that is free to deform has a larger constant. An imaginary mode counts
with its negative eigenvalue, as the formula says; a tensor with a large share of it is no prediction (`warnings`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zoo.errors import ZooError
from zoo.phonons.modes import GammaModes, checked, uniform_complement
from zoo.phonons.units import COULOMB

POLAR = 1e-7
"""Share of Σ |S|² above which a mode counts as polar. The weakest infrared mode of quartz has 2e-6, and what symmetry
forbids 1e-10 and less, with Born charges of five decimals."""
SOFT = 30.0
"""cm⁻¹ (0.9 THz), below which a mode is very soft: its part of ε0 goes as 1/ω², and 9 cm⁻¹ less double it."""
NEGLIGIBLE = 1e-3
"""Share of ε0 up to which an imaginary mode does not matter."""
FLAT = 1e-8
"""eV/(Å² u) (0.05 cm⁻¹): smaller eigenvalues are zero."""
NOT_POLAR = 1e-9
"""e²Å²/eV, Σ Z* Φ⁻¹ Z*ᵀ: what is smaller is rounding, where symmetry forbids an infrared mode. MgO has about 1."""


@dataclass(frozen=True)
class PolarModes:
    """Modes at Γ with their charges.

    Attributes:
        modes: the M = 3N-3 optic modes.
        charges: mode effective charges S, (M, 3), e/√u: polarisation per mass-weighted displacement.
        volume: of the cell, Å³.
    """

    modes: GammaModes
    charges: np.ndarray
    volume: float

    @cached_property
    def contributions(self) -> np.ndarray:
        """Ionic tensor of each of the G degenerate subspaces, (G, 3, 3); that of a single mode depends on the basis.

        Raises:
            ZooError: a polar mode has the frequency zero.
        """
        flat = np.abs(self.modes.eigenvalues) < FLAT
        if (flat & self.is_polar(self.strengths)).any():
            raise ZooError("a polar mode has the frequency zero, where the ionic tensor is infinite: relax the crystal")
        inverse = np.divide(1.0, self.modes.eigenvalues, out=np.zeros(len(flat)), where=~flat)
        parts = [self.charges[which].T * inverse[which] @ self.charges[which] for which in self.modes.subspaces]
        return self.prefactor * np.array(parts).reshape(-1, 3, 3)

    @property
    def ionic(self) -> np.ndarray:
        """The ionic tensor ε0, (3, 3), at fixed cell; exactly zero in cells of one atom."""
        return self.contributions.sum(axis=0)

    @property
    def shares(self) -> np.ndarray:
        """Shares of the G subspaces in tr ε0, (G,): their sizes add up to one, those of imaginary modes are negative.

        All are zero where no mode is polar.
        """
        traces = np.trace(self.contributions, axis1=1, axis2=2)
        total = np.abs(traces).sum()
        return traces / total if total > 0 and self.is_polar(self.strengths).any() else np.zeros(len(traces))

    @property
    def strengths(self) -> np.ndarray:
        """|S|² of the modes, (M,), e²/u."""
        return (self.charges**2).sum(axis=1)

    @property
    def prefactor(self) -> float:
        """4πk/V, eV/(Å² e²)."""
        return 4 * math.pi * COULOMB / self.volume

    def is_polar(self, strengths: np.ndarray) -> np.ndarray:
        """Return whether |S|², or its part along an axis, is more than numerical noise (`POLAR`), elementwise."""
        return strengths > max(POLAR * self.strengths.sum(), 1e-12)

    def warnings(self) -> list[str]:
        """Say in one line each what makes ε0 doubtful: imaginary modes, and very soft ones that are half of it."""
        found = []
        wavenumbers = np.array([self.modes.wavenumbers[which].mean() for which in self.modes.subspaces])
        shares = self.shares
        imaginary = (wavenumbers < 0) & (np.abs(shares) > NEGLIGIBLE)
        if imaginary.any():
            found.append(
                f"polar modes are imaginary (lowest {-wavenumbers[imaginary].min():.0f}i cm⁻¹), their share of ε0 is "
                f"{-100 * shares[imaginary].sum():.0f} % in size: the crystal is not stable at this geometry"
            )
        soft = shares[(wavenumbers >= 0) & (wavenumbers < SOFT)].sum()
        if soft > 0.5:
            found.append(
                f"{100 * soft:.0f} % of ε0 comes from modes below {SOFT:.0f} cm⁻¹: a small error of Φ moves it"
            )
        return found


def polar_modes(modes: GammaModes, born: np.ndarray, volume: float) -> PolarModes:
    """Return the modes with the charges that the Born charges give them.

    Args:
        modes: of a cell of N atoms.
        born: Z*, (N, 3, 3), e: polarisation along the first axis by displacement along the second. Their sum, which the
            acoustic sum rule forbids, is taken from all atoms alike.
        volume: of the cell, Å³.

    Raises:
        ZooError: another shape, numbers that are not finite, or no volume.
    """
    atoms = len(modes.masses)
    weighted = neutral(born, atoms) / np.sqrt(modes.masses)[:, None, None]
    charges = np.einsum("kab,kbm->ma", weighted, modes.eigenvectors.reshape(atoms, 3, -1))
    return PolarModes(modes, charges, _positive(volume))


def ionic_tensor(force_constants: np.ndarray, born: np.ndarray, volume: float) -> np.ndarray:
    """Return the ionic tensor, (3, 3), by solving Φ u = Z*ᵀ E, without masses or modes.

    Args:
        force_constants: Φ, (3N, 3N), eV/Å², as for `zoo.phonons.modes.gamma_modes`.
        born: Z*, (N, 3, 3), e, as for `polar_modes`.
        volume: of the cell, Å³.

    Raises:
        ZooError: as `polar_modes`, or force constants that have no inverse.
    """
    prefactor = 4 * math.pi * COULOMB / _positive(volume)
    forces, moved = _response(force_constants, born)
    tensor = prefactor * forces.T @ moved
    return 0.5 * (tensor + tensor.T)


def share_along(force_constants: np.ndarray, born: np.ndarray, directions: np.ndarray) -> float:
    """Return the share of tr ε0 that comes from displacements along some directions.

    A field E moves the atoms by u = Φ⁻¹ Z*ᵀE; along the directions goes Pu, and the share is Σ_E (Z*ᵀE)·Pu over
    Σ_E (Z*ᵀE)·u. Along eigenvectors of Φ it is the sum of their shares. It may be used with eigenvectors of another
    matrix, such as Φ before a correction: the shares of a whole basis then still add up to one.

    Args:
        force_constants, born: as for `ionic_tensor`.
        directions: (3N, K), orthonormal columns.

    Returns:
        The share; zero where no displacement is polar.

    Raises:
        ZooError: as `ionic_tensor`.
    """
    forces, moved = _response(force_constants, born)
    total = float((forces * moved).sum())
    return float(((directions.T @ forces) * (directions.T @ moved)).sum()) / total if total > NOT_POLAR else 0.0


def _response(force_constants: np.ndarray, born: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Forces Z*ᵀE, (3N, field), and the displacements that they make, (3N, field)."""
    atoms = len(born)
    basis = uniform_complement(atoms)
    forces = neutral(born, atoms).transpose(0, 2, 1).reshape(3 * atoms, 3)
    try:
        moved = basis @ np.linalg.solve(basis.T @ checked(force_constants, atoms) @ basis, basis.T @ forces)
    except np.linalg.LinAlgError:
        raise ZooError(
            "the force constants have no inverse: a mode has the frequency zero; relax the crystal"
        ) from None
    return forces, moved


def neutral(born: np.ndarray, atoms: int) -> np.ndarray:
    """Return Born charges, (N, 3, 3), less their mean: they then obey the acoustic sum rule.

    Raises:
        ZooError: another shape, or numbers that are not finite.
    """
    born = np.asarray(born, dtype=np.float64)
    if born.shape != (atoms, 3, 3):
        raise ZooError(f"Born charges of {atoms} atoms are an array of {atoms}×3×3, not {born.shape}")
    if not np.isfinite(born).all():
        raise ZooError("the Born charges hold NaN or infinite numbers")
    return born - born.mean(axis=0)


def _positive(volume: float) -> float:
    if not (math.isfinite(volume) and volume > 0):
        raise ZooError(f"the volume of a cell is a positive number of Å³, not {volume:g}")
    return float(volume)
