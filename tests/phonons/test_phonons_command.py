"""`zoo phonons`: tables, JSON, pictures, and one line for what cannot be computed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli import refused, zoo
from pymatgen.core import Lattice, Structure
from springs import salt

pytestmark = pytest.mark.sevennet


def test_table_and_picture(tmp_path: Path) -> None:
    salt().to(filename=str(tmp_path / "salt.cif"))
    done = zoo("phonons", "salt.cif", "--draw", "pictures", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("salt.cif: NaCl, 2 atoms in the primitive cell\n")
    assert "cm⁻¹" in done.stdout
    assert (tmp_path / "pictures" / "salt.png").stat().st_size > 5000


def test_the_modes_are_those_of_the_primitive_cell(tmp_path: Path) -> None:
    (salt() * (2, 1, 1)).to(filename=str(tmp_path / "twice.vasp"), fmt="poscar")
    done = zoo("phonons", "twice.vasp", "--format", "json", "--device", "cpu", cwd=tmp_path)
    (answer,) = json.loads(done.stdout)
    assert answer["atoms"] == 2
    assert [mode["degeneracy"] for mode in answer["modes"]] == [3]
    assert 130 < answer["modes"][0]["wavenumber"] < 200


def test_one_atom_and_a_large_force(tmp_path: Path) -> None:
    Structure(Lattice.cubic(2.5), ["Cu"], [[0, 0, 0]]).to(filename=str(tmp_path / "cu.cif"))
    Structure(Lattice.cubic(4.0), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.4]]).to(filename=str(tmp_path / "bent.cif"))
    done = zoo("phonons", "cu.cif", "bent.cif", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cu.cif: Cu, one atom in the primitive cell: no optic modes" in done.stdout
    assert "warning: bent.cif: a force of" in done.stderr
    done = zoo("phonons", "cu.cif", "--relax", "--device", "cpu", cwd=tmp_path)
    assert "relaxed at fixed cell: the atoms moved by 0.000 Å at most" in done.stdout, done.stderr


def test_relax(tmp_path: Path) -> None:
    """Wurtzite with u out of its place: cell and space group stay, the force goes, a rigid shift does not matter."""
    bent = Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.25, 5.21), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.39]]
    )
    bent.to(filename=str(tmp_path / "bent.cif"))
    found = {}
    for options in ((), ("--relax",)):
        done = zoo("phonons", "bent.cif", *options, "--format", "json", "--device", "cpu", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (found[options],) = json.loads(done.stdout)
    before, after = found[()], found[("--relax",)]
    assert before["largest_force"] > 0.1 and before["warnings"]
    assert after["largest_force"] < 2e-3 and not after["warnings"]
    assert 0.01 < after["moved"] < 0.1 and "moved" not in before
    assert [row["irrep"] for row in after["modes"]] == [row["irrep"] for row in before["modes"]]


def test_what_cannot_be_computed_is_one_line(tmp_path: Path) -> None:
    salt().to(filename=str(tmp_path / "salt.cif"))
    refused(zoo("phonons", "nothing.cif", "--device", "cpu", cwd=tmp_path), "nothing.cif", "no such file")
    refused(zoo("phonons", "salt.cif", "--potential", "nequip", cwd=tmp_path), "nequip")
    refused(zoo("phonons", "salt.cif", "--potential", "sevennett", cwd=tmp_path), "sevennet")
    done = zoo("phonons", "nothing.cif", "salt.cif", "--format", "json", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 2
    first, second = json.loads(done.stdout)
    assert first == {"file": "nothing.cif", "error": "no such file"}
    assert len(second["modes"]) == 1
