"""The model that comes with the zoo: it answers at once where no other is named, and fits into the wheel."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli import refused, zoo
from pymatgen.core import Lattice, Structure

import zoo as package
from zoo.model import checkpoint
from zoo.registry import box

MGO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])

SILICON = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])


def test_it_is_small_and_says_whose_data_it_learned_from() -> None:
    folder = box.folder_of(box.DEFAULT)
    assert folder is not None
    assert sum(path.stat().st_size for path in folder.glob("[!.]*")) < 12e6
    card = checkpoint.read_card(folder)
    assert len(card.members) == 5 and card.target.name == "dielectric" and card.target.main.name == "total"
    assert {part.name for part in card.target.parts} == {"electronic", "ionic", "total"}
    assert "/" not in "".join(str(choice.settings.get("path", "")) for choice in card.recipe.auxiliary)
    page = (folder / "card.html").read_text()
    for name in ("petousis2017", "phonondb2018", "petretto2018"):
        assert name in page
    assert "CC BY 4.0" in page


def test_it_answers_in_python() -> None:
    answer = package.predict(MGO)
    known = {"electronic": 3.0, "ionic": 6.9}  # experiment: Fontanella et al., J. Appl. Phys. 45, 2852 (1974)
    for name, value in known.items():
        part = answer.parts[name]
        assert part.polycrystalline == pytest.approx(value, rel=0.25)
        low, high = part.intervals["polycrystalline"]
        assert low < part.polycrystalline < high
    np.testing.assert_allclose(answer.tensor, answer.tensor[0, 0] * np.eye(3), atol=1e-3)
    assert [one.formula for one in package.predict([MGO, MGO])] == ["MgO", "MgO"]


def test_what_symmetry_forces_has_no_width() -> None:
    """A cubic crystal is isotropic, and the ions of silicon add nothing; that of a strained one is not known."""
    for crystal in (MGO, SILICON):
        answer = package.predict(crystal)
        assert answer.intervals["anisotropy"] == answer.parts["electronic"].intervals["anisotropy"] == [1.0, 1.0]
        low, high = answer.intervals["polycrystalline"]
        assert low < high
    assert answer.parts["ionic"].intervals == {"polycrystalline": [0, 0], "eigenvalues": [[0, 0]] * 3}
    assert answer.parts["ionic"].tensor_radius == 0
    strained = package.predict(Structure(Lattice.tetragonal(4.21, 4.25), MGO.species, MGO.frac_coords))
    low, high = strained.intervals["anisotropy"]
    assert low < high


def test_zeros_are_zeros_in_python_and_in_a_csv_too(tmp_path: Path) -> None:
    """Float32 leaves some 1e-7 beside the diagonal of a cubic tensor, and silicon's ionic one some 1e-12 in all."""
    answer = package.predict(SILICON)
    assert np.count_nonzero(answer.tensor) == 3
    assert not answer.parts["ionic"].tensor.any()
    SILICON.to(str(tmp_path / "Si.cif"))
    MGO.to(str(tmp_path / "MgO.cif"))
    # The anisotropy of a tensor of zeros is not defined, that of the next is: each row has all columns.
    result = zoo("predict", "Si.cif", "MgO.cif", "--format", "csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    silicon, oxide = csv.DictReader(result.stdout.splitlines())
    assert silicon["ionic_xx"] == silicon["total_xy"] == "0" and silicon["ionic_anisotropy_high"] == ""
    assert oxide["ionic_anisotropy_high"] == "1.0"


def test_every_door_takes_it_where_no_model_is_named(tmp_path: Path) -> None:
    MGO.to(str(tmp_path / "MgO.cif"))
    (answer,) = json.loads(zoo("predict", "MgO.cif", "--format", "json", cwd=tmp_path).stdout)
    named = zoo("predict", box.DEFAULT, "MgO.cif", "--format", "json", cwd=tmp_path)
    assert answer == json.loads(named.stdout)[0]
    listed = json.loads(zoo("models", "--json", cwd=tmp_path).stdout)
    assert [one["model"] for one in listed] == box.names()


def test_it_is_evaluated_without_the_data_that_it_was_trained_on(tmp_path: Path) -> None:
    """A crystal with formula and crystal system of a training crystal counts as seen: MgO does, tetragonal NaCl not."""
    salt = Structure(Lattice.tetragonal(4.2, 6.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    content = {
        "MgO": {"structure": MGO.as_dict(), "total": np.diag([9.9, 9.9, 9.9]).tolist()},
        "salt": {"structure": salt.as_dict(), "total": np.diag([6.0, 6.0, 5.0]).tolist()},
    }
    (tmp_path / "mine.json").write_text(json.dumps(content))
    found = json.loads(zoo("evaluate", "mine.json", "--format", "json", cwd=tmp_path).stdout)
    assert found["model"] == box.DEFAULT
    assert [(one["key"], one["stage"]) for one in found["left_out"]] == [("MgO", "seen")]
    assert found["errors"]["all"]["n"] == 1


def test_a_word_that_can_only_be_a_model_is_one(tmp_path: Path) -> None:
    MGO.to(str(tmp_path / "MgO.cif"))
    refused(zoo("predict", "my-model", "MgO.cif", cwd=tmp_path), "my-model", box.DEFAULT)
    refused(zoo("predict", box.DEFAULT, cwd=tmp_path), "name the files")
    refused(zoo("predict", "missing.cif", cwd=tmp_path), "missing.cif")
    many = zoo("predict", "missing.cif", "MgO.cif", cwd=tmp_path)
    assert "MgO" in many.stdout and "missing.cif" in many.stderr and many.returncode == 2


@pytest.mark.extended
def test_it_needs_no_extra_and_no_network(tmp_path: Path) -> None:
    MGO.to(str(tmp_path / "MgO.cif"))
    hide = (
        "import sys, socket\n"
        "for name in ('sevenn', 'dash', 'ray', 'phonopy'): sys.modules[name] = None\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "sys.argv = ['zoo', 'predict', 'MgO.cif', '--format', 'json']\n"
        "from zoo.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", hide], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["formula"] == "MgO"
