"""Cached embeddings are what the encoder gives, computed once, whatever happens on the way."""

import dataclasses
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from e3nn import o3
from pymatgen.core import Lattice, Structure

from zoo.api import CrystalBatch, Embedding, Encoder, Features, Hypers, Needs, Provides, Readout, Rows, ZooError
from zoo.graphs.graph import collate
from zoo.graphs.store import GraphStore
from zoo.model.embedding_store import EmbeddingStore

STRUCTURES = {
    "salt": Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0, 0]]),
    "rutile": Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    ),
    "polonium": Structure(Lattice.cubic(3.34), ["Po"], [[0, 0, 0]]),
    "argon": Structure(Lattice.cubic(30.0), ["Ar"], [[0, 0, 0]]),
    "wurtzite": Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
    ),
    "zinc blende": Structure.from_spacegroup("F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25] * 3]),
}
KEYS = list(STRUCTURES)


class Pretrained(Encoder):
    """Sums of decaying scalars and vectors over the neighbours; `layer` is part of its fingerprint."""

    class Hypers(Hypers):
        layer: int = 4
        """Exposed layer."""
        scale: float = 1.0
        """Of all features."""

    pretrained = True
    cutoff = 4.0

    def __init__(self, hypers=None):
        super().__init__(hypers or self.Hypers())
        self.decay = torch.nn.Parameter(torch.linspace(0.5, 2.0, 4))
        self.crystals = 0
        self.passes = 0

    @classmethod
    def provides(cls, hypers):
        return Provides(o3.Irreps("4x0e+4x1o"), o3.Irreps("4x0e+4x1o"))

    def fingerprint(self):
        return f"pretrained layer {self.hypers.layer} scale {self.hypers.scale}"

    def bonds(self, batch: CrystalBatch) -> Features:
        vectors = batch.edge_vectors()
        scalars = self.hypers.scale * torch.exp(-vectors.norm(dim=-1, keepdim=True) * self.decay)
        return Features.from_cartesian(scalars, vectors[:, :, None] * scalars[:, None])

    def forward(self, batch: CrystalBatch) -> Embedding:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.passes += 1
        self.crystals += batch.n_crystals
        bonds = self.bonds(batch)
        atoms = batch.sum_to_atoms(bonds.values) * (1 + batch.numbers[:, None]) / self.hypers.layer
        return Embedding(Features(bonds.irreps, atoms), bonds)


class FromGeometry(Pretrained):
    bonds_from_geometry = True


class Killed(Pretrained):
    """Its process is killed in the third pass."""

    def forward(self, batch):
        if self.passes == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(batch)


def graphs_in(cache, cutoff=4.0, names=KEYS):
    return GraphStore.build([STRUCTURES[name] for name in names], cutoff, names, cache)


def build(encoder, cache, **options):
    return EmbeddingStore.build(encoder, graphs_in(cache), cache=cache, edges_per_batch=100, **options)


@torch.no_grad()
def direct(encoder, graphs, indices):
    return encoder.eval()(collate([graphs[i] for i in indices]))


@pytest.mark.parametrize("encoder_class", [Pretrained, FromGeometry])
def test_the_same_as_the_encoder_gives(tmp_path, encoder_class):
    encoder = encoder_class()
    store = build(encoder, tmp_path)
    assert len(store) == encoder.crystals == 6
    assert 1 < encoder.passes < 6
    for index in range(6):
        alone = direct(encoder, store.graphs, [index])
        assert store.atoms(index).dtype == np.float32
        np.testing.assert_allclose(store.atoms(index), alone.atoms.values, rtol=1e-6, atol=1e-7)
        if encoder_class is Pretrained:
            np.testing.assert_allclose(store.bonds(index), alone.bonds.values, rtol=1e-6, atol=1e-7)
        else:
            assert store.bonds(index) is None
    for indices in ([4, 0, 2], [3], [5, 5, 3, 1]):
        batch = collate([store.graphs[i] for i in indices])
        mine, true = store.collate(indices, batch, encoder), direct(encoder, store.graphs, indices)
        for part in ("atoms", "bonds"):
            assert getattr(mine, part).irreps == getattr(true, part).irreps
            torch.testing.assert_close(getattr(mine, part).values, getattr(true, part).values, rtol=1e-6, atol=1e-7)
    assert abs(store.atoms(4)).max() > 0.1


def test_a_view_of_the_file_in_the_dtype_asked_for(tmp_path):
    full, half = build(Pretrained(), tmp_path), build(Pretrained(), tmp_path, dtype="float16")
    assert half.key != full.key
    assert half.atoms(1).dtype == np.float16
    assert not full.atoms(1).flags.owndata
    np.testing.assert_allclose(half.atoms(1), full.atoms(1), rtol=1e-3, atol=1e-6)
    sizes = [(tmp_path / "embeddings" / s.key / "atoms.npy").stat().st_size - 128 for s in (full, half)]
    assert sizes[0] == 2 * sizes[1] > 0
    batch = collate([half.graphs[1]])
    assert half.collate([1], batch, Pretrained()).atoms.values.dtype == torch.float32
    assert half.collate([1], batch.to(dtype=torch.float64), Pretrained()).atoms.values.dtype == torch.float64


