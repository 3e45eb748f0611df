"""Crystals on disk are the records that were read; in memory there is one record at a time."""

import gc
import weakref

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from zoo.config.dataset_settings import FrameCheck
from zoo.contract.plugin import Dataset, Hypers, Record
from zoo.contract.target import TensorTarget
from zoo.data import frame, reading
from zoo.data.crystals import CHUNK
from zoo.data.petousis2017 import Petousis2017
from zoo.data.pipeline import prepare
from zoo.data.reading import read
from zoo.data.symmetry import crystal_system
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.store import GraphStore
from zoo.storage.cache import cache_root
from zoo.testing import check_description

TOTAL = TensorTarget("total")
BORN = TensorTarget("born", formula="ij", per_atom=True)


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


class Made(Dataset):
    """`count` crystals, made when they are asked for; counts how many times, and how many records live at once."""

    Hypers = Hypers

    def __init__(self, count, mark=None, broken=None):
        super().__init__(Hypers())
        self.count, self.mark, self.broken = count, mark, broken
        self.readings = self.alive = self.most = 0

    def targets(self):
        return {"total": TOTAL, "born": BORN}

    def fingerprint(self):
        return self.mark

    def records(self):
        self.readings += 1
        for i in range(self.count):
            if i == self.broken:
                raise KeyboardInterrupt
            lattice = Lattice.tetragonal(4 + 0.01 * i, 5)
            structure = Structure(lattice, ["Ti", "O"], [[0] * 3, [0.5, 0.5, 0.3 + 1e-5 * i]])
            tensors = {"total": np.diag([2.0, 2.0, 3.0 + i / 1000]), "born": np.full((2, 3, 3), float(i))}
            yield self._counted(Record(f"k{i:04d}", structure, tensors))

    def _counted(self, record):
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(record, self._gone)
        return record

    def _gone(self):
        self.alive -= 1


def test_what_is_read_back_is_what_was_written():
    records = list(Petousis2017(Petousis2017.Hypers()).records())
    store, left_out = read(Petousis2017(Petousis2017.Hypers()), TOTAL, "stop")
    assert left_out == [] and store.keys == [r.key for r in records]
    assert store.systems() == [crystal_system(r) for r in records]
    for i in range(0, len(records), 50):
        given, found = records[i].structure, store.structure(i)
        assert found == given and store.formulas[i] == given.composition.reduced_formula
        np.testing.assert_array_equal(
            store[i].positions, Crystal.of(given).positions
        )  # every bit: graphs' key in the cache
        # pymatgen's are of site after site: BLAS may sum these in another order than those of all at once.
        np.testing.assert_allclose(store[i].positions, given.cart_coords, rtol=0, atol=1e-13)
        np.testing.assert_array_equal(found.cart_coords, given.cart_coords)
        np.testing.assert_array_equal(store.tensor(i), records[i].targets["total"])
        assert store.identity(i).volume * given.composition.get_reduced_formula_and_factor()[1] == given.volume
    every = np.stack([r.targets["total"] for r in records]).astype(np.float32)
    np.testing.assert_array_equal(store.tensors().numpy(), every)
    chosen = store.select([7, 3])
    assert chosen.keys == [records[7].key, records[3].key] and chosen.key != store.key
    np.testing.assert_array_equal(chosen.tensors().numpy(), every[[7, 3]])
    np.testing.assert_array_equal(chosen.select([1])[0].positions, Crystal.of(records[3].structure).positions)


def test_graphs_of_stored_crystals_are_those_of_their_structures():
    store, _ = read(Made(5), TOTAL, "stop")
    structures = [store.structure(i) for i in range(5)]
    assert GraphStore.build(store, 3.0).key == GraphStore.build(structures, 3.0).key


def test_tensors_of_atoms():
    store, _ = read(Made(4), BORN, "stop")
    chosen = store.select([2, 0])
    np.testing.assert_array_equal(chosen.tensor(0), np.full((2, 3, 3), 2.0))
    assert chosen.tensors()[:, 0, 0].tolist() == [2, 2, 0, 0]


