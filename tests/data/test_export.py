"""`zoo data export`: what is written reads back as the same crystals with the same tensors, in the CIF's frame."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from cli import refused, zoo
from pymatgen.core import Lattice, Structure

from zoo.contract.plugin import BadRecord, Record
from zoo.contract.target import TensorTarget
from zoo.data.export import export
from zoo.data.file import File
from zoo.data.frame import violation
from zoo.data.petousis2017 import Petousis2017
from zoo.data.tensors import DIELECTRIC
from zoo.errors import ZooError
from zoo.testing.compare import orthogonal_matrices


def read_back(table: Path, targets: dict) -> dict[str, Record]:
    records = list(File(File.Hypers(path=str(table), targets=targets)).records())
    assert not [r for r in records if isinstance(r, BadRecord)]
    return {record.key: record for record in records}


def test_a_dataset_comes_back(tmp_path: Path) -> None:
    assert zoo("data", "export", "petousis2017", "mine", "--limit", "40", cwd=tmp_path).returncode == 0
    names = {name: {"quantity": f"{name} dielectric"} for name in DIELECTRIC}
    back = read_back(tmp_path / "mine" / "tensors.csv", names)
    records = sorted(Petousis2017(Petousis2017.Hypers()).records(), key=lambda record: record.key)[:40]
    assert list(back) == [record.key for record in records]
    turned = 0
    for record in records:
        found = back[record.key]
        assert found.structure.composition == record.structure.composition
        assert found.structure.volume == pytest.approx(record.structure.volume, rel=1e-5)
        assert found.properties["band_gap"] == pytest.approx(record.properties["band_gap"])
        for name in DIELECTRIC:
            before, after = record.targets[name], found.targets[name]
            np.testing.assert_allclose(np.linalg.eigvalsh(after), np.linalg.eigvalsh(before), atol=1e-5)
            turned += not np.allclose(before, after, atol=1e-3)
        old, new = (violation(r, DIELECTRIC["total"], 0.01).residual for r in (record, found))
        assert new == pytest.approx(old, abs=1e-3), f"{record.key}: the tensor is not in the frame of its CIF"
    assert turned > 10, "no crystal of these had another frame: the test shows nothing"


@pytest.mark.parametrize("formula", ["ij=ji", "ijk=ikj", "ijkl=jikl=klij"])
def test_every_index_is_turned(tmp_path: Path, formula: str) -> None:
    """The tensor made of the lattice vectors themselves stays that of the lattice vectors."""
    target = TensorTarget("any", formula)
    turn = orthogonal_matrices(2, seed=3)[1].numpy()
    lattice = Lattice(Lattice.from_parameters(3.1, 4.2, 5.3, 81, 97, 104).matrix @ turn)
    structure = Structure(lattice, ["Ti", "O"], [[0, 0, 0], [0.4, 0.5, 0.6]])

    def of(vectors: np.ndarray) -> np.ndarray:
        a = vectors[0] / 3
        tensor = a
        for _ in range(target.rank - 1):
            tensor = np.multiply.outer(tensor, a)
        return tensor

    table = export([Record("x", structure, {"any": of(lattice.matrix)})], [target], tmp_path)
    found = read_back(table, {"any": {"formula": formula}})["x"]
    np.testing.assert_allclose(found.targets["any"], of(found.structure.lattice.matrix), atol=1e-6)
    with table.open() as file:
        assert len(next(csv.reader(file))) == (2 + 6 if target.rank == 2 else 3)


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    refused(zoo("data", "export", "petousis2017", "full", cwd=tmp_path), "full is not empty")
    with pytest.raises(ZooError, match=r"tensor of atoms.*JSON"):
        export([], [TensorTarget("born", "ij", per_atom=True)], tmp_path / "a")
    with pytest.raises(ZooError, match="holds total"):
        export([], [TensorTarget("total")], tmp_path / "b")


def test_keys_that_make_the_same_file_name(tmp_path: Path) -> None:
    """Each tensor stays beside its own crystal."""
    target = TensorTarget("total")
    keys = ["Na/1", "Na_1", "na_1", "x" * 300]
    records = [
        Record(key, Structure(Lattice.cubic(3 + i), ["Ti"], [[0, 0, 0]]), {"total": (i + 1) * np.eye(3)})
        for i, key in enumerate(keys)
    ]
    found = read_back(export(records, [target], tmp_path), {"total": {}})
    assert list(found) == keys
    for i, key in enumerate(keys):
        assert found[key].structure.lattice.a == pytest.approx(3 + i)
        assert found[key].targets["total"][0, 0] == pytest.approx(i + 1)