def test_the_second_time_nothing_is_computed(tmp_path):
    build(Pretrained(), tmp_path)
    again = Pretrained()
    build(again, tmp_path)
    assert again.passes == 0


def test_the_key_is_of_all_that_changes_the_features(tmp_path):
    first = build(Pretrained(), tmp_path).key
    assert build(Pretrained(Pretrained.Hypers(layer=3)), tmp_path).key != first
    assert EmbeddingStore.build(Pretrained(), graphs_in(tmp_path, 4.5), cache=tmp_path).key != first
    moved = STRUCTURES["rutile"].copy()
    moved.translate_sites([0], [1e-7, 0, 0])
    structures = [moved if name == "rutile" else STRUCTURES[name] for name in KEYS]
    other = GraphStore.build(structures, 4.0, KEYS, tmp_path)
    assert EmbeddingStore.build(Pretrained(), other, cache=tmp_path).key != first
    renamed = GraphStore.build([STRUCTURES[name] for name in KEYS], 4.0, list("abcdef"), tmp_path)
    unchanged = Pretrained()
    assert EmbeddingStore.build(unchanged, renamed, cache=tmp_path, edges_per_batch=1).key == first
    assert unchanged.passes == 0


def run(code, *arguments):
    """Python in another process, where this file is the module `test_embeddings`."""
    command = [sys.executable, "-c", f"from test_embeddings import *\n{code}", *map(str, arguments)]
    folder = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(folder.parent)])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.extended
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    killed = run("build(Killed(), Path(sys.argv[1]))", tmp_path)
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, errors
    (partial,) = (tmp_path / "embeddings").glob("*.partial")
    with (partial / "atoms.npy").open("ab") as torn:
        torn.write(b"torn")
    resumed, whole = Pretrained(), Pretrained()
    store, expected = build(resumed, tmp_path), build(whole, tmp_path / "other")
    assert whole.crystals == 6
    assert 0 < resumed.passes == whole.passes - 2
    assert 0 < resumed.crystals < 6
    for index in range(6):
        np.testing.assert_array_equal(store.atoms(index), expected.atoms(index))
        np.testing.assert_array_equal(store.bonds(index), expected.bonds(index))


def test_a_batch_that_is_half_written_is_computed_again_as_a_whole(tmp_path):
    """The batches of a resumed run are those of one that was not stopped: the last digits depend on them."""
    asked = []

    class Noting(Pretrained):
        def forward(self, batch):
            asked.append(tuple(batch.numbers.tolist()))
            return super().forward(batch)

    store = build(Noting(), tmp_path)
    whole, (entry,) = list(asked), [p for p in (tmp_path / "embeddings").iterdir() if p.is_dir()]
    sizes = [len(numbers) for numbers in whole]
    assert len(whole) > 2 and len(set(store.graphs.n_atoms.tolist())) > 1
    expected = (entry / "atoms.npy").read_bytes()
    row = 16 * 4
    header = len(expected) - row * sum(sizes)
    for rows in range(sum(sizes)):
        partial = entry.with_name(f"{entry.name}.partial")
        shutil.move(entry, partial)
        content = (partial / "atoms.npy").read_bytes()
        (partial / "atoms.npy").write_bytes(content[: header + rows * row])
        asked.clear()
        build(Noting(), tmp_path)
        complete = int(np.searchsorted(np.cumsum(sizes), rows, side="right"))
        assert asked == whole[complete:], rows
        assert (entry / "atoms.npy").read_bytes() == expected


