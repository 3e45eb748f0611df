"""Force constants on disk: computed once, resumed, checked, and known by what they are computed from."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import springs
import torch
from pymatgen.core import Lattice, Structure

from zoo.api import CrystalBatch, ZooError
from zoo.config.recipe import Plugin
from zoo.contract.padded_force_constants import PaddedForceConstants
from zoo.graphs.crystal import Crystal
from zoo.graphs.store import GraphStore
from zoo.phonons import force_constants as by_displacements
from zoo.phonons import force_constants_store, potentials
from zoo.phonons.force_constants import ForceConstants, force_constants
from zoo.phonons.force_constants_store import ForceConstantsStore
from zoo.testing import PairPotential, prototypes


class Neighbourly(PairPotential):
    """Its last digits depend on how much is computed at once, as those of matrix products do."""

    calls = 0

    def energy(self, batch: CrystalBatch) -> torch.Tensor:
        type(self).calls += 1
        return super().energy(batch) * (1 + 1e-12 * batch.n_atoms)


def potential(kind: type[PairPotential] = PairPotential, **hypers: float) -> PairPotential:
    return kind(PairPotential.Hypers(**hypers))


def structures() -> list[Structure]:
    """Of one to twelve atoms, not by size; several pieces of `ATOMS_AT_ONCE`."""
    chosen = [prototypes()[name].structure for name in ("m-3m", "432", "1", "622", "-6m2", "m-3", "32", "6/m")]
    return [springs.salt(), *chosen, Structure(Lattice.cubic(3.1), ["Po"], [[0.1, 0.2, 0.3]]), springs.quartz()]


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> GraphStore:
    return GraphStore.build(structures(), 3.0, cache=tmp_path_factory.mktemp("graphs"))


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(force_constants_store, "ATOMS_AT_ONCE", 20)


def files(store: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(store.rglob("*.npy"))}


def folder(cache: Path, store: ForceConstantsStore) -> Path:
    return cache / "force_constants" / store.key


def test_each_crystal_gets_its_own(graphs: GraphStore, tmp_path: Path) -> None:
    """In the order of the graphs, though they are computed in another."""
    store = ForceConstantsStore.build(potential(), graphs, cache=tmp_path)
    assert len(store) == len(graphs)
    for index, structure in enumerate(structures()):
        (wanted,) = force_constants(potential(), [Crystal.of(structure)])
        found = store[index]
        np.testing.assert_allclose(found.matrix, wanted.matrix, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.eigenvalues, wanted.eigenvalues, rtol=0, atol=1e-9)
        assert found.largest_force == pytest.approx(wanted.largest_force, abs=1e-10)
        assert store.largest_force[index] == found.largest_force


def test_a_batch_is_padded_with_zeros(graphs: GraphStore, tmp_path: Path) -> None:
    store = ForceConstantsStore.build(potential(), graphs, cache=tmp_path)
    indices = [4, 0, 9, 3]
    given: PaddedForceConstants = store.read(indices)
    counts = [len(structures()[i]) for i in indices]
    assert given.most_atoms == max(counts) and given.matrix.dtype == torch.float64
    assert given.atoms.tolist() == [place for count in counts for place in range(count)]
    for row, (index, count) in enumerate(zip(indices, counts, strict=True)):
        size = 3 * count
        for tensor, wanted in (
            (given.matrix[row], store[index].matrix),
            (given.eigenvectors[row], store[index].eigenvectors),
        ):
            assert np.array_equal(tensor[:size, :size].numpy(), wanted)
            assert not tensor[size:].any() and not tensor[:, size:].any()
        assert np.array_equal(given.eigenvalues[row, :size].numpy(), store[index].eigenvalues)
        assert not given.eigenvalues[row, size:].any()
    crystal = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    values = torch.arange(sum(counts), dtype=torch.float64)
    padded = given.pad(values, crystal)
    assert [padded[i, :n].tolist() for i, n in enumerate(counts)] == [v.tolist() for v in values.split(counts)]
    assert padded.sum() == values.sum(), "nothing where there is no atom"


def test_computed_once(graphs: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the cutoff of the graphs and the names of the crystals."""
    first = ForceConstantsStore.build(potential(), graphs, cache=tmp_path)
    monkeypatch.setattr(force_constants_store, "iterate", lambda *_: pytest.fail("computed anew"))
    other = GraphStore.build(structures(), 4.0, [f"mp-{i}" for i in range(len(graphs))], cache=tmp_path)
    assert ForceConstantsStore.build(potential(), other, cache=tmp_path).key == first.key


