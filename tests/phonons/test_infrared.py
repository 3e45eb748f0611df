"""Infrared spectra and longitudinal modes: analytic, sum rules, Kramers and Kronig, Lyddane, Sachs and Teller."""

from __future__ import annotations

import math

import numpy as np
import pytest
from springs import charges, force_constants, quartz, rock_salt, rutile, salt

from zoo.errors import ZooError
from zoo.phonons.infrared import dielectric_function, infrared_spectrum, longitudinal_modes
from zoo.phonons.modes import gamma_modes, masses_of
from zoo.phonons.polar_modes import PolarModes, polar_modes

ELECTRONIC = np.array([[2.6, 0.2, 0.0], [0.2, 2.1, -0.1], [0.0, -0.1, 3.0]])
DIRECTIONS = ([1.0, 0, 0], [0, 0, 2.0], [1, -1, 0.5])


def made(crystal=None, born=None, phi=None) -> PolarModes:
    crystal = rutile() if crystal is None else crystal
    phi = force_constants(crystal) if phi is None else phi
    born = charges(crystal) if born is None else born
    return polar_modes(gamma_modes(phi, masses_of(crystal)), born, crystal.volume)


def ions(spring: float, charge: float = 1.1) -> PolarModes:
    return made(salt(), charge * np.array([np.eye(3), -np.eye(3)]), rock_salt(spring))


def test_one_oscillator() -> None:
    polar, grid, damping = ions(2.0), np.linspace(0, 600, 50), 8.0
    to = polar.modes.wavenumbers[0]
    expected = 2.3 + polar.ionic[0, 0] * to**2 / (to**2 - grid**2 - 1j * damping * grid)
    spectrum = infrared_spectrum(polar, 2.3 * np.eye(3), grid, damping)
    assert spectrum.along([1, 1, 0]) == pytest.approx(expected, rel=1e-12)
    n = np.sqrt(expected)
    less, more = ((n.real + sign) ** 2 + n.imag**2 for sign in (-1, 1))
    assert spectrum.reflectivity([0, 0, 1]) == pytest.approx(less / more)
    assert spectrum.absorption([0, 1, 0]) == pytest.approx(4 * math.pi * grid * n.imag)
    assert spectrum.distinct_axes() == [0]


def test_reststrahlen() -> None:
    """Between TO and LO next to all light is reflected, the less is damped; at high frequencies what ε∞ reflects."""
    polar = ions(2.0)
    lo, to = longitudinal_modes(polar, 2.3 * np.eye(3), [0, 0, 1]).modes.wavenumbers[-1], polar.modes.wavenumbers[0]
    spectrum = infrared_spectrum(polar, 2.3 * np.eye(3), np.linspace(to + 2, lo - 2, 20), 1e-3)
    assert spectrum.reflectivity([1, 0, 0]).min() > 0.999
    far = infrared_spectrum(polar, 2.3 * np.eye(3), np.array([1e6]), 5.0)
    assert far.reflectivity([1, 0, 0])[0] == pytest.approx(((math.sqrt(2.3) - 1) / (math.sqrt(2.3) + 1)) ** 2, rel=1e-4)


def test_the_static_limit_is_the_sum_of_both_tensors() -> None:
    polar = made()
    static = dielectric_function(polar, ELECTRONIC, np.zeros(1), 7.0)[0]
    assert static.real == pytest.approx(ELECTRONIC + polar.ionic, rel=1e-12)
    assert (static.imag == 0).all()
    fast = dielectric_function(polar, ELECTRONIC, np.array([1e7]), 7.0)[0]
    assert fast == pytest.approx(ELECTRONIC.astype(complex), abs=1e-5)


def test_absorption_adds_up() -> None:
    """∫ ω Im ε dω = (π/2) (4πk/V) Σ S⊗S, whatever the damping, and (2/π) ∫ Im ε/ω dω = ε0."""
    polar = made()
    grid = np.linspace(1e-3, 4000, 400_001)
    lost = dielectric_function(polar, ELECTRONIC, grid, 3.0).imag
    step = grid[1] - grid[0]
    assert 2 / math.pi * step * (lost / grid[:, None, None]).sum(axis=0) == pytest.approx(polar.ionic, rel=2e-3)
    strength = polar.prefactor * polar.charges.T @ polar.charges * 521.4709**2
    assert 2 / math.pi * step * (lost * grid[:, None, None]).sum(axis=0) == pytest.approx(strength, rel=5e-3)


