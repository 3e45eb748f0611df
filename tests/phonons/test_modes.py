"""Normal modes at Γ: against analytic ones, and the three translations taken out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from springs import force_constants, quartz, rock_salt, rutile, salt

from zoo.errors import ZooError
from zoo.phonons.modes import GammaModes, gamma_modes, masses_of
from zoo.phonons.units import COULOMB, TO_THZ, TO_WAVENUMBER


def test_constants() -> None:
    assert pytest.approx(14.399645, abs=1e-6) == COULOMB
    assert pytest.approx(15.633302, rel=2e-7) == TO_THZ
    assert pytest.approx(521.4709, abs=1e-4) == TO_WAVENUMBER


def test_two_atoms_on_a_spring() -> None:
    spring, masses = 3.7, np.array([22.99, 35.45])
    modes = gamma_modes(rock_salt(spring), masses)
    reduced = masses.prod() / masses.sum()
    assert modes.eigenvalues == pytest.approx(spring / reduced, rel=1e-12)
    assert modes.frequencies == pytest.approx(15.633304 * math.sqrt(spring / reduced), rel=1e-7)
    assert modes.wavenumbers == pytest.approx(modes.frequencies * 33.35640952, rel=1e-9)
    assert modes.subspaces == (slice(0, 3),)


def test_modes_are_orthonormal_and_leave_the_centre_of_mass_where_it_is() -> None:
    crystal = quartz()
    masses = masses_of(crystal)
    modes = gamma_modes(force_constants(crystal), masses)
    count = 3 * len(crystal) - 3
    assert modes.eigenvalues.shape == (count,)
    assert modes.eigenvectors.T @ modes.eigenvectors == pytest.approx(np.eye(count), abs=1e-12)
    moment = np.einsum("k,kam->am", np.sqrt(masses), modes.eigenvectors.reshape(len(crystal), 3, count))
    assert np.abs(moment).max() < 1e-12


def test_the_other_eigenvalues_are_those_of_the_whole_matrix() -> None:
    crystal = rutile()
    phi, weights = force_constants(crystal), np.sqrt(np.repeat(masses_of(crystal), 3))
    everything = np.linalg.eigvalsh(phi / np.outer(weights, weights))
    modes = gamma_modes(phi, masses_of(crystal))
    assert np.sort([*modes.eigenvalues, 0.0, 0.0, 0.0]) == pytest.approx(everything, abs=1e-12)


def test_imaginary_modes_are_kept_and_negative() -> None:
    """The three lowest modes are not the translations here: one optic triple is imaginary, or as good as zero."""
    for spring in (-2.0, -1e-9, 1e-9):
        modes = gamma_modes(rock_salt(spring), np.array([20.0, 30.0]))
        assert modes.eigenvalues == pytest.approx(spring / 12, rel=1e-6)
        assert (np.sign(modes.frequencies) == np.sign(spring)).all()
        assert (np.sign(modes.wavenumbers) == np.sign(spring)).all()


def test_a_broken_sum_rule_is_mended() -> None:
    """What moves the whole crystal is projected out; the rest is as it would be without."""
    crystal = rutile()
    phi = force_constants(crystal)
    antisymmetric = 1e-3 * (np.triu(np.ones(phi.shape)) - np.tril(np.ones(phi.shape)))
    shifted = phi + np.kron(np.ones((6, 6)), np.diag([0.3, 0.1, -0.2])) + antisymmetric
    masses = masses_of(crystal)
    assert gamma_modes(shifted, masses).eigenvalues == pytest.approx(gamma_modes(phi, masses).eigenvalues, abs=1e-12)


def test_one_atom_has_no_optic_mode() -> None:
    modes = gamma_modes(np.zeros((3, 3)), np.array([63.5]))
    assert modes.eigenvalues.shape == modes.frequencies.shape == (0,)
    assert modes.eigenvectors.shape == (3, 0)
    assert modes.subspaces == ()


def test_subspaces_part_where_frequencies_do() -> None:
    frequencies = np.array([-1.0, 2.0, 2.0005, 2.001, 2.01, 5.0])
    eigenvalues = np.sign(frequencies) * (frequencies / TO_THZ) ** 2
    modes = GammaModes(eigenvalues, np.eye(9)[:, :6], np.ones(3))
    assert modes.subspaces == (slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 6))


def test_masses_are_those_of_the_elements() -> None:
    assert masses_of(salt()) == pytest.approx([22.98977, 35.45], abs=0.01)


@pytest.mark.parametrize(
    ("phi", "masses", "words"),
    [
        (np.eye(6), np.ones(3), "9×9"),
        (np.full((6, 6), np.nan), np.ones(2), "NaN"),
        (np.eye(6), np.array([1.0, 0.0]), "positive"),
        (np.eye(6), np.array([1.0, np.nan]), "positive"),
        (np.zeros((0, 0)), np.zeros(0), "masses"),
    ],
)
def test_bad_input_is_one_line(phi: np.ndarray, masses: np.ndarray, words: str) -> None:
    with pytest.raises(ZooError, match=words):
        gamma_modes(phi, masses)
