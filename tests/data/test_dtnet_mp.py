import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from zoo.config.dataset_settings import Cleaning, FrameCheck
from zoo.contract.plugin import BadRecord, Record
from zoo.data import dtnet_mp
from zoo.data.dtnet_mp import DTNetMP
from zoo.data.duplicates import Identity, KnownCrystals
from zoo.data.petousis2017 import Petousis2017
from zoo.data.pipeline import prepare
from zoo.errors import ZooError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "mp_dielectric_614.json.gz"
shared = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_file(), reason="../shared/data/mp_dielectric_614.json.gz is not there"),
]


def content():
    structure = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3]).as_dict()
    tensors = {name: (value * np.eye(3)).tolist() for name, value in (("electronic", 3), ("ionic", 7), ("total", 10))}
    return {"mp-1": {"structure": structure, **tensors}, "mp-2": {"structure": structure, "total": tensors["total"]}}


@pytest.mark.parametrize("name", ["data.json", "data.json.gz"])
def test_reads_a_file_that_is_there(tmp_path, name):
    text = json.dumps(content()).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    dataset = DTNetMP(DTNetMP.Hypers(path=str(tmp_path / name)))
    assert list(dataset.targets()) == ["electronic", "ionic", "total"]
    first, second = dataset.records()
    assert isinstance(first, Record) and first.key == "mp-1" and set(first.targets) == set(dataset.targets())
    assert set(second.targets) == {"total"}


def test_a_path_to_nothing(tmp_path):
    with pytest.raises(ZooError, match="no such file"):
        list(DTNetMP(DTNetMP.Hypers(path=str(tmp_path / "none.json"))).records())


def test_offline_the_file_can_be_placed_by_hand(tmp_path, monkeypatch):
    """Offline one line says where; placed there, it is read; another file there is refused."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(dtnet_mp, "URL", "http://127.0.0.1:1/mp_dielectric.json")
    text = json.dumps(content()).encode()
    monkeypatch.setattr(dtnet_mp, "SHA256", hashlib.sha256(text).hexdigest())
    dataset = DTNetMP(DTNetMP.Hypers())
    with pytest.raises(ZooError, match="by hand") as caught:
        list(dataset.records())
    place = Path(str(caught.value).rsplit(" place it at ", 1)[1])
    place.write_bytes(text)
    assert [record.key for record in dataset.records()] == ["mp-1", "mp-2"]
    place.write_bytes(text + b" ")
    with pytest.raises(ZooError, match="wrong checksum"):
        list(dataset.records())


def test_address_is_pinned_to_a_revision():
    assert "/c09e5299890a5473dfa2accf39bedbe5bdf385ab/" in dtnet_mp.URL
    assert dtnet_mp.URL.startswith("https://")


@pytest.fixture(scope="module")
def real():
    return DTNetMP(DTNetMP.Hypers(path=str(SHARED)))


class TestReal:
    pytestmark = shared

    def test_every_record_reads(self, real):
        records = list(real.records())
        assert len(records) == 614
        assert not [record for record in records if isinstance(record, BadRecord)]
        for record in records:
            electronic, ionic, total = (record.targets[name] for name in ("electronic", "ionic", "total"))
            np.testing.assert_allclose(electronic + ionic, total, atol=1e-5)

    def test_prepared(self, real):
        result = prepare(real, "total", cleaning=Cleaning(), deduplicate=True, frame=FrameCheck(), on_bad_record="stop")
        assert len(result.crystals) + sum(result.report["counts"].values()) == 614
        over = result.report["frame"]["over_tolerance"]
        assert {m["key"] for m in over} == {"mpd-0046", "mpd-0265"}

    def test_some_crystals_are_also_in_petousis2017(self, real):
        """Of 128 with a formula in common; a test on these crystals must leave them out."""
        known = KnownCrystals(Identity.of(r) for r in Petousis2017(Petousis2017.Hypers()).records())
        both = [r for r in real.records() if known.same_as(Identity.of(r)) is not None]
        assert len(both) == 104
