"""Files of crystals: each format gives back the crystal that was written to it, each bad file gives one error line."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import pickle
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.io.jsonio import write_json
from cli import refused, zoo
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

import zoo as package
from zoo.data.crystal_files import NamedCrystal, crystals_in, stem_of
from zoo.data.file_kinds import KINDS, kind_by_name, kind_named
from zoo.data.inputs import structure_of
from zoo.data.petousis2017 import Petousis2017
from zoo.errors import ZooError

MODEL = Path(__file__).parents[1] / "checkpoints" / "format_4"
RECORDS = list(Petousis2017(Petousis2017.Hypers()).records())
FIRST, SECOND = [record.structure for record in RECORDS if 2 < len(record.structure) < 8][:2]


def atoms(structure: Structure) -> Atoms:
    found = AseAtomsAdaptor.get_atoms(structure)
    found.info.clear()
    return found


def db(path: Path, several: list[Structure]) -> None:
    with ase.db.connect(path) as database:
        for structure in several:
            database.write(atoms(structure), key_value_pairs={"gap": 1.5}, data={"big": np.ones(9)})


def packed(path: Path, opened: Callable[..., Any], text: str) -> None:
    with opened(path, "wt") as file:
        file.write(text)


def by_ase(kind: str, **more: Any) -> Callable[[Path], None]:
    return lambda path: ase.io.write(path, atoms(FIRST), format=kind, **more)


PSEUDO = dict.fromkeys(atoms(FIRST).get_chemical_symbols(), "x")
ONE: dict[str, Callable[[Path], Any]] = {
    "a.json": lambda path: FIRST.to(str(path)),
    "a.json.gz": lambda path: packed(path, gzip.open, FIRST.to_json()),
    "atoms.json": lambda path: write_json(path, atoms(FIRST)),
    "entry.json": lambda path: path.write_text(json.dumps({"structure": FIRST.as_dict(), "energy": 1.0})),
    "a.cif": lambda path: path.write_text(str(CifWriter(FIRST))),
    "a.cif.gz": lambda path: packed(path, gzip.open, str(CifWriter(FIRST))),
    "a.cif.bz2": lambda path: packed(path, bz2.open, str(CifWriter(FIRST))),
    "article.cif": lambda path: path.write_text(
        f"data_global\n_journal_name_full 'x'\n{CifWriter(FIRST, symprec=0.1)}"
    ),
    "moments.mcif": lambda path: CifWriter(
        FIRST.copy(site_properties={"magmom": [1.0] * len(FIRST)}), write_magmoms=True
    ).write_file(path),
    "POSCAR": by_ase("vasp"),
    "CONTCAR.relaxed": by_ase("vasp"),
    "a.traj": by_ase("traj"),
    "a.db": lambda path: db(path, [FIRST]),
    "a.extxyz": by_ase("extxyz"),
    "a.xsf": by_ase("xsf"),
    "a.pwi": by_ase("espresso-in", pseudopotentials=PSEUDO),
    "a.gen": by_ase("gen"),
    "a.cell": by_ase("castep-cell"),
    "a.res": by_ase("res"),
    "a.struct": by_ase("struct"),
    "a.cube": by_ase("cube", data=np.zeros((2, 2, 2))),
    "a.xsd": by_ase("xsd"),
    "a.f34": by_ase("crystal"),
    "a.magres": by_ase("magres"),
    "geometry.in": by_ase("aims"),
    "CONFIG": by_ase("dlp4"),
}
"""Name of a file -> what writes FIRST into it, as its makers do."""

TOLD_BY_CONTENT = [
    "a.json", "a.cif", "a.cif.gz", "a.cif.bz2", "POSCAR", "a.traj", "a.db", "a.extxyz", "a.xsf", "a.pwi", "a.gen",
    "a.cell", "geometry.in",
]  # fmt: skip


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(found: Structure | ZooError, expected: Structure, within: float = 2e-3) -> None:
    """Compare distances between atoms: formats have their own number of digits, and CIFs a frame of their own."""
    assert isinstance(found, Structure), found
    assert sorted(map(str, found.species)) == sorted(map(str, expected.species))
    np.testing.assert_allclose(found.volume, expected.volume, rtol=1e-3)
    np.testing.assert_allclose(
        np.sort(found.distance_matrix.ravel()), np.sort(expected.distance_matrix.ravel()), atol=within
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ONE)
def test_each_format_gives_the_crystal(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ONE[name](tmp_path / name)
    before = names_in(tmp_path)
    (crystal,) = crystals_in([name])
    same(crystal.structure, FIRST)
    if not name.endswith(".db"):  # a row has an id
        assert crystal.name == name
    same(structure_of(tmp_path / name), FIRST)
    assert names_in(tmp_path) == before, "reading writes nothing"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TOLD_BY_CONTENT)
def test_standard_input_and_unknown_names_tell_by_content(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ONE[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    (crystal,) = crystals_in(["-"])
    same(crystal.structure, FIRST)
    assert crystal.file == "stdin"
    if not name.endswith((".gz", ".bz2")):  # what is packed is known by its name
        (tmp_path / "unnamed").write_bytes(content)
        (crystal,) = crystals_in([str(tmp_path / "unnamed")])
        same(crystal.structure, FIRST)


SEVERAL: dict[str, Callable[[Path], Any]] = {
    "a.cif": lambda path: path.write_text(f"{CifWriter(FIRST)}data_words\n_journal_year 2020\n{CifWriter(SECOND)}"),
    "a.json": lambda path: path.write_text(json.dumps([FIRST.as_dict(), SECOND.as_dict()])),
    "records.json": lambda path: path.write_text(json.dumps([{"structure": one.as_dict()} for one in (FIRST, SECOND)])),
    "a.extxyz": lambda path: ase.io.write(path, [atoms(FIRST), atoms(SECOND)]),
    "a.traj": lambda path: ase.io.write(path, [atoms(FIRST), atoms(SECOND)]),
    "a.db": lambda path: db(path, [FIRST, SECOND]),
    "db.json": lambda path: db(path, [FIRST, SECOND]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEVERAL)
def test_several_in_a_file_have_a_name_each(name: str, tmp_path: Path) -> None:
    SEVERAL[name](tmp_path / name)
    path = str(tmp_path / name)
    first, second = crystals_in([path])
    assert (first.name, second.name) == (f"{path}#1", f"{path}#2")
    same(first.structure, FIRST)
    same(second.structure, SECOND)
    (again,) = crystals_in([f"{path}#2"])
    same(again.structure, SECOND)
    assert again.name == second.name
    (missing,) = crystals_in([f"{path}#3"])
    assert "no crystal of its 2 is called '3'" in str(missing.structure)
    same(structure_of(f"{path}#1"), FIRST)
    with pytest.raises(ZooError, match=r"several crystals; name one.*#1"):
        structure_of(path)
    assert [one.formula for one in package.structures(path)] == [FIRST.formula, SECOND.formula]


def test_names_come_from_keys_and_from_the_materials_project(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"quartz": FIRST.as_dict()}))
    (tmp_path / "b.json").write_text(json.dumps([{"material_id": "mp-7", "structure": FIRST.as_dict()}]))
    assert [Path(one.name).name for one in crystals_in(map(str, sorted(tmp_path.iterdir())))] == [
        "a.json#quartz",
        "b.json#mp-7",
    ]


def test_a_trajectory_is_read_as_ase_reads_it(tmp_path: Path) -> None:
    """Moved, strained, constrained, with results, as a relaxation writes it: what is the same is written once."""
    frames = []
    for step in range(4):
        frame = atoms(FIRST)
        frame.set_cell(frame.cell * (1 + 0.01 * step), scale_atoms=True)
        frame.set_constraint(FixAtoms([0]))
        frame.info["array"] = np.arange(3)
        frames.append(frame)
    ase.io.write(tmp_path / "relaxed.traj", frames)
    for frame, crystal in zip(frames, crystals_in([str(tmp_path / "relaxed.traj")]), strict=True):
        assert isinstance(crystal.structure, Structure)
        np.testing.assert_allclose(crystal.structure.lattice.matrix, frame.cell.array, rtol=1e-12)
        np.testing.assert_allclose(crystal.structure.cart_coords, frame.positions, atol=1e-9)


def reasons(folder: Path, *names: str, kind: str | None = None) -> dict[str, str]:
    return {
        Path(one.file).name: str(one.structure)
        for one in crystals_in([str(folder / name) for name in names], kind)
        if isinstance(one.structure, ZooError)
    }


@pytest.mark.filterwarnings("ignore")
def test_molecules_get_one_clear_line(tmp_path: Path) -> None:
    water = molecule("H2O")
    for name in ("w.xyz", "w.extxyz", "w.traj", "w.gen", "w.db", "w.json"):
        ase.io.write(tmp_path / name, water)
    Molecule(["O"], [[0, 0, 0]]).to(str(tmp_path / "m.json"))
    found = reasons(tmp_path, *names_in(tmp_path))
    assert len(found) == 7
    for name, line in found.items():
        assert name in line and line.endswith("is a molecule, without a cell: only crystals are answered"), line
    for given in (water, Molecule(["O"], [[0, 0, 0]]), Molecule(["O"], [[0, 0, 0]]).as_dict()):
        with pytest.raises(ZooError, match="without a cell"):
            structure_of(given)


def test_partly_occupied_sites_of_ase_are_seen(tmp_path: Path) -> None:
    mixed = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    CifWriter(mixed).write_file(tmp_path / "mixed.cif")
    with pytest.raises(ZooError, match="partly occupied"):
        structure_of(ase.io.read(tmp_path / "mixed.cif"))
    (tmp_path / "whole.cif").write_text(str(CifWriter(FIRST)))
    same(structure_of(ase.io.read(tmp_path / "whole.cif")), FIRST)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.system, (f"touch {tmp_path / 'harm'}",))

    for name in ("a.pkl", "a.pickle", "a.dat", "unnamed", "a.traj", "a.db", "a.json", "a.pkl.gz"):
        content = pickle.dumps(Harm())
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    found = reasons(tmp_path, *names_in(tmp_path))
    assert len(found) == 8 and not (tmp_path / "harm").exists()
    for name in ("a.pkl", "a.pickle", "a.dat", "unnamed", "a.pkl.gz"):
        assert "is a pickle" in found[name]


def test_arrays_are_no_larger_than_their_file(tmp_path: Path) -> None:
    """ASE's decoder fills an array of the size that a file says with one number: 80 GB from a few bytes."""
    bomb = {"__ndarray__": [[10**10], "float64", [0.0]]}
    row = {"numbers": bomb, "positions": bomb, "cell": bomb, "pbc": [True] * 3}
    (tmp_path / "a.json").write_text(json.dumps({"1": row, "ids": [1], "nextid": 2}))
    ase.io.write(tmp_path / "a.traj", atoms(FIRST))
    data = (tmp_path / "a.traj").read_bytes()
    shape = f'"ndarray": [[{len(FIRST)}, 3]'.encode()
    assert data.count(shape) == 1
    (tmp_path / "a.traj").write_bytes(data.replace(shape, b'"ndarray": [[9, 3]'))
    count = data[32:40]
    (tmp_path / "b.traj").write_bytes(data.replace(count, (2**60).to_bytes(8, "little"), 1))
    assert set(reasons(tmp_path, *names_in(tmp_path))) == {"a.json", "a.traj", "b.traj"}


