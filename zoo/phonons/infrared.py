"""Dielectric function in the infrared, what is measured of it, and longitudinal optic modes.

In the harmonic approximation, with one damping γ for all modes and fields ∝ e^{-iωt}, so that Im ε ≥ 0 (Gonze and Lee,
Phys. Rev. B 55, 10355 (1997); Born and Huang, Dynamical Theory of Crystal Lattices, 1954, chapter II):

    ε(ω) = ε∞ + (4πk/V) Σ_m S_m ⊗ S_m / (λ_m - ω² - iγω)

An imaginary mode has no resonance: where one carries more of ε0 than `NEGLIGIBLE` there is no spectrum, and ZooError
says so; others are left out. A mode below γ is overdamped: the formula is taken at its word, and `PolarModes.warnings`
says how much of ε0 rests on very soft ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zoo.errors import ZooError
from zoo.evaluation.derived import principal_axes
from zoo.phonons.modes import GammaModes
from zoo.phonons.polar_modes import FLAT, NEGLIGIBLE, PolarModes
from zoo.phonons.units import TO_WAVENUMBER

DAMPING = 10.0
"""cm⁻¹, the full width at half maximum of a line of Im ε."""
_GRID = 2001


@dataclass(frozen=True)
class InfraredSpectrum:
    """The dielectric function at some wavenumbers, and where it has its poles and zeros.

    Attributes:
        wavenumbers: (W,), cm⁻¹.
        dielectric: ε(ω), (W, 3, 3), complex, in the Cartesian frame of the structure.
        damping: γ, cm⁻¹.
        axes: principal axes of the static tensor ε∞ + ε0, rows, (3, 3), or those that were asked for. In monoclinic
            and triclinic crystals the axes of ε(ω) turn with the frequency, and those here are a choice.
        transverse: for each axis the wavenumbers of the TO modes that are polar along it, cm⁻¹.
        longitudinal: for each axis those of the LO modes of q along it, cm⁻¹.
    """

    wavenumbers: np.ndarray
    dielectric: np.ndarray
    damping: float
    axes: np.ndarray
    transverse: tuple[np.ndarray, ...]
    longitudinal: tuple[np.ndarray, ...]

    def along(self, polarisation: np.ndarray) -> np.ndarray:
        """Return ê·ε(ω)·ê, (W,), for a field along `polarisation`, (3,), of any length."""
        axis = unit(polarisation)
        return np.einsum("a,wab,b->w", axis, self.dielectric, axis)

    def index(self, polarisation: np.ndarray) -> np.ndarray:
        """Return the complex refractive index n + iκ = √ε, (W,), along `polarisation`: n, κ ≥ 0."""
        return np.sqrt(self.along(polarisation))

    def reflectivity(self, polarisation: np.ndarray) -> np.ndarray:
        """Return the reflectivity |(√ε-1)/(√ε+1)|², (W,), at normal incidence from the vacuum, between 0 and 1.

        It is that of a thick crystal whose field stays along `polarisation`: along a principal axis of ε(ω).
        """
        index = self.index(polarisation)
        return np.abs((index - 1) / (index + 1)) ** 2

    def absorption(self, polarisation: np.ndarray) -> np.ndarray:
        """Return the absorption coefficient 4πν̃ Im √ε, (W,), cm⁻¹: the intensity falls as its exponential."""
        return 4 * math.pi * self.wavenumbers * self.index(polarisation).imag

    def distinct_axes(self) -> list[int]:
        """Return the numbers of the principal axes that differ: one in a cubic crystal, two in a uniaxial one."""
        found: list[int] = []
        for number, axis in enumerate(self.axes):
            here = self.along(axis)
            size = 1e-3 * np.abs(here).max()
            if all(np.abs(here - self.along(self.axes[other])).max() > size for other in found):
                found.append(number)
        return found


def infrared_spectrum(
    polar: PolarModes,
    electronic: np.ndarray,
    wavenumbers: np.ndarray | None = None,
    damping: float = DAMPING,
    axes: np.ndarray | None = None,
) -> InfraredSpectrum:
    """Return the infrared spectrum of a crystal.

    Args:
        polar: its modes at Γ with their charges.
        electronic: ε∞, (3, 3).
        wavenumbers: cm⁻¹, (W,); by default 2001 from zero to a fifth above the highest mode.
        damping: γ of all modes, cm⁻¹, positive.
        axes: directions of polarisation, rows of any length, (A, 3); by default the principal axes of ε∞ + ε0.

    Raises:
        ZooError: a polar mode is imaginary or at zero, or ε∞, γ, a wavenumber or an axis is out of range.
    """
    electronic = checked_electronic(electronic)
    if axes is None:
        axes = principal_axes(electronic + polar.ionic)
    axes = np.array([unit(axis) for axis in axes])
    transverse = tuple(_along(polar, axis) for axis in axes)
    longitudinal = tuple(_along(longitudinal_modes(polar, electronic, axis), axis) for axis in axes)
    if wavenumbers is None:
        highest = max([100.0, *polar.modes.wavenumbers, *np.concatenate(longitudinal)])
        wavenumbers = np.linspace(0, 1.2 * highest, _GRID)
    dielectric = dielectric_function(polar, electronic, wavenumbers, damping)
    return InfraredSpectrum(np.asarray(wavenumbers, float), dielectric, damping, axes, transverse, longitudinal)


def dielectric_function(
    polar: PolarModes, electronic: np.ndarray, wavenumbers: np.ndarray, damping: float
) -> np.ndarray:
    """Return ε(ω), (W, 3, 3), complex, at `wavenumbers`, (W,), cm⁻¹; arguments and errors as `infrared_spectrum`."""
    electronic = checked_electronic(electronic)
    wavenumbers = np.asarray(wavenumbers, dtype=np.float64)
    if not (math.isfinite(damping) and damping > 0):
        raise ZooError(f"the damping is a positive number of cm⁻¹, not {damping:g}")
    if wavenumbers.ndim != 1 or not (np.isfinite(wavenumbers) & (wavenumbers >= 0)).all():
        raise ZooError("wavenumbers are a list of numbers of cm⁻¹, none of them negative")
    _refuse_imaginary(polar)
    real = polar.modes.eigenvalues > FLAT
    poles, charges = polar.modes.wavenumbers[real] ** 2, polar.charges[real]
    square = wavenumbers**2 + 1j * damping * wavenumbers
    resonances = TO_WAVENUMBER**2 / (poles - square[:, None])
    return electronic + polar.prefactor * np.einsum("wm,ma,mb->wab", resonances, charges, charges)


def longitudinal_modes(polar: PolarModes, electronic: np.ndarray, direction: np.ndarray) -> PolarModes:
    """Return the modes in the limit of q → 0 along a direction, with the macroscopic field that they make.

    To Φ is added (4πk/V) (Z*ᵀq̂)(Z*ᵀq̂)ᵀ / q̂·ε∞·q̂ (Gonze and Lee), here in the space of the modes at Γ, where
    M^{-1/2} Z*ᵀq̂ is S q̂. Modes that are not polar along q̂ stay as they are. At the wavenumbers of the others q̂·ε(ω)·q̂
    without damping is zero, and the product of all (ω_LO/ω_TO)² is q̂·(ε∞+ε0)·q̂ / q̂·ε∞·q̂ (Lyddane, Sachs and Teller,
    Phys. Rev. 59, 673 (1941)).

    Args:
        polar: transverse modes, of `zoo.phonons.polar_modes.polar_modes`.
        electronic: ε∞, (3, 3).
        direction: q, (3,), Cartesian, of any length.

    Raises:
        ZooError: no direction, or ε∞ is out of range.
    """
    axis = unit(direction)
    along = polar.charges @ axis
    screening = float(axis @ checked_electronic(electronic) @ axis)
    matrix = np.diag(polar.modes.eigenvalues) + polar.prefactor / screening * np.outer(along, along)
    eigenvalues, mixed = np.linalg.eigh(matrix)
    modes = GammaModes(eigenvalues, polar.modes.eigenvectors @ mixed, polar.modes.masses)
    return PolarModes(modes, mixed.T @ polar.charges, polar.volume)


def unit(direction: np.ndarray) -> np.ndarray:
    """Return a direction, (3,), at length one.

    Raises:
        ZooError: three numbers are wanted, not all zero.
    """
    vector = np.asarray(direction, dtype=np.float64)
    if vector.shape != (3,) or not np.isfinite(vector).all() or not vector.any():
        raise ZooError("a direction is three Cartesian components, not all of them zero")
    return vector / np.linalg.norm(vector)


def checked_electronic(tensor: np.ndarray) -> np.ndarray:
    """Return ε∞, (3, 3), as float64 and symmetric.

    Raises:
        ZooError: another shape, numbers that are not finite, or an eigenvalue that is not positive.
    """
    tensor = np.asarray(tensor, dtype=np.float64)
    if tensor.shape != (3, 3) or not np.isfinite(tensor).all():
        raise ZooError("the electronic tensor is 3×3 finite numbers")
    tensor = 0.5 * (tensor + tensor.T)
    if np.linalg.eigvalsh(tensor)[0] <= 0:
        raise ZooError("the electronic tensor has an eigenvalue that is not positive: it is at least the vacuum's 1")
    return tensor


def _refuse_imaginary(polar: PolarModes) -> None:
    imaginary = [
        float(polar.modes.wavenumbers[which].mean())
        for which, share in zip(polar.modes.subspaces, polar.shares, strict=True)
        if share < -NEGLIGIBLE
    ]
    if imaginary:
        raise ZooError(
            f"a polar mode is imaginary ({-min(imaginary):.0f}i cm⁻¹), so there is no infrared spectrum: relax the "
            "crystal, or take a structure of lower symmetry"
        )


def _along(polar: PolarModes, axis: np.ndarray) -> np.ndarray:
    """Return the wavenumbers of the degenerate subspaces that are polar along an axis, cm⁻¹."""
    strengths = (polar.charges @ axis) ** 2
    return np.array(
        [
            polar.modes.wavenumbers[which].mean()
            for which in polar.modes.subspaces
            if polar.is_polar(strengths[which].sum()).any()
        ]
    )
