import gzip
import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Lattice, Structure

from zoo.config import plugins
from zoo.contract.plugin import BadRecord, Record
from zoo.data.file import File
from zoo.data.formats import csv_fingerprint
from zoo.errors import ZooError

TENSORS = {
    "rutile": np.array([[7.0, 0.5, 0.2], [0.5, 6.0, 0.1], [0.2, 0.1, 8.0]]),
    "salt": 2.3 * np.eye(3),
}


@pytest.fixture
def crystals():
    skewed = Lattice([[4.6, 0.2, 0.1], [0.0, 4.5, 0.3], [-0.2, 0.0, 2.9]])
    return {
        "rutile": Structure(skewed, ["Ti", "O"], [[0.1, 0.2, 0.3], [0.6, 0.5, -0.4]]),
        "salt": Structure(Lattice([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]), ["Na", "Cl"], [[0] * 3, [0.5] * 3]),
    }


def records(path, **hypers):
    return list(File(File.Hypers(path=str(path), **hypers)).records())


def entry(structure, tensor, **more):
    return {"structure": structure.as_dict(), "total": tensor.tolist(), **more}


def assert_same_crystals(read, crystals, frame_kept=True):
    assert [type(record) for record in read] == [Record] * len(crystals), read
    for record, (key, structure) in zip(read, crystals.items(), strict=True):
        assert record.key == key
        assert record.structure.atomic_numbers == structure.atomic_numbers
        np.testing.assert_allclose(record.targets["total"], TENSORS[key], atol=1e-12)
        if frame_kept:
            np.testing.assert_allclose(record.structure.lattice.matrix, structure.lattice.matrix, atol=1e-6)
            np.testing.assert_allclose(record.structure.frac_coords, structure.frac_coords, atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_json_object(crystals, tmp_path, packed):
    content = json.dumps({key: entry(s, TENSORS[key], band_gap=1.5) for key, s in crystals.items()}).encode()
    path = tmp_path / ("data.json.gz" if packed else "data.json")
    path.write_bytes(gzip.compress(content) if packed else content)
    read = records(path)
    assert_same_crystals(read, crystals)
    assert read[0].properties == {"source": path.name, "band_gap": 1.5}


def test_json_list(crystals, tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([entry(s, TENSORS[key], id=key) for key, s in crystals.items()]))
    assert_same_crystals(records(path, key="id"), crystals)
    assert [record.key for record in records(path)] == ["000000", "000001"]


def test_extxyz(crystals, tmp_path):
    path = tmp_path / "data.extxyz"
    frames = []
    for (key, s), tensor in zip(crystals.items(), (TENSORS["rutile"], TENSORS["salt"].ravel()), strict=True):
        frames.append(Atoms(s.atomic_numbers, cell=s.lattice.matrix, positions=s.cart_coords, pbc=True))
        frames[-1].info.update(key=key, total=tensor, space_group=1)
    ase.io.write(path, frames)
    read = records(path)
    assert_same_crystals(read, crystals)
    assert read[1].properties["space_group"] == 1


def test_extxyz_keeps_rows_and_columns_apart(crystals, tmp_path):
    """Nine numbers are row by row, also through a name that ASE takes for a calculator's result."""
    tensor = np.arange(9.0).reshape(3, 3)
    s = crystals["salt"]
    atoms = Atoms(s.atomic_numbers, cell=s.lattice.matrix, positions=s.cart_coords, pbc=True)
    atoms.info["dielectric_tensor"] = tensor.ravel()
    ase.io.write(tmp_path / "data.xyz", atoms, format="extxyz")
    (record,) = records(tmp_path / "data.xyz", targets={"dielectric_tensor": {"formula": "ij"}})
    np.testing.assert_allclose(record.targets["dielectric_tensor"], tensor, atol=1e-12)


def test_csv_with_json_column(crystals, tmp_path):
    (tmp_path / "structures").mkdir()
    lines = ["name,cif,total,space_group,note"]
    for key, structure in crystals.items():
        structure.to(filename=str(tmp_path / "structures" / f"{key}.vasp"), fmt="poscar")
        lines.append(f'{key},structures/{key}.vasp,"{json.dumps(TENSORS[key].tolist())}",1,"mine"')
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    read = records(tmp_path / "data.csv", key="name")
    assert_same_crystals(read, crystals)
    assert read[0].properties == {
        "source": "data.csv", "name": "rutile", "cif": "structures/rutile.vasp", "space_group": 1, "note": "mine",
    }  # fmt: skip


def test_csv_with_component_columns(crystals, tmp_path):
    lines = ["structure,total_xx,total_yy,total_zz,total_yz,total_zx,total_xy"]
    for key, structure in crystals.items():
        structure.to(filename=str(tmp_path / f"{key}.cif"))
        t = TENSORS[key]
        lines.append(f"{key}.cif,{t[0, 0]},{t[1, 1]},{t[2, 2]},{t[1, 2]},{t[2, 0]},{t[0, 1]}")
    (tmp_path / "data.csv").write_text("\n".join(lines))
    read = records(tmp_path / "data.csv", structure="structure")
    assert [record.key for record in read] == ["rutile.cif", "salt.cif"]
    for record, tensor in zip(read, TENSORS.values(), strict=True):
        np.testing.assert_allclose(record.targets["total"], tensor)


def test_each_bad_row_of_a_csv_is_named(crystals, tmp_path):
    crystals["salt"].to(filename=str(tmp_path / "salt.cif"))
    (tmp_path / "broken.cif").write_text("data_x\n_cell_length_a 3\n")
    crystals["rutile"][0] = {"Ti": 0.9}
    crystals["rutile"].to(filename=str(tmp_path / "partial.cif"))
    (tmp_path / "data.csv").write_text(
        "key,cif,total_xx,total_yy,total_zz,total_xy,total_xz,total_yz\n"
        "broken,broken.cif,1,1,1,0,0,0\n"
        "partial,partial.cif,1,1,1,0,0,0\n"
        "lost,lost.cif,1,1,1,0,0,0\n"
        "hole,salt.cif,1,1,1,0,0,\n"
        "none,salt.cif,,,,,,\n"
        "text,salt.cif,1,1,one,0,0,0\n"
        "nofile,,1,1,1,0,0,0\n"
        f"long,{'é' * 200}.cif,1,1,1,0,0,0\n"  # more bytes than a name may have, and fewer letters
        f"deep,{'x/' * 3000}x.cif,1,1,1,0,0,0\n"
        "good,salt.cif,1,1,1,0,0,0\n"
    )
    read = records(tmp_path / "data.csv")
    reasons = {record.key: record.reason for record in read if isinstance(record, BadRecord)}
    assert [record.key for record in read if isinstance(record, Record)] == ["good"]
    for key, words in {
        "broken": "cannot be read as a crystal structure",
        "partial": "partly occupied",
        "lost": "no such file",
        "hole": "'total' holds NaN",
        "none": "has no 'total'",
        "text": "'total' is no 3×3 array of numbers",
        "nofile": "row 8 has no 'cif'",
        "long": "no file has so long a name",
        "deep": "no file has so long a name",
    }.items():
        assert words in reasons.pop(key)
    assert not reasons
    assert csv_fingerprint(tmp_path / "data.csv")


def test_each_bad_entry_of_a_json_is_named(crystals, tmp_path):
    salt = crystals["salt"]
    content = {
        "flat": entry(salt, np.eye(2)),
        "nan": entry(salt, np.diag([1, np.nan, 1])),
        "skew": entry(salt, np.array([[1.0, 9, 0], [0, 1, 0], [0, 0, 1]])),
        "null": {"structure": salt.as_dict(), "total": None},
        "structureless": {"total": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]},
        "number": 3,
        "good": entry(salt, np.eye(3)),
    }
    (tmp_path / "data.json").write_text(json.dumps(content))
    read = records(tmp_path / "data.json")
    reasons = {record.key: record.reason for record in read if isinstance(record, BadRecord)}
    assert [record.key for record in read] == list(content)
    for key, words in {
        "flat": "must be 3×3, it is 2×2",
        "nan": "NaN",
        "skew": "breaks its index symmetry",
        "null": "has no 'total'",
        "structureless": "has no 'structure'",
        "number": "is no JSON object",
    }.items():
        assert words in reasons.pop(key)
    assert not reasons


