"""Crystals that two sources have in common, and the command that lists them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli import refused, zoo
from pymatgen.core import Lattice, Structure
from tiny_labels import petretto_row, phonondb_row, write_petretto, write_phonondb

from zoo.contract.plugin import Record
from zoo.data.petousis2017 import Petousis2017
from zoo.data.phonondb2018 import PhononDB2018
from zoo.data.twins import mp_id, twins

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def record(key: str, structure: Structure = SALT, scale: float = 1.0, **properties: Any) -> Record:
    changed = structure.copy()
    changed.scale_lattice(changed.volume * scale)
    return Record(key, changed, {"total": np.eye(3)}, properties)


def told(a: list[Record], b: list[Record]) -> list[tuple[str, str, str]]:
    return [(twin.a, twin.b, twin.by) for twin in twins(a, b)]


def test_by_id() -> None:
    assert mp_id(record("mp-1")) == "mp-1" and mp_id(record("x", mp_id="mvc-2")) == "mvc-2"
    assert mp_id(record("x")) is mp_id(record("x", mp_id=None)) is mp_id(record("mp-1-2")) is None
    other = Structure(Lattice.cubic(4), ["Po"], [[0, 0, 0]])
    a = [record("mp-1"), record("mp-2", other)]
    b = [record("b1", mp_id="mp-1", scale=1.2), record("b2", other, mp_id="mp-2"), record("b3", mp_id="mp-1")]
    assert told(a, b) == [("mp-1", "b1", "id"), ("mp-1", "b3", "id"), ("mp-2", "b2", "id")]


def test_a_crystal_without_id_is_joined_to_none_without() -> None:
    """Two that have none are twins by formula and space group alone."""
    other = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert told([record("x", mp_id=None)], [record("y", other, mp_id=None)]) == []
    assert told([record("x")], [record("y", SALT.get_primitive_structure(), 1.1)]) == [("x", "y", "space group")]
    assert told([record("mp-1")], [record("y", scale=0.9)]) == [("mp-1", "y", "space group")]


def test_where_it_is_in_doubt_structures_are_compared() -> None:
    """Two crystals of one formula and space group, or two ids; twins are told by structure whatever the volume."""
    stacked = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(9), ["Na", "Cl"], [[0.25, 0.25, 0.25], [0.16, 0.16, 0.16]]
    )
    assert stacked.composition.reduced_formula != SALT.composition.reduced_formula
    quartz = Structure.from_spacegroup(
        152, Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.470, 0, 1 / 3], [0.413, 0.267, 0.214 + 1 / 3]]
    )
    # Another one in the same group: far from it in the coordinates.
    bent = Structure.from_spacegroup(
        152, Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.250, 0, 1 / 3], [0.413, 0.067, 0.114 + 1 / 3]]
    )
    mirrored = Structure(Lattice(-quartz.lattice.matrix), quartz.species, quartz.frac_coords)
    assert told([record("a", quartz), record("b", bent)], [record("c", quartz, 1.1)]) == [("a", "c", "structure")]
    assert told([record("mp-1", quartz)], [record("mp-2", bent)]) == []
    assert told([record("mp-1", quartz)], [record("mp-2", quartz, 0.95)]) == [("mp-1", "mp-2", "structure")]
    assert told([record("a", quartz)], [record("b", mirrored)]) == [("a", "b", "space group")], "152 and 154"


def test_command(tmp_path: Path) -> None:
    write_phonondb(tmp_path, [phonondb_row("mp-1"), phonondb_row("mp-2", lattice=np.diag([4.0, 4, 5]).tolist())])
    write_petretto(tmp_path, [petretto_row("mp-1"), petretto_row(None)])
    a, b = (f"{{name: {name}, path: '{tmp_path}'}}" for name in ("phonondb2018", "petretto2018"))
    result = zoo("data", "overlaps", a, b, "--out", "out/pairs.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "phonondb2018: 2 crystals (PBEsol 2)" in result.stdout
    assert "2 pairs of twins: 1 by Materials Project id, 0 by formula and space group, 1 by structure" in result.stdout
    rows = list(csv.DictReader((tmp_path / "out" / "pairs.csv").open()))
    assert [(row["a"], row["b"], row["by"]) for row in rows] == [
        ("phonondb-mp-1", "petretto-mp-1", "id"),
        ("phonondb-mp-1", "petretto-row-0001", "structure"),
    ]
    assert rows[0]["functional_b"] == "PBEsol" and float(rows[0]["volume_a"]) == pytest.approx(34.4605)
    shown = zoo("data", "overlaps", a, b, cwd=tmp_path)
    assert "petretto-row-0001" in shown.stdout


def test_command_without_twins_and_with_files(tmp_path: Path) -> None:
    content = {"a": {"structure": SALT.as_dict(), "total": np.eye(3).tolist(), "functional": "PBEsol"}}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    (tmp_path / "empty.json").write_text("{}")
    result = zoo("data", "overlaps", "mine.json", "elastic2015", "--out", "none.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "mine.json: 1 crystals (PBEsol 1)" in result.stdout
    assert (tmp_path / "none.csv").read_text().startswith("a,b,by,formula,")
    refused(zoo("data", "overlaps", "mine.json", "petous", cwd=tmp_path), "no dataset, file or recipe")
    refused(zoo("data", "overlaps", "mine.json", "none.json", cwd=tmp_path), "no such file")
    refused(zoo("data", "overlaps", "mine.json", "empty.json", cwd=tmp_path), "no record that can be read")
    refused(zoo("data", "overlaps", "mine.json", "mine.json", "--out", "x.txt", cwd=tmp_path), "name it .csv")


@pytest.mark.shared
def test_real(shared_data: Path) -> None:
    if not (shared_data / "phonondb2018.json.gz").is_file():
        pytest.skip("../shared/data/phonondb2018.json.gz is not there")
    ours = list(Petousis2017(Petousis2017.Hypers()).records())
    theirs = list(PhononDB2018(PhononDB2018.Hypers(path=str(shared_data))).records())
    found = twins(ours, theirs)
    assert sum(twin.by == "id" for twin in found) == 652
    assert len(found) >= 664