@pytest.mark.extended
def test_two_processes_at_once(tmp_path):
    code = "encoder = Pretrained(); store = build(encoder, Path(sys.argv[1])); print(encoder.crystals, store.key)"
    both = [run(code, tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    counts, keys = zip(*[out.split() for out, _ in said], strict=True)
    assert sorted(counts) == ["0", "6"]
    assert len(set(keys)) == 1
    assert build(Pretrained(), tmp_path).key == keys[0]


def test_unknown_elements_are_refused_before_anything_is_computed(tmp_path):
    class NoPolonium(Pretrained):
        def elements(self):
            return frozenset(range(1, 84)) - {18}

    encoder = NoPolonium()
    with pytest.raises(ZooError, match=r"Ar, Po \(in polonium, argon\)"):
        build(encoder, tmp_path)
    assert encoder.passes == 0
    assert not (tmp_path / "embeddings").exists()


def test_a_feature_that_is_not_finite_names_its_crystal(tmp_path):
    class Broken(Pretrained):
        def forward(self, batch):
            embedding = super().forward(batch)
            embedding.atoms.values[batch.numbers == 84] = float("nan")
            return embedding

    with pytest.raises(ZooError, match=r"^polonium: .*NaN"):
        build(Broken(), tmp_path)
    # What was whole before the failure is kept: the mended encoder goes on after it.
    mended = Pretrained()
    build(mended, tmp_path)
    assert 0 < mended.crystals < 6


def test_a_feature_too_large_for_float16_is_named(tmp_path):
    huge = Pretrained(Pretrained.Hypers(scale=1e6))
    build(huge, tmp_path)
    with pytest.raises(ZooError, match=r"float16.*float32"):
        build(huge, tmp_path, dtype="float16")


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(tmp_path):
    graphs_in(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(ZooError, match=rf"no space .*{tmp_path}.*ZOO_CACHE"):
            build(Pretrained(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resumed = Pretrained()
    store = build(resumed, tmp_path)
    assert 0 < resumed.crystals < 6
    np.testing.assert_allclose(store.bonds(1), direct(resumed, store.graphs, [1]).bonds.values, rtol=1e-6)


def test_a_graph_that_ends_too_early_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"3\.0 Å.*4\.0 Å"):
        EmbeddingStore.build(Pretrained(), graphs_in(tmp_path, 3.0), cache=tmp_path)


def test_an_encoder_that_trains_has_no_cache(tmp_path):
    class Trainable(Pretrained):
        fingerprint = Encoder.fingerprint

    with pytest.raises(TypeError, match="not pretrained"):
        build(Trainable(), tmp_path)


def test_a_batch_that_does_not_fit_is_refused(tmp_path):
    encoder = Pretrained()
    store = build(encoder, tmp_path)
    batch = collate([store.graphs[0]])
    with pytest.raises(ValueError, match=r"8 atoms.* 6"):
        store.collate([1], batch, encoder)
    with pytest.raises(ValueError, match="strain"):
        store.collate([0], dataclasses.replace(batch, strain=torch.zeros(1, 3, 3)), encoder)


class Neighbours(Readout):
    """Precomputes the sum of an atom's bonds, and the edges by their number in the crystal."""

    needs = Needs(bonds=("1o",))

    def __init__(self):
        super().__init__(None, None, 4.0, None)

    def precompute(self, embedding, batch):
        assert not torch.is_grad_enabled()
        crystal = batch.crystal[batch.dst]
        edges = torch.arange(len(crystal))
        edge = edges - Rows(edges, crystal).first(batch.n_crystals)[crystal]
        return {
            "sum": Rows(batch.sum_to_atoms(embedding.bonds.values), batch.crystal),
            "edge": Rows(edge.int(), crystal),
        }

    def forward(self, embedding, batch):
        raise AssertionError


@pytest.mark.parametrize("encoder_class", [Pretrained, FromGeometry])
def test_what_a_readout_precomputes_takes_the_place_of_the_bonds(tmp_path, monkeypatch, encoder_class):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr("zoo.model.embedding_store.EDGES_PER_BATCH", 100)
    encoder = encoder_class()
    store = build(encoder, tmp_path)
    before = sorted(tmp_path.iterdir())
    store.precompute(Neighbours(), encoder)
    assert sorted(tmp_path.iterdir()) == before  # nothing is left behind
    for indices in ([4, 0, 2], [3], [5, 5, 3, 1]):
        batch = collate([store.graphs[i] for i in indices])
        mine, true = store.collate(indices, batch, encoder), direct(encoder, store.graphs, indices)
        assert mine.bonds is None
        found = mine.precomputed
        torch.testing.assert_close(found["sum"].values, batch.sum_to_atoms(true.bonds.values), rtol=1e-5, atol=1e-6)
        assert torch.equal(found["sum"].crystal, batch.crystal)
        edge = found["edge"].values + found["edge"].first(len(indices))[found["edge"].crystal]
        assert found["edge"].values.dtype == torch.int32 and torch.equal(edge, torch.arange(len(batch.src)))
        assert torch.equal(found["edge"].crystal, batch.crystal[batch.dst])


def test_a_readout_that_precomputes_nothing_gets_the_bonds_if_it_needs_them(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))

    class Plain(Neighbours):
        precompute = Readout.precompute

    class AtomsAlone(Plain):
        needs = Needs(atoms=("0e",))

    encoder = FromGeometry()
    store = build(encoder, tmp_path)
    batch = collate([store.graphs[0]])
    store.precompute(AtomsAlone(), encoder)
    assert store.collate([0], batch, encoder).bonds is None
    store.precompute(Plain(), encoder)
    assert store.collate([0], batch, encoder).bonds is not None
