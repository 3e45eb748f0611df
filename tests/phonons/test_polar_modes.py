"""Ionic tensors of modes: analytic, without masses, of supercells, free of the basis, warnings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from springs import charges, force_constants, quartz, rock_salt, rutile, salt

from zoo.errors import ZooError
from zoo.phonons.infrared import dielectric_function
from zoo.phonons.modes import gamma_modes, masses_of
from zoo.phonons.polar_modes import PolarModes, ionic_tensor, polar_modes, share_along


def of(crystal, born, phi=None) -> PolarModes:
    phi = force_constants(crystal) if phi is None else phi
    return polar_modes(gamma_modes(phi, masses_of(crystal)), born, crystal.volume)


def test_rock_salt() -> None:
    crystal, spring, charge = salt(), 2.5, 1.1
    born = charge * np.array([np.eye(3), -np.eye(3)])
    polar = of(crystal, born, rock_salt(spring))
    expected = 4 * math.pi * 14.399645 * charge**2 / (crystal.volume * spring)
    assert polar.ionic == pytest.approx(expected * np.eye(3), rel=1e-7)
    assert polar.shares == pytest.approx([1.0])
    assert polar.strengths.sum() == pytest.approx(3 * charge**2 * (1 / masses_of(crystal)).sum())
    assert polar.warnings() == []


@pytest.mark.parametrize("crystal", [rutile(), quartz()], ids=["rutile", "quartz"])
def test_masses_drop_out(crystal) -> None:
    born, phi = charges(crystal), force_constants(crystal)
    expected = ionic_tensor(phi, born, crystal.volume)
    assert of(crystal, born).ionic == pytest.approx(expected, rel=1e-10)
    other = polar_modes(gamma_modes(phi, np.linspace(1, 200, len(crystal))), born, crystal.volume)
    assert other.ionic == pytest.approx(expected, rel=1e-10)
    assert np.linalg.eigvalsh(expected)[0] > 0


def test_a_charged_cell_is_made_neutral() -> None:
    crystal = rutile()
    born = charges(crystal)
    extra = born + np.array([[0.3, 0.1, 0.0], [-0.2, 0.2, 0.0], [0.0, 0.0, 0.5]])
    assert of(crystal, extra).ionic == pytest.approx(of(crystal, born).ionic, rel=1e-12)
    assert ionic_tensor(force_constants(crystal), extra, crystal.volume) == pytest.approx(of(crystal, born).ionic)


def test_the_first_axis_of_a_charge_is_the_polarisation() -> None:
    """Only displacements along z polarise, along x: the tensor is xx alone."""
    born = np.zeros((2, 3, 3))
    born[0, 0, 2], born[1, 0, 2] = 1.0, -1.0
    tensor = of(salt(), born, rock_salt(1.0)).ionic
    assert tensor[0, 0] > 0.1
    assert np.abs(tensor).sum() == tensor[0, 0]
    assert ionic_tensor(rock_salt(1.0), born, salt().volume) == pytest.approx(tensor)


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 3), [[1, 1, 0], [0, 1, 1], [1, 0, 1]]], ids=str)
@pytest.mark.parametrize("crystal", [rutile(), quartz()], ids=["rutile", "quartz"])
def test_a_supercell_has_the_same_tensor_and_spectrum(crystal, repeats) -> None:
    born = charges(crystal)
    primitive = of(crystal, born)
    large = crystal.copy(site_properties={"of": list(range(len(crystal)))})
    large.make_supercell(repeats, to_unit_cell=False)
    polar = of(large, born[large.site_properties["of"]])
    assert polar.ionic == pytest.approx(primitive.ionic, rel=1e-9)
    grid, electronic = np.linspace(0, 700, 100), 2.5 * np.eye(3)
    found, expected = (dielectric_function(one, electronic, grid, 5.0) for one in (polar, primitive))
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_shares_do_not_depend_on_the_basis_of_a_degenerate_subspace() -> None:
    crystal = quartz()
    trigonal = np.array([np.eye(3) * (2 if site.specie.symbol == "Si" else -1) for site in crystal])
    polar = of(crystal, trigonal)
    assert {which.stop - which.start for which in polar.modes.subspaces} == {1, 2}
    rng = np.random.default_rng(1)
    vectors = polar.modes.eigenvectors.copy()
    for which in polar.modes.subspaces:
        size = which.stop - which.start
        vectors[:, which] = vectors[:, which] @ np.linalg.qr(rng.normal(size=(size, size)))[0]
    turned = polar_modes(dataclasses.replace(polar.modes, eigenvectors=vectors), trigonal, crystal.volume)
    assert np.abs(turned.charges - polar.charges).max() > 0.01
    assert turned.contributions == pytest.approx(polar.contributions, abs=1e-9)
    assert turned.shares == pytest.approx(polar.shares, abs=1e-10)
    # E is isotropic in the plane and has no part along the axis; A2 has that alone.
    for which, part in zip(polar.modes.subspaces, polar.contributions, strict=True):
        if which.stop - which.start == 2:
            assert part == pytest.approx(np.diag([part[0, 0], part[0, 0], 0]), abs=1e-8)


def test_a_turned_crystal_has_the_turned_tensor() -> None:
    crystal, born = quartz(), charges(quartz())
    turn = -Rotation.random(rng=3).as_matrix()
    large = np.kron(np.eye(len(crystal)), turn)
    turned = of(crystal, turn @ born @ turn.T, large @ force_constants(crystal) @ large.T)
    assert turned.ionic == pytest.approx(turn @ of(crystal, born).ionic @ turn.T, rel=1e-9)


def test_one_atom_is_exactly_zero() -> None:
    polar = polar_modes(gamma_modes(np.zeros((3, 3)), np.array([107.9])), np.full((1, 3, 3), 0.7), 17.0)
    assert (polar.ionic == 0).all()
    assert polar.shares.shape == (0,)
    assert (ionic_tensor(np.zeros((3, 3)), np.full((1, 3, 3), 0.7), 17.0) == 0).all()
    assert polar.warnings() == []


def test_silicon_is_not_polar() -> None:
    """Both atoms have the same charge by symmetry, so it is zero."""
    polar = of(salt(), np.array([np.eye(3), np.eye(3)]) * -0.013, rock_salt(10.0))
    assert (polar.ionic == 0).all()
    assert (polar.shares == 0).all()
    assert not polar.is_polar(polar.strengths).any()


def test_of_rounding_nothing_has_a_share() -> None:
    noise = 1e-7 * np.array([np.eye(3), -np.eye(3)])
    assert share_along(rock_salt(1.0), noise, np.eye(6)) == 0
    assert share_along(rock_salt(1.0), 1e7 * noise, np.eye(6)) == pytest.approx(1)


def test_an_imaginary_mode_is_negative_and_told() -> None:
    born = np.array([np.eye(3), -np.eye(3)])
    polar = of(salt(), born, rock_salt(-0.5))
    assert np.trace(polar.ionic) < 0
    assert polar.shares == pytest.approx([-1.0])
    assert "imaginary" in polar.warnings()[0]
    assert "100 %" in polar.warnings()[0]


def test_a_very_soft_mode_is_told() -> None:
    born = np.array([np.eye(3), -np.eye(3)])
    soft = of(salt(), born, rock_salt(0.03))
    assert 0 < soft.modes.wavenumbers[0] < 30
    assert "below 30 cm" in soft.warnings()[0]


def test_a_polar_mode_at_zero_has_no_tensor() -> None:
    born = np.array([np.eye(3), -np.eye(3)])
    with pytest.raises(ZooError, match="frequency zero"):
        _ = of(salt(), born, rock_salt(0.0)).ionic
    with pytest.raises(ZooError, match="no inverse"):
        ionic_tensor(rock_salt(0.0), born, 40.0)
    assert (of(salt(), 0 * born, rock_salt(0.0)).ionic == 0).all()


@pytest.mark.parametrize(
    ("born", "volume", "words"),
    [
        (np.zeros((3, 3, 3)), 40.0, "2×3×3"),
        (np.full((2, 3, 3), np.nan), 40.0, "NaN"),
        (np.zeros((2, 3, 3)), 0.0, "volume"),
        (np.zeros((2, 3, 3)), math.nan, "volume"),
    ],
)
def test_bad_input_is_one_line(born: np.ndarray, volume: float, words: str) -> None:
    with pytest.raises(ZooError, match=words):
        polar_modes(gamma_modes(rock_salt(1.0), np.ones(2)), born, volume)
