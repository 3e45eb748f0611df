"""Graphs on disk are the graphs in memory."""

import dataclasses
import resource

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from zoo.errors import ZooError
from zoo.graphs import store as module
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graph, crystal_graphs
from zoo.graphs.store import GraphStore

ROCK_SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0, 0]])
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
POLONIUM = Structure(Lattice.cubic(3.34), ["Po"], [[12.3, -4.0, 0.1]])
ARGON = Structure(Lattice.cubic(30.0), ["Ar"], [[0, 0, 0]])  # no neighbour within the cutoff
CRYSTALS = [ROCK_SALT, RUTILE, POLONIUM, ARGON]
KEYS = ["salt", "rutile", "polonium", "argon"]


@pytest.fixture
def builds(monkeypatch):
    """Count the graphs that are really made."""
    made = []

    def counted(crystals, cutoff, backend):
        for graph in crystal_graphs(crystals, cutoff, backend):
            made.append(graph)
            yield graph

    monkeypatch.setattr(module, "crystal_graphs", counted)
    return made


@pytest.mark.parametrize("chunk", [1, 3, 256])
def test_equal_to_the_graphs_in_memory(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    store = GraphStore.build(CRYSTALS, 4.0, KEYS, tmp_path)
    assert len(store) == 4
    assert store.keys == KEYS
    for index, structure in enumerate(CRYSTALS):
        fresh, stored = crystal_graph(structure, 4.0), store[index]
        for field in dataclasses.fields(fresh):
            np.testing.assert_array_equal(getattr(fresh, field.name), getattr(stored, field.name))
        assert store.n_atoms[index] == len(fresh.numbers)
        assert store.n_edges[index] == len(fresh.src)
    assert store.n_edges[3] == 0
    assert store.atom_offsets.tolist() == [0, 8, 14, 15, 16]
    assert store.edge_offsets[-1] == store.n_edges.sum()
    np.testing.assert_array_equal(store[-1].cell, store[3].cell)
    with pytest.raises(IndexError):
        store[4]
    batch = collate([store[i] for i in (2, 0)])
    assert batch.edge_vectors().norm(dim=-1).max() <= 4.0


def test_views_of_the_files(tmp_path):
    store = GraphStore.build(CRYSTALS, 4.0, KEYS, tmp_path)
    graph = store[1]
    assert np.shares_memory(graph.src, store[1].src)
    assert not graph.src.flags.owndata
    assert not graph.positions.flags.writeable


def test_a_store_without_any_edge(tmp_path):
    store = GraphStore.build([ARGON, ARGON], 4.0, cache=tmp_path)
    assert store.n_edges.tolist() == [0, 0]
    assert store[1].shift.shape == (0, 3)
    assert store.keys == ["0", "1"]


def test_the_second_build_opens_the_files(tmp_path, builds):
    first = GraphStore.build(CRYSTALS, 4.0, KEYS, tmp_path)
    assert len(builds) == 4
    second = GraphStore.build(CRYSTALS, 4.0, ["a", "b", "c", "d"], tmp_path)
    assert len(builds) == 4
    assert first.key == second.key
    assert second.keys == ["a", "b", "c", "d"]


def test_default_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "mine"))
    GraphStore.build([POLONIUM], 4.0)
    assert list((tmp_path / "mine" / "graphs").glob("*/cell.npy"))


def test_the_key_is_of_all_that_changes_the_graphs(tmp_path, monkeypatch):
    def key(structures, cutoff=4.0):
        return GraphStore.build(structures, cutoff, cache=tmp_path).key

    moved = ROCK_SALT.copy()
    moved.translate_sites([0], [1e-9, 0, 0])
    other_species = ROCK_SALT.copy()
    other_species.replace_species({"Na": "K"})
    other_cell = Structure(Lattice(ROCK_SALT.lattice.matrix + 1e-12), ROCK_SALT.species, ROCK_SALT.frac_coords)
    keys = [
        key([ROCK_SALT, RUTILE]),
        key([RUTILE, ROCK_SALT]),
        key([ROCK_SALT]),
        key([ROCK_SALT, RUTILE], 4.0 + 1e-9),
        key([moved, RUTILE]),
        key([other_species, RUTILE]),
        key([other_cell, RUTILE]),
    ]
    assert len(set(keys)) == len(keys)
    assert key([ROCK_SALT.copy(), RUTILE.copy()]) == keys[0]


@pytest.mark.parametrize("other", ["images", "pymatgen"])
def test_the_files_are_the_same_for_all_that_look_for_edges(tmp_path, other):
    first = GraphStore.build(CRYSTALS, 6.0, KEYS, tmp_path / "auto")
    second = GraphStore.build(CRYSTALS, 6.0, KEYS, tmp_path / other, backend=other)
    assert first.key == second.key
    for name in module.FILES:
        mine, theirs = (tmp_path / b / "graphs" / first.key / f"{name}.npy" for b in ("auto", other))
        assert mine.read_bytes() == theirs.read_bytes()


def test_an_unknown_backend_leaves_nothing(tmp_path):
    with pytest.raises(ZooError, match=r"no neighbour list 'imagess'\. Did you mean 'images'"):
        GraphStore.build(CRYSTALS, 5.0, KEYS, tmp_path, backend="imagess")


def test_a_bad_structure_is_named_and_leaves_nothing(tmp_path):
    partial = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(ZooError, match=r"^mp-30: .*partially occupied"):
        GraphStore.build([ROCK_SALT, partial], 4.0, ["mp-22862", "mp-30"], tmp_path)
    flat = Structure(Lattice([[4, 0, 0], [8, 0, 0], [0, 0, 4]]), ["Na"], [[0, 0, 0]])
    with pytest.raises(ZooError, match=r"^mp-1: .*no volume"):
        GraphStore.build([flat], 4.0, ["mp-1"], tmp_path)
    # As arrays: of a Structure, `Crystal.of` moves such an atom back.
    far = Crystal(np.array([[0.0, 0, 0], [120_001.5, 0, 0]]), np.array([11, 17]), 3.0 * np.eye(3))
    with pytest.raises(ZooError, match=r"^mp-2: .*within the cell"):
        GraphStore.build([far], 4.0, ["mp-2"], tmp_path)
    assert [p for p in (tmp_path / "graphs").iterdir() if p.is_dir()] == []


def test_a_full_disk_is_one_line_and_the_next_build_works(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))
    try:
        with pytest.raises(ZooError, match=rf"no space left for {tmp_path}.*ZOO_CACHE") as caught:
            GraphStore.build(CRYSTALS, 6.0, KEYS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert len(GraphStore.build(CRYSTALS, 6.0, KEYS, tmp_path)) == 4


def test_a_damaged_entry_is_made_anew(tmp_path, caplog):
    store = GraphStore.build(CRYSTALS, 4.0, KEYS, tmp_path)
    file = tmp_path / "graphs" / store.key / "src.npy"
    content = file.read_bytes()
    file.write_bytes(content[:200])
    GraphStore.build(CRYSTALS, 4.0, KEYS, tmp_path)
    assert file.read_bytes() == content
    assert store.key in caplog.text and "src.npy" in caplog.text