def test_a_broken_frame_does_not_take_the_next_along(tmp_path):
    good = '1\nLattice="3 0 0 0 3 0 0 0 3" key={} total="2 0 0 0 2 0 0 0 2"\nNa 0 0 0\n'
    broken = '1\nLattice="3 0 0 0 3 0 0 0 3" total="2 0 0 0 2 0 0 0 2"\nNa zero 0 0\n'
    molecule = '1\nkey=molecule total="2 0 0 0 2 0 0 0 2"\nNa 0 0 0\n'
    short = '2\nLattice="3 0 0 0 3 0 0 0 3" total="2 0 0 0 2 0 0 0 2"\nNa 0 0 0\n'
    (tmp_path / "data.extxyz").write_text(good.format("a") + broken + molecule + "\n" + good.format("b") + short)
    a, second, third, b, last = records(tmp_path / "data.extxyz")
    assert (a.key, b.key) == ("a", "b")
    assert second.key == "000001" and "extxyz frame" in second.reason
    assert third.key == "molecule" and "without a cell" in third.reason
    assert last.key == "000004" and "extxyz frame" in last.reason


def test_other_tensors(crystals, tmp_path):
    stiffness = np.einsum("ij,kl->ijkl", np.eye(3), np.eye(3)) * 50
    structure = crystals["salt"].as_dict()
    (tmp_path / "data.json").write_text(json.dumps({"a": {"structure": structure, "elastic": stiffness.tolist()}}))
    dataset = File(
        File.Hypers(path=str(tmp_path / "data.json"), targets={"elastic": {"formula": "ijkl=jikl=klij", "unit": "GPa"}})
    )
    target = dataset.targets()["elastic"]
    assert (target.rank, target.unit, target.quantity) == (4, "GPa", "")
    (record,) = dataset.records()
    np.testing.assert_allclose(record.targets["elastic"], stiffness, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("data.json", "{", "valid JSON"),
        ("data.json", "3", "object of records"),
        ("data.json", '{"mp-1": {}, "mp-1": {}}', "'mp-1' twice"),
        ("data.json.gz", "plain", "cannot be read"),
        ("data.csv", "", "is empty"),
        ("data.csv", "structure,total\n", "no column 'cif'; dataset.structure"),
        ("data.csv", "cif;total_xx\n", "parted by commas"),
        ("data.csv", "cif,total_xx,total_xy,total_xz,total_yy,total_yz\n", "no column 'total_zz'"),
        ("data.extxyz", "two\n\n", "number of atoms"),
        ("data.pkl", "", "unknown format"),
    ],
)
def test_a_file_that_cannot_be_read_stops_with_one_line(name, text, line, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ZooError, match=line):
        records(tmp_path / name)