def test_of_a_set_that_has_grown_the_new_crystals_are_computed(
    graphs: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And of one that is there already, but was made before crystals were kept one by one, none."""
    store = ForceConstantsStore.build(potential(), graphs, cache=tmp_path)
    computed: list[int] = []
    iterate = force_constants_store.iterate

    def counted(encoder: PairPotential, crystals: Iterator[Crystal], at_once: int) -> Iterator[ForceConstants]:
        listed = list(crystals)
        computed.extend(len(crystal.numbers) for crystal in listed)
        yield from iterate(encoder, listed, at_once)

    monkeypatch.setattr(force_constants_store, "iterate", counted)
    new = Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])
    more = GraphStore.build([new, *reversed(structures())], 3.0, cache=tmp_path)
    larger = ForceConstantsStore.build(potential(), more, cache=tmp_path)
    assert computed == [1]
    for index in range(len(store)):
        for name, value in vars(store[index]).items():
            assert np.array_equal(value, vars(larger[len(store) - index])[name], equal_nan=True), name
    shutil.rmtree(tmp_path / "force_constants" / "crystals")
    ForceConstantsStore.build(potential(), graphs, cache=tmp_path)
    fewer = GraphStore.build(structures()[2:6], 3.0, cache=tmp_path)
    ForceConstantsStore.build(potential(), fewer, cache=tmp_path)
    assert computed == [1]
    ForceConstantsStore.build(potential(depth=2.0), fewer, cache=tmp_path)
    assert len(computed) == 5, "another potential's are others"


def test_what_the_key_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(structure: Structure, **hypers: float) -> str:
        graphs = GraphStore.build([structure], 3.0, cache=tmp_path)
        return ForceConstantsStore.build(potential(**hypers), graphs, cache=tmp_path).key

    salt, other = springs.salt(), springs.salt()
    other.replace(0, "K")
    moved = salt.copy()
    moved.translate_sites([1], [0.001, 0, 0])
    keys = [key(salt), key(salt, depth=1.1), key(other), key(moved)]
    monkeypatch.setattr(force_constants_store, "STEP", 0.01)
    assert len({*keys, key(salt)}) == 5


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_a_killed_run_goes_on(graphs: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Bit for bit what an uninterrupted one leaves, though half of a crystal's rows were written."""
    whole = folder(tmp_path / "a", ForceConstantsStore.build(potential(Neighbourly), graphs, cache=tmp_path / "a"))
    iterate = force_constants_store.iterate

    def killed(*arguments: object) -> Iterator[ForceConstants]:
        for number, found in enumerate(iterate(*arguments)):
            if number == after:
                raise Killed
            yield found

    monkeypatch.setattr(force_constants_store, "iterate", killed)
    with pytest.raises(Killed):
        ForceConstantsStore.build(potential(Neighbourly), graphs, cache=tmp_path / "b")
    (partial,) = (tmp_path / "b" / "force_constants").glob("*.partial")
    with (partial / "matrix.npy").open("ab") as file:  # in the middle of a write
        file.write(b"\1" * 100)
    monkeypatch.setattr(force_constants_store, "iterate", iterate)
    Neighbourly.calls = 0
    store = ForceConstantsStore.build(potential(Neighbourly), graphs, cache=tmp_path / "b")
    assert files(folder(tmp_path / "b", store)) == files(whole)
    calls, Neighbourly.calls = Neighbourly.calls, 0
    ForceConstantsStore.build(potential(Neighbourly), graphs, cache=tmp_path / "c")
    assert (calls < Neighbourly.calls) == (after >= 4), "what was there is computed again"


def test_the_pieces_are_those_that_are_computed(graphs: GraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a resumption begins at is where `iterate` begins a piece."""
    sizes: list[int] = []
    monkeypatch.setattr(by_displacements, "force_constants", lambda _, crystals: sizes.append(len(crystals)) or [])
    counts = np.sort(graphs.n_atoms)[::-1]
    crystals = [Crystal(np.zeros((n, 3)), np.ones(n, dtype=int), np.eye(3)) for n in counts]
    list(by_displacements.iterate(potential(), crystals, 20))
    assert np.cumsum([0, *sizes]).tolist() == force_constants_store._pieces(counts)


@pytest.mark.parametrize("name", ["matrix", "eigenvalues", "eigenvectors", "largest_force"])
def test_a_flipped_byte_is_noticed(
    graphs: GraphStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    store = ForceConstantsStore.build(potential(), graphs, cache=tmp_path)
    place = folder(tmp_path, store) / f"{name}.npy"
    before = files(place.parent)
    content = bytearray(place.read_bytes())
    content[-5] ^= 0x10
    place.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        ForceConstantsStore.build(potential(), graphs, cache=tmp_path)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "is made anew" in line and f"{name}.npy" in line
    assert files(place.parent) == before


def test_the_mean_of_two_potentials(graphs: GraphStore, tmp_path: Path) -> None:
    stores = [ForceConstantsStore.build(potential(depth=d), graphs, cache=tmp_path) for d in (1.0, 2.0)]
    assert ForceConstantsStore.mean(stores[:1], graphs, cache=tmp_path) is stores[0]
    mean = ForceConstantsStore.mean(stores, graphs, cache=tmp_path)
    assert len({store.key for store in (*stores, mean)}) == len({store.potential for store in (*stores, mean)}) == 3
    for index in range(len(graphs)):
        np.testing.assert_allclose(
            mean[index].matrix, (stores[0][index].matrix + stores[1][index].matrix) / 2, rtol=0, atol=1e-12
        )
        assert mean[index].largest_force == max(store[index].largest_force for store in stores)


def refusal(kind: type[PairPotential], graphs: GraphStore, cache: Path) -> str:
    with pytest.raises(ZooError) as caught:
        ForceConstantsStore.build(potential(kind), graphs, cache=cache)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_crystal_that_is_too_large_is_named(
    graphs: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_displacements, "MAX_ATOMS", 11)
    assert refusal(PairPotential, graphs, tmp_path).startswith("2: 12 atoms in the cell: force constants are computed")


def test_an_element_that_the_potential_does_not_know_is_named(graphs: GraphStore, tmp_path: Path) -> None:
    class Few(PairPotential):
        def elements(self) -> frozenset[int]:
            return frozenset({8, 14, 22, 56})

    assert "does not know Na, Cl, Po (in 0, 9)" in refusal(Few, graphs, tmp_path)


def test_an_energy_that_is_not_finite_names_the_crystal(graphs: GraphStore, tmp_path: Path) -> None:
    class Broken(PairPotential):
        def energy(self, batch: CrystalBatch) -> torch.Tensor:
            sodium = batch.numbers == 11
            not_a_number = (-1 - batch.positions[sodium, 0].square()).sqrt()
            return super().energy(batch).index_add(0, batch.crystal[sodium], not_a_number)

    assert "no finite forces in Na1 Cl1" in refusal(Broken, graphs, tmp_path)


@pytest.mark.parametrize("name", ["painn", "sevennet-scratch"])
def test_a_potential_without_an_energy(name: str) -> None:
    with pytest.raises(ZooError, match=f"'{name}' has no energy; those that have: .*sevennet.*zoo list") as caught:
        potentials.build(Plugin(name=name))
    assert "\n" not in str(caught.value)


@pytest.mark.sevennet
def test_another_layer_of_sevennet_has_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings depend on the layer, force constants on the checkpoint alone."""
    from zoo_sevennet import SevenNet

    one, other = (SevenNet(SevenNet.Hypers(layer=layer)) for layer in (1, 2))
    assert one.fingerprint() != other.fingerprint()
    graphs = GraphStore.build([springs.salt()], 3.0, cache=tmp_path)
    first = ForceConstantsStore.build(one, graphs, cache=tmp_path)
    monkeypatch.setattr(force_constants_store, "iterate", lambda *_: pytest.fail("computed anew"))
    assert ForceConstantsStore.build(other, graphs, cache=tmp_path).key == first.key