def test_one_record_at_a_time():
    made = Made(2 * CHUNK)
    ready = prepare(made, "total", cleaning=None, deduplicate=True, frame=FrameCheck(), on_bad_record="stop")
    assert len(ready.crystals) + ready.report["counts"]["duplicate"] == 2 * CHUNK
    gc.collect()
    assert made.most <= 3 and made.alive == 0


def test_with_a_fingerprint_records_are_read_once(monkeypatch):
    made = Made(12, "a")
    (first, _), (second, _) = (read(made, TOTAL, "stop") for _ in range(2))
    assert made.readings == 1 and first.key == second.key and first.keys == second.keys
    read(made, BORN, "stop")
    assert made.readings == 2
    other = Made(13, "b")
    assert len(read(other, TOTAL, "stop")[0]) == 13 and other.readings == 1
    monkeypatch.setattr(reading, "__version__", "0.0.0")
    read(made, TOTAL, "stop")
    assert made.readings == 3


def test_without_one_they_are_read_again_and_leave_nothing():
    made = Made(12)
    store, _ = read(made, TOTAL, "stop")
    assert list((cache_root() / "crystals").iterdir()) == []
    assert store.select([1, 2]).structure(0).formula == "Ti1 O1"
    read(made, TOTAL, "stop")
    assert made.readings == 2


@pytest.mark.parametrize("mark", [None, "a"])
def test_what_was_stopped_leaves_nothing(mark):
    with pytest.raises(KeyboardInterrupt):
        read(Made(12, mark, broken=8), TOTAL, "stop")
    assert [p for p in (cache_root() / "crystals").iterdir() if p.is_dir()] == []
    assert len(read(Made(12, mark), TOTAL, "stop")[0]) == 12


def test_bad_records_are_told_from_the_cache_too():
    class Twice(Made):
        def records(self):
            yield from super().records()
            yield from super().records()

    store, left_out = read(Twice(3, "a"), TOTAL, "skip")
    assert len(store) == 3 and [item.stage for item in left_out] == ["read"] * 3
    with pytest.raises(ZooError, match=r"record k0000: .*\(and 2 more"):
        read(Twice(3, "a"), TOTAL, "stop")
    with pytest.raises(ZooError, match="k0000: a second"):
        read(Twice(3, "b"), TOTAL, "stop")


def test_a_disordered_structure_is_a_bad_record():
    class Disordered(Made):
        def records(self):
            yield from super().records()
            yield Record("x", Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0] * 3]), {"total": np.eye(3)})

    with pytest.raises(ZooError, match=r"record x: .*partially occupied"):
        read(Disordered(3), TOTAL, "stop")
    store, (left_out,) = read(Disordered(3), TOTAL, "skip")
    assert len(store) == 3 and left_out.key == "x"


def test_a_frame_check_is_measured_once(monkeypatch):
    calls = []
    measure = frame.measure
    monkeypatch.setattr(frame, "measure", lambda *given: calls.append(given[0]) or measure(*given))

    def misfits(made, check):
        ready = prepare(made, "total", cleaning=None, deduplicate=False, frame=check, on_bad_record="stop")
        return ready.report["frame"]["over_tolerance"]

    first = misfits(Made(6), FrameCheck(tolerance=1e-9))
    assert len(calls) == 6
    assert misfits(Made(6), FrameCheck(tolerance=1e-9)) == first and len(calls) == 6
    misfits(Made(6), FrameCheck(tolerance=1e-8))
    assert len(calls) == 12
    misfits(Made(7), FrameCheck(tolerance=1e-8))
    assert len(calls) == 19


def test_a_damaged_entry_is_made_anew(caplog):
    before = read(Made(12, "a"), TOTAL, "stop")
    (place,) = (p for p in (cache_root() / "crystals").iterdir() if p.is_dir())
    (place / "names.jsonl").write_text("[")
    assert read(Made(12, "a"), TOTAL, "stop")[0].key == before[0].key
    assert place.name in caplog.text and "names.jsonl" in caplog.text


def test_a_fingerprint_that_changes_by_itself_is_told():
    class Restless(Petousis2017):
        def fingerprint(self):
            return str(id(self))

    check_description(Petousis2017(Petousis2017.Hypers()))
    with pytest.raises(AssertionError, match=r"Restless.*two fingerprints"):
        check_description(Restless(Restless.Hypers()))