def test_a_medium_that_only_absorbs() -> None:
    spectrum = infrared_spectrum(made(), ELECTRONIC, damping=5.0)
    assert (np.linalg.eigvalsh(spectrum.dielectric.imag) > -1e-9).all()
    for axis in (*spectrum.axes, np.array([1.0, 2.0, -1.0])):
        reflected = spectrum.reflectivity(axis)
        assert ((reflected >= 0) & (reflected <= 1)).all()
        assert (spectrum.absorption(axis) >= 0).all()
        assert (spectrum.index(axis).real >= 0).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_lyddane_sachs_teller(direction) -> None:
    """Of any crystal and direction: the product of (LO/TO)² over all modes is that of ε, static to fast."""
    polar = made()
    axis = np.array(direction) / np.linalg.norm(direction)
    lo = longitudinal_modes(polar, ELECTRONIC, direction)
    ratio = (axis @ (ELECTRONIC + polar.ionic) @ axis) / (axis @ ELECTRONIC @ axis)
    assert np.prod(lo.modes.eigenvalues / polar.modes.eigenvalues) == pytest.approx(ratio, rel=1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_longitudinal_modes_are_the_zeros_of_the_dielectric_function(direction) -> None:
    polar = made()
    axis = np.array(direction) / np.linalg.norm(direction)
    lo = longitudinal_modes(polar, ELECTRONIC, direction)
    along = lo.is_polar((lo.charges @ axis) ** 2)
    assert along.sum() >= 6
    values = dielectric_function(polar, ELECTRONIC, lo.modes.wavenumbers[along], 1e-9)
    static = axis @ (ELECTRONIC + polar.ionic) @ axis
    slopes = np.abs(dielectric_function(polar, ELECTRONIC, lo.modes.wavenumbers[along] + 1e-3, 1e-9) - values)
    for value, slope in zip(values, slopes, strict=True):
        assert abs(axis @ value @ axis) < 1e-6 * max(static, 1e3 * np.abs(slope).max())


def test_the_term_is_added_to_the_force_constants_before_the_masses() -> None:
    crystal, q = quartz(), np.array([1.0, 2.0, 2.0]) / 3
    born, phi = charges(crystal), force_constants(crystal)
    polar = made(crystal, born, phi)
    moved = np.einsum("a,kab->kb", q, born).ravel()
    term = 4 * math.pi * 14.3996454785 / crystal.volume * np.outer(moved, moved) / (q @ ELECTRONIC @ q)
    expected = gamma_modes(phi + term, masses_of(crystal))
    found = longitudinal_modes(polar, ELECTRONIC, 5 * q)
    assert found.modes.eigenvalues == pytest.approx(expected.eigenvalues, rel=1e-9)
    again = polar_modes(found.modes, born, crystal.volume)
    assert again.charges == pytest.approx(found.charges, abs=1e-12)


def test_modes_that_are_not_polar_along_q_stay() -> None:
    polar = ions(2.0)
    lo = longitudinal_modes(polar, 2.3 * np.eye(3), [0, 1, 0]).modes
    assert lo.wavenumbers[:2] == pytest.approx(polar.modes.wavenumbers[:2], rel=1e-12)
    assert lo.wavenumbers[2] > polar.modes.wavenumbers[2] + 10


def test_what_is_marked_on_each_axis() -> None:
    """Uniaxial: E modes in the plane, A2u along z, an LO above each TO."""
    born = np.array([np.eye(3) * (4 if site.specie.symbol == "Ti" else -2) for site in rutile()])
    spectrum = infrared_spectrum(made(born=born), np.diag([6.0, 6.0, 7.0]))
    assert len(spectrum.distinct_axes()) == 2
    z = next(k for k, axis in enumerate(spectrum.axes) if abs(axis[2]) > 0.99)
    assert [len(spectrum.transverse[k]) for k in (z, z - 1, z - 2)] == [1, 3, 3]
    for to, lo in zip(spectrum.transverse, spectrum.longitudinal, strict=True):
        assert len(to) == len(lo)
        assert (lo > to).all()
    assert spectrum.wavenumbers[0] == 0
    assert spectrum.wavenumbers[-1] > max(lo.max() for lo in spectrum.longitudinal)


def test_an_imaginary_polar_mode_has_no_spectrum() -> None:
    with pytest.raises(ZooError, match="imaginary"):
        infrared_spectrum(ions(-0.4), 2.3 * np.eye(3))


def test_an_imaginary_mode_that_is_not_polar_is_left_out() -> None:
    """In rutile both oxygens' twist is not polar: made imaginary, it changes nothing."""
    crystal = rutile()
    born = np.array([np.eye(3) * (4 if site.specie.symbol == "Ti" else -2) for site in crystal])
    polar = made(crystal, born)
    silent = polar.modes.eigenvectors[:, ~polar.is_polar(polar.strengths)][:, 0]
    weights = np.sqrt(np.repeat(masses_of(crystal), 3))
    worse = made(crystal, born, force_constants(crystal) - 50 * np.outer(weights * silent, weights * silent) / 10)
    assert worse.modes.eigenvalues[0] < 0
    grid = np.linspace(0, 900, 50)
    found, before = (dielectric_function(one, ELECTRONIC, grid, 5.0) for one in (worse, polar))
    assert found == pytest.approx(before, rel=1e-9, abs=1e-9)


def test_no_optic_modes_no_lines() -> None:
    one = polar_modes(gamma_modes(np.zeros((3, 3)), np.ones(1)), np.zeros((1, 3, 3)), 20.0)
    spectrum = infrared_spectrum(one, 4 * np.eye(3))
    assert spectrum.along([1, 0, 0]) == pytest.approx(4.0)
    assert spectrum.reflectivity([1, 0, 0]) == pytest.approx(1 / 9)
    assert spectrum.absorption([1, 0, 0]).max() == 0
    assert all(len(marks) == 0 for marks in (*spectrum.transverse, *spectrum.longitudinal))


def test_bad_input_is_one_line() -> None:
    polar, grid = ions(1.0), np.linspace(0, 100, 5)
    good = 2 * np.eye(3)
    for electronic, wavenumbers, damping, words in (
        (good, grid, 0.0, "damping"),
        (good, grid, math.nan, "damping"),
        (good, -grid, 5.0, "wavenumbers"),
        (good, grid[:, None], 5.0, "wavenumbers"),
        (-good, grid, 5.0, "not positive"),
        (np.full((3, 3), np.nan), grid, 5.0, "finite"),
        (np.eye(2), grid, 5.0, "3×3"),
    ):
        with pytest.raises(ZooError, match=words):
            infrared_spectrum(polar, electronic, wavenumbers, damping)
    for direction in ([0, 0, 0], [1, 0], [math.nan, 0, 1]):
        with pytest.raises(ZooError, match="direction"):
            longitudinal_modes(polar, good, direction)
