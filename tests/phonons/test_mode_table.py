"""Tables and figures of modes: plain values, words, and pictures of the smallest inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from springs import force_constants, quartz, rock_salt, rutile, salt

from zoo.phonons.infrared import infrared_spectrum
from zoo.phonons.irreps import irrep_labels
from zoo.phonons.mode_table import mode_lines, mode_rows
from zoo.phonons.modes import gamma_modes, masses_of
from zoo.phonons.polar_modes import polar_modes
from zoo.report.phonon_figures import infrared, mode_sticks

IONS = np.array([np.eye(3), -np.eye(3)])


def test_rows_are_plain_and_complete() -> None:
    modes = gamma_modes(rock_salt(2.0), masses_of(salt()))
    rows = json.loads(json.dumps(mode_rows(modes, ["T1u"], polar_modes(modes, IONS, salt().volume))))
    (row,) = rows
    assert row["irrep"] == "T1u"
    assert (row["degeneracy"], row["imaginary"]) == (3, False)
    assert row["share"] == pytest.approx(1.0)
    assert np.trace(row["ionic"]) > 0
    assert row["wavenumber"] == pytest.approx(row["frequency"] * 33.35641)
    assert "share" not in mode_rows(modes)[0]


def test_an_imaginary_mode_is_negative_and_marked() -> None:
    modes = gamma_modes(rock_salt(-2.0), masses_of(salt()))
    header, lines = mode_lines(mode_rows(modes, None, polar_modes(modes, IONS, salt().volume)))
    assert header == ("THz", "cm⁻¹", "degeneracy", "share of ε0", "")
    assert lines == [("-5.920", "-197.5", "3", "-100.0 %", "imaginary")]
    assert len(mode_lines(mode_rows(modes))[1][0]) == 4
    assert mode_lines(mode_rows(modes, ["T1u"])) == (
        ("THz", "cm⁻¹", "irrep", "degeneracy", ""),
        [("-5.920", "-197.5", "T1u", "3", "imaginary")],
    )
    assert mode_lines([])[1] == []


def test_names_of_springs() -> None:
    pytest.importorskip("phonopy")
    for crystal, names in ((salt(), {"T1u"}), (quartz(), {"A1", "A2", "E"}), (rutile(), None)):
        modes = gamma_modes(force_constants(crystal), masses_of(crystal))
        labels = irrep_labels(modes, crystal)
        assert None not in labels
        assert names is None or set("+".join(filter(None, labels)).split("+")) == names


def test_irreps_that_coincide() -> None:
    """All modes of quartz at one frequency."""
    pytest.importorskip("phonopy")
    crystal = quartz()
    weights = np.sqrt(masses_of(crystal))
    alike = np.outer(weights, weights) * (np.eye(9) - np.outer(weights, weights) / (weights @ weights))
    modes = gamma_modes(np.kron(alike, np.eye(3)), masses_of(crystal))
    (label,) = irrep_labels(modes, crystal)
    assert sorted(label.split("+")) == sorted(["A1"] * 4 + ["A2"] * 4 + ["E"] * 8)


def test_a_supercell_has_no_names() -> None:
    pytest.importorskip("phonopy")
    large = salt() * (2, 1, 1)
    modes = gamma_modes(force_constants(large), masses_of(large))
    assert set(irrep_labels(modes, large)) == {None}


def test_without_phonopy_there_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.phonons.irreps.find_spec", lambda name: None)
    modes = gamma_modes(rock_salt(2.0), masses_of(salt()))
    assert irrep_labels(modes, salt()) == [None]


@pytest.mark.parametrize("kind", ["charged", "plain", "imaginary", "empty"])
def test_figures_of_modes(kind: str, tmp_path: Path) -> None:
    crystal = quartz()
    born = np.array([np.eye(3) * (4 if site.specie.symbol == "Si" else -2) for site in crystal])
    modes = gamma_modes(force_constants(crystal) * (-1 if kind == "imaginary" else 1), masses_of(crystal))
    if kind == "empty":
        modes, born = gamma_modes(np.zeros((3, 3)), np.ones(1)), np.zeros((1, 3, 3))
    polar = None if kind == "plain" else polar_modes(modes, born, crystal.volume)
    path = mode_sticks(mode_rows(modes, irrep_labels(modes, crystal), polar), "SiO2", tmp_path / "modes.png")
    assert imread(path).shape[1] == 1440


@pytest.mark.parametrize("crystal", [salt(), rutile()], ids=["cubic", "uniaxial"])
def test_figure_of_a_spectrum(crystal, tmp_path: Path) -> None:
    signs = {"Na": 1, "Cl": -1, "Ti": 4, "O": -2}
    born = np.array([np.eye(3) * signs[site.specie.symbol] for site in crystal])
    modes = gamma_modes(force_constants(crystal), masses_of(crystal))
    spectrum = infrared_spectrum(polar_modes(modes, born, crystal.volume), 2.5 * np.eye(3))
    assert imread(infrared(spectrum, "A", tmp_path / "infrared.png")).shape[:2] == (1040, 1440)


def test_figure_without_modes(tmp_path: Path) -> None:
    one = polar_modes(gamma_modes(np.zeros((3, 3)), np.ones(1)), np.zeros((1, 3, 3)), 20.0)
    assert infrared(infrared_spectrum(one, 4 * np.eye(3)), "Cu", tmp_path / "infrared.png").is_file()