@pytest.mark.parametrize(
    "table",
    [
        "CREATE VIEW systems AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) "
        "SELECT x AS id, x AS numbers, x AS positions, x AS cell, x AS pbc FROM n",
        "CREATE TABLE systems (id, numbers AS (zeroblob(900000000)), positions, cell, pbc)",
        "CREATE TABLE others (id)",
    ],
)
def test_a_database_runs_nothing(table: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute(table)
    assert "no database of ASE" in reasons(tmp_path, "a.db")["a.db"]


def test_castep_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASE's reader of .cell would run what CASTEP_COMMAND says."""
    ase.io.write(tmp_path / "a.cell", atoms(FIRST))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASTEP_COMMAND", f"touch {tmp_path / 'ran'}; false")
    (crystal,) = crystals_in(["a.cell"])
    same(crystal.structure, FIRST)
    assert names_in(tmp_path) == ["a.cell"]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder as people have them."""
    folder = tmp_path / "mine"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / "a.cif").write_text(str(CifWriter(FIRST)))
    (folder / ".hidden" / "a.cif").write_text("x")
    SECOND.to(str(folder / "deep" / "b.json"))
    ase.io.write(folder / "deep" / "deeper" / "POSCAR", atoms(FIRST), format="vasp")
    ase.io.write(folder / "deep" / "c.traj", [atoms(FIRST), atoms(SECOND)])
    for name in ("notes.txt", "OUTCAR", "POTCAR", "table.csv"):
        (folder / name).write_text("words")
    (folder / "deep" / "broken.cif").write_text("data_x\n")
    (folder / "meta.json").write_text('{"a": 1}')
    return folder


def test_a_folder_is_walked_and_counted(mixed: Path) -> None:
    lines: list[str] = []
    found = list(crystals_in([str(mixed)], None, lines.append))
    names = [str(Path(one.file).relative_to(mixed)) + ("" if one.alone else f"#{one.key}") for one in found]
    assert names == ["a.cif", "deep/b.json", "deep/broken.cif", "deep/c.traj#1", "deep/c.traj#2", "deep/deeper/POSCAR"]
    assert [one.file for one in found if isinstance(one.structure, ZooError)] == [str(mixed / "deep" / "broken.cif")]
    assert lines[0].startswith(f"{mixed}: 6 files of crystals; 4 passed over (")
    assert "meta.json: none of its 1 records is a crystal" in lines[1] and len(lines) == 2


def test_folders_and_standard_input_on_the_command_line(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = zoo("predict", str(MODEL), "mine", "gone.cif", "--format", "json", cwd=tmp_path)
    refused(result, "no answer for 2 of 7 crystals")
    for words in ("mine: 6 files of crystals", "warning: mine/deep/broken.cif: ", "warning: gone.cif: no such file"):
        assert words in result.stderr
    answers = {one["file"]: one for one in json.loads(result.stdout)}
    assert [name for name, one in answers.items() if "error" in one] == ["mine/deep/broken.cif", "gone.cif"]
    text = str(CifWriter(FIRST)).encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    result = zoo("predict", str(MODEL), "-", "--input-format", "cif", "--format", "csv", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.splitlines()[1].startswith("stdin,")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"nothing like it")))
    refused(zoo("predict", str(MODEL), "-", cwd=tmp_path), "stdin: neither a CIF")
    refused(zoo("predict", str(MODEL), "mine", "--input-format", "ciff", cwd=tmp_path), "Did you mean 'cif'?")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "meta.json").write_text('{"a": 1}')
    refused(zoo("predict", str(MODEL), "empty", cwd=tmp_path), "empty: no file of crystals")
    refused(zoo("predict", str(MODEL), "", cwd=tmp_path), "the name of a file is empty")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_closed_folder_below_is_named(mixed: Path) -> None:
    (mixed / "deep" / "deeper").chmod(0)
    found = list(crystals_in([str(mixed)]))
    (mixed / "deep" / "deeper").chmod(0o700)
    assert len(found) == 6 and "Permission denied" in str(found[0].structure)


def test_python_takes_dicts_and_lists_of_all(tmp_path: Path) -> None:
    predictor = package.load(MODEL, device="cpu")
    FIRST.to(str(tmp_path / "a.json"))
    given = [FIRST, FIRST.as_dict(), atoms(FIRST), atoms(FIRST).todict(), tmp_path / "a.json"]
    expected = predictor.predict(FIRST).tensor
    for answer in predictor.predict(given):
        np.testing.assert_allclose(answer.tensor, expected, atol=1e-4)
    np.testing.assert_allclose(predictor.predict(FIRST.as_dict()).tensor, expected, atol=1e-4)


def test_formats_are_told_by_names(tmp_path: Path) -> None:
    for name, kind in {
        "x.MCIF": "cif", "x.cif.GZ": "cif", "POSCAR.mp-1": "poscar", "a_POSCAR.txt": None, "XDATCAR": "vasp-xdatcar",
        "my.OUTCAR": "vasp-out", "vasprun.xml.gz": "vasp-xml", "x.txt": None, "geometry.in.next_step": "aims",
    }.items():  # fmt: skip
        assert kind_by_name(name) == kind, name
    assert kind_named("PWI") == "espresso-in" and kind_named(".xyz") == "extxyz"
    assert all(kind_named(kind) == kind for kind in KINDS)
    names = {"a/quartz.cif.gz": "quartz", "POSCAR.mp-1": "POSCAR.mp-1", "my.relaxed.vasp": "my.relaxed"}
    for file, stem in names.items():
        assert stem_of(file) == stem
    assert NamedCrystal("a/b.traj", "2", FIRST, alone=False).file_name == "b_2"