@pytest.mark.parametrize("formula", ["ij=kl", "ii", "ij=ijk", "ij=", "-ij=ji", "IJ"])
def test_formulas_that_are_none_are_refused(formula):
    with pytest.raises(ZooError, match=r"targets\.total\.formula"):
        plugins.hypers("dataset", "file", {"path": "a.json", "targets": {"total": {"formula": formula}}})


def test_missing_path(tmp_path):
    with pytest.raises(ZooError, match="needs 'path'"):
        File(File.Hypers())
    with pytest.raises(ZooError, match="no such file"):
        records(tmp_path / "none.json")


def test_extxyz_and_csv_are_read_as_they_are_asked_for(tmp_path):
    """What comes before a break in a packed file is there before the break is found."""
    frame = '2\nLattice="4 0 0 0 4 0 0 0 4" pbc="T T T" total="2 0 0 0 2 0 0 0 2" key={}\nMg 0 0 0\nO 2 2 2\n'
    text = {
        "a.extxyz.gz": "".join(frame.format(f"k{i}") for i in range(2_000)),
        "a.csv.gz": "key,cif,total\n" + "".join(f"k{i},lost.cif,[]\n" for i in range(8_000)),
    }
    for name, content in text.items():
        packed = gzip.compress(content.encode())
        (tmp_path / name).write_bytes(packed[: len(packed) // 2])
        found = File(File.Hypers(path=str(tmp_path / name))).records()
        assert next(found).key == "k0"
        with pytest.raises(ZooError, match=f"{name}: cannot be read"):
            for _ in found:
                pass


def test_the_fingerprint_is_of_all_that_is_read(tmp_path):
    def fingerprint(name):
        return File(File.Hypers(path=str(tmp_path / name))).fingerprint()

    (tmp_path / "a.csv").write_text("key,cif,total\na,a.cif,1\nb,b.cif,2\n")
    (tmp_path / "a.cif").write_text("one")
    marks = [fingerprint("a.csv")]
    (tmp_path / "a.cif").write_text("two")
    marks.append(fingerprint("a.csv"))
    (tmp_path / "b.cif").write_text("two")
    marks.append(fingerprint("a.csv"))
    (tmp_path / "a.csv").write_text("key,cif,total\na,a.cif,1\nb,b.cif,3\n")
    marks.append(fingerprint("a.csv"))
    assert len(set(marks)) == 4 and marks[-1] == fingerprint("a.csv")
    for name in ("none.json", "none.csv"):
        with pytest.raises(ZooError, match=name):
            fingerprint(name)


def test_a_lattice_that_is_not_finite_does_not_hang(tmp_path):
    """LAPACK does not come back from its inverse."""
    head = 'Lattice="4 0 0 0 4 0 inf 0 4" Properties=species:S:1:pos:R:3 total="1 0 0 0 1 0 0 0 1" pbc="T T T"'
    (tmp_path / "data.extxyz").write_text(f"1\n{head}\nNa 0 0 0\n")
    (record,) = records(tmp_path / "data.extxyz")
    assert "infinite" in record.reason


def test_a_cell_that_is_nested_too_deeply_is_a_text(tmp_path):
    (tmp_path / "data.csv").write_text(f'cif,total\na.cif,"{"[" * 20_000}"\n')
    (record,) = records(tmp_path / "data.csv")
    assert "a.cif" in record.reason
