"""`zoo predict --modes` and `zoo spectrum`: tables, JSON, CSV, a picture, one line for what cannot be had."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from cli import refused, zoo
from explained import untrained
from pymatgen.core import Lattice, Structure
from springs import salt

pytestmark = pytest.mark.sevennet

FORMAT_3 = str(Path(__file__).parents[1] / "checkpoints" / "format_3")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of all three tensors, one of ionic alone, and crystals."""
    pytest.importorskip("sevenn")
    folder = tmp_path_factory.mktemp("models")
    untrained(folder / "joint")
    untrained(folder / "ionic", "born_ionic", members=1)
    salt().to(filename=str(folder / "salt.cif"))
    zinc = Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.25, 5.21), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
    )
    zinc.to(filename=str(folder / "zno.cif"))
    return folder


def test_predict_shows_modes(models: Path) -> None:
    done = zoo("predict", "joint", "zno.cif", "--modes", "--device", "cpu", cwd=models)
    assert done.returncode == 0, done.stderr
    assert "zno.cif: modes at Γ, 4 atoms in the primitive cell" in done.stdout
    assert "share of ε0" in done.stdout and "Born charges" in done.stdout
    assert "fixed cell (clamped strain)" in done.stdout
    done = zoo("predict", "ionic", "salt.cif", "--modes", "--format", "json", "--device", "cpu", cwd=models)
    (answer,) = json.loads(done.stdout)
    assert answer["explanation"]["modes"][0]["degeneracy"] == 3
    refused(zoo("predict", "joint", "salt.cif", "--modes", "--format", "csv", cwd=models), "--format json")
    refused(zoo("predict", FORMAT_3, "salt.cif", "--modes", "--device", "cpu", cwd=models), "nothing to explain")


def test_spectrum(models: Path) -> None:
    done = zoo("spectrum", "joint", "zno.cif", "--damping", "5", "--out", "out", "--device", "cpu", cwd=models)
    assert done.returncode == 0, done.stderr
    assert "zno.cif: ZnO, infrared spectrum, damping 5 cm⁻¹" in done.stdout
    assert "E ∥ z" in done.stdout and "TO, cm⁻¹" in done.stdout and "clamped strain" in done.stdout
    assert (models / "out" / "zno_spectrum.png").stat().st_size > 5000
    with (models / "out" / "zno_spectrum.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2001 and len(rows[0]) == 9
    assert all(0 <= float(row["reflectivity, E ∥ z"]) <= 1 for row in rows)
    assert all(float(row["Im ε, E ∥ z"]) >= 0 for row in rows)


def test_a_direction_and_a_range(models: Path) -> None:
    argv = ("spectrum", "joint", "zno.cif", "--direction", "0", "0", "3", "--range", "100", "300", "--device", "cpu")
    done = zoo(*argv, cwd=models)
    assert done.returncode == 0, done.stderr
    numbers = np.genfromtxt(models / "zno_spectrum.csv", delimiter=",", skip_header=1)
    assert numbers.shape == (2001, 5)
    assert (numbers[0, 0], numbers[-1, 0]) == (100, 300)


def test_a_model_of_ionic_alone_wants_the_electronic_constant(models: Path) -> None:
    ask = ("spectrum", "ionic", "salt.cif", "--device", "cpu")
    refused(zoo(*ask, cwd=models), "--electronic")
    done = zoo(*ask, "--electronic", "2.3", cwd=models)
    assert done.returncode == 0, done.stderr
    assert "any polarisation: ε∞ 2.300" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--damping", "0"), "damping"),
        (("--range", "300", "100"), "from one wavenumber to a higher one"),
        (("--direction", "0", "0", "0"), "direction"),
        (("--electronic", "-1"), "not positive"),
    ],
)
def test_options_that_make_no_sense_are_one_line(models: Path, options: tuple[str, ...], words: str) -> None:
    refused(zoo("spectrum", "joint", "salt.cif", *options, "--device", "cpu", cwd=models), words)


def test_files_and_models_that_have_no_spectrum(models: Path) -> None:
    refused(zoo("spectrum", "joint", "nothing.cif", "--device", "cpu", cwd=models), "no such file")
    refused(zoo("spectrum", FORMAT_3, "salt.cif", "--device", "cpu", cwd=models), "nothing to explain")


def test_imaginary_polar_modes_are_refused_unless_they_are_left_out(models: Path) -> None:
    """A perovskite that is stretched in all directions is ferroelectric, and cubic it is unstable."""
    Structure(Lattice.cubic(4.6), ["Ba", "Ti", "O", "O", "O"], PEROVSKITE).to(filename=str(models / "bto.cif"))
    ask = ("spectrum", "joint", "bto.cif", "--device", "cpu")
    refused(zoo(*ask, cwd=models), "imaginary in the potential", "--without-imaginary")
    done = zoo(*ask, "--without-imaginary", cwd=models)
    assert done.returncode == 0, done.stderr


PEROVSKITE = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
