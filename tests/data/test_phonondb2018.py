"""The datasets phonondb2018 and petretto2018, on tiny files of their layout and on the real ones."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cli import refused, zoo
from tiny_labels import petretto_row, phonondb_row, write_petretto, write_phonondb

from zoo.config.dataset_settings import FrameCheck
from zoo.contract.plugin import BadRecord, Dataset, Record
from zoo.data.frame import offenders
from zoo.data.lattice_labels import LABELS
from zoo.data.petretto2018 import Petretto2018
from zoo.data.phonondb2018 import PhononDB2018
from zoo.data.pipeline import prepare
from zoo.errors import ZooError
from zoo.phonons.modes import gamma_modes, masses_of
from zoo.phonons.polar_modes import polar_modes
from zoo.testing import DatasetTests


def phonondb(path: Path) -> PhononDB2018:
    return PhononDB2018(PhononDB2018.Hypers(path=str(path)))


def petretto(path: Path) -> Petretto2018:
    return Petretto2018(Petretto2018.Hypers(path=str(path)))


def by_key(dataset: Dataset) -> dict[str, Record]:
    found = list(dataset.records())
    assert not [record for record in found if isinstance(record, BadRecord)]
    return {record.key: record for record in found if isinstance(record, Record)}


def test_a_crystal_of_phonondb2018(tmp_path: Path) -> None:
    write_phonondb(tmp_path, [phonondb_row("mp-1")])
    for path in (tmp_path, tmp_path / "phonondb2018.json.gz"):
        (record,) = by_key(phonondb(path)).values()
        assert record.key == "phonondb-mp-1" and record.properties["mp_id"] == "mp-1"
        assert record.functional == "PBEsol" and not record.left_out
        assert set(record.targets) == {"electronic", "ionic", "total", "born"}
        assert record.targets["born"].shape == (2, 3, 3)
        assert record.force_constants is not None and record.force_constants.dtype == np.float64
        modes = gamma_modes(record.force_constants, masses_of(record.structure))
        ionic = polar_modes(modes, record.targets["born"], record.structure.volume).ionic
        np.testing.assert_allclose(record.targets["ionic"], ionic, rtol=1e-4)
        np.testing.assert_allclose(record.targets["total"], record.targets["electronic"] + record.targets["ionic"])


@pytest.mark.parametrize(
    ("changed", "left_out"),
    [
        ({"electronic": 31 * np.eye(3)}, {"electronic", "ionic", "total", "born"}),
        ({"unstable": True}, {"ionic", "total", "force_constants"}),
        ({"ionic": 101 * np.eye(3)}, {"ionic", "total"}),
        ({"born": np.stack([16 * np.eye(3), -16 * np.eye(3)])}, {"born", "ionic", "total"}),
        ({"born": np.stack([2 * np.eye(3), -1 * np.eye(3)])}, {"born", "ionic", "total"}),
    ],
    ids=["near-metal", "unstable", "soft", "charge", "sum"],
)
def test_labels_that_are_left_out(tmp_path: Path, changed: dict, left_out: set[str]) -> None:
    write_phonondb(tmp_path, [phonondb_row("mp-1", **changed), phonondb_row("mp-2", scale=1.1)])
    dataset = phonondb(tmp_path)
    record = by_key(dataset)["phonondb-mp-1"]
    assert set(record.left_out) == left_out
    assert set(record.targets) == {"electronic", "ionic", "total", "born"} - left_out
    assert (record.force_constants is None) == ("force_constants" in left_out)
    for target in {"ionic", "born"} & left_out:
        result = prepare(dataset, target, cleaning=None, deduplicate=True, frame=FrameCheck(), on_bad_record="stop")
        assert result.crystals.keys == ["phonondb-mp-2"]
        (item,) = result.report["left_out"]
        assert item["stage"] == "target" and record.left_out[target] in item["reason"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"derive_open_labels.py phonondb2018 makes it"):
        list(phonondb(tmp_path).records())
    row = phonondb_row("mp-1")
    write_phonondb(tmp_path, [row])
    beside = tmp_path / "phonondb2018_force_constants.npz"
    kept = beside.read_bytes()
    beside.unlink()
    with pytest.raises(ZooError, match="it belongs beside phonondb2018"):
        phonondb(tmp_path).fingerprint()
    beside.write_bytes(kept[:100])
    with pytest.raises(ZooError, match="cannot be read"):
        list(phonondb(tmp_path).records())
    np.savez(beside, values=np.array([{}], dtype=object), offsets=np.zeros(2, int), mpid=np.array(["mp-1"]))
    with pytest.raises(ZooError, match="cannot be read"):
        list(phonondb(tmp_path).records())
    np.savez(beside, values=np.zeros(36, np.float32), offsets=np.array([0, 36]), mpid=np.array(["mp-2"]))
    with pytest.raises(ZooError, match="does not hold the crystals"):
        list(phonondb(tmp_path).records())
    beside.write_bytes(kept)
    for text, words in (("{", "no valid JSON"), ("{}", "must hold a list"), ("[1]", "must hold a list")):
        (tmp_path / "phonondb2018.json.gz").write_bytes(gzip.compress(text.encode()))
        with pytest.raises(ZooError, match=words):
            list(phonondb(tmp_path).records())
    for broken in ({"lattice": None}, {"born": [[1]]}, {"species": ["Xx", "Cl"]}, {"electronic": "x"}):
        write_phonondb(tmp_path, [row | broken, phonondb_row("mp-2")])
        first, second = phonondb(tmp_path).records()
        assert isinstance(first, BadRecord) and first.key == "phonondb-mp-1" and isinstance(second, Record)


def test_crystals_of_petretto2018(tmp_path: Path) -> None:
    rows = [
        petretto_row("mp-1", total=9.5),
        petretto_row(None),
        petretto_row("mp-1"),
        petretto_row("mp-2", electronic=40 * np.eye(3)),
        {"structure": {}},
    ]
    write_petretto(tmp_path, rows)
    *records, bad = petretto(tmp_path).records()
    assert [record.key for record in records] == [
        "petretto-mp-1",
        "petretto-row-0001",
        "petretto-mp-1-2",
        "petretto-mp-2",
    ]
    assert isinstance(bad, BadRecord) and "has no 'electronic'" in bad.reason
    first, nameless, _, metal = records
    assert first.means == {"total": 9.5} and first.functional == "PBEsol"
    assert "mp_id" not in nameless.properties and not nameless.means
    assert not metal.targets and set(metal.left_out) == {"electronic", "born"}


def test_info_counts_by_label_and_theory(tmp_path: Path) -> None:
    write_phonondb(tmp_path, [phonondb_row("mp-1"), phonondb_row("mp-2", unstable=True)])
    result = zoo("data", "info", f"{{name: phonondb2018, path: '{tmp_path}'}}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in (
        "theory    PBEsol 2",
        "born (ij, unit e, Born charge): 2 crystals (PBEsol 2)",
        "label     force_constants (Φ at Γ, eV/Å²): 1 crystals (PBEsol 1)",
        "left out  ionic of 1: a mode at Γ is unstable",
    ):
        assert line in result.stdout
    refused(zoo("data", "info", "{path: x}", cwd=tmp_path), "names no dataset")
    refused(zoo("data", "info", "{name: [", cwd=tmp_path), "no valid YAML")
    refused(zoo("data", "info", "{name: phonondb2018, pth: x}", cwd=tmp_path), "unknown key")


def test_check_of_charges(tmp_path: Path) -> None:
    """Z* of caesium chloride is isotropic by its site symmetry; another one is not of this crystal."""
    skew = np.diag([1.0, 1.2, 0.8])
    rows = [phonondb_row("mp-1"), phonondb_row("mp-2", born=np.stack([skew, -skew]))]
    write_phonondb(tmp_path, rows)
    source = f"{{name: phonondb2018, path: '{tmp_path}'}}"
    result = zoo("data", "check", source, "--target", "born", "--format", "json", cwd=tmp_path)
    assert [item["key"] for item in json.loads(result.stdout)["offenders"]] == ["phonondb-mp-2"]


class TestLayout(DatasetTests):
    @pytest.fixture(autouse=True)
    def _made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_phonondb(tmp_path, [phonondb_row("mp-1"), phonondb_row("mp-2", electronic=31 * np.eye(3), scale=1.1)])
        monkeypatch.setattr(TestLayout, "hypers", {"path": str(tmp_path)})

    dataset = PhononDB2018


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, dict[str, Record]]:
    """All records of both, by key."""
    if not (shared_data / "phonondb2018.json.gz").is_file() or not (shared_data / "petretto2018.json.gz").is_file():
        pytest.skip("../shared/data/phonondb2018.json.gz or petretto2018.json.gz is not there")
    return {"phonondb2018": by_key(phonondb(shared_data)), "petretto2018": by_key(petretto(shared_data))}


@pytest.mark.shared
class TestReal:
    def test_counts(self, real: dict[str, dict[str, Record]]) -> None:
        found = real["phonondb2018"].values()
        assert len(found) == 4717
        held = Counter(name for record in found for name in record.targets)
        assert held == {"electronic": 4603, "born": 4603, "ionic": 4044, "total": 4044}
        assert sum(record.force_constants is not None for record in found) == 4202
        found = real["petretto2018"].values()
        assert len(found) == 1404
        assert Counter(name for record in found for name in record.targets) == {"electronic": 1381, "born": 1381}
        assert sum("mp_id" not in record.properties for record in found) == 176

    @pytest.mark.parametrize("name", ["phonondb2018", "petretto2018"])
    def test_frame_and_sums(self, real: dict[str, dict[str, Record]], name: str) -> None:
        """Some of them; `zoo data check` goes through all, and finds one ε∞ just above 0.05."""
        records = [record for record in list(real[name].values())[::20] if record.targets]
        for label in ("electronic", "born"):
            held = [record for record in records if label in record.targets]
            assert not [m for m in offenders(held, LABELS[label], FrameCheck()) if m.residual is not None]
        for record in records:
            if "born" in record.targets:
                assert np.abs(record.targets["born"].sum(axis=0)).max() < 1e-5 * len(record.structure)

    def test_ionic_follows_from_charges_and_force_constants(self, real: dict[str, dict[str, Record]]) -> None:
        records = list(real["phonondb2018"].values())[::40]
        held = [one for one in records if "ionic" in one.targets and one.force_constants is not None]
        assert len(held) > 80
        for record in held:
            assert record.force_constants is not None
            modes = gamma_modes(record.force_constants, masses_of(record.structure))
            made = polar_modes(modes, record.targets["born"], record.structure.volume).ionic
            np.testing.assert_allclose(record.targets["ionic"], made, atol=0.02 * max(1, made.max()))
