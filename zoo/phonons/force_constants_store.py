"""Force constants of a set of crystals, computed once and kept in memory-mapped files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from zoo.contract.padded_force_constants import PaddedForceConstants, places
from zoo.contract.plugin import Encoder
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.space_group import SYMPREC
from zoo.graphs.store import GraphStore, offsets
from zoo.phonons.force_constants import STEP, ForceConstants, force_constants, iterate, refuse_size
from zoo.phonons.kept_force_constants import KeptForceConstants
from zoo.storage.cache import ArrayWriter, building, cache_root, content_key, give_back, open_array

logger = logging.getLogger(__name__)

FORMAT = 2  # of the files: count up when they, or what is computed, change
ATOMS_AT_ONCE = 64

# name -> shape of a row; of the first a crystal has one row, of the second 3N, of the others 9N²
_FILES = ("largest_force", "eigenvalues", "eigenvectors", "matrix")


class ForceConstantsStore:
    """Force constants of the n crystals of a `GraphStore`, float64.

    Attributes:
        key: hash of the content: the crystals, the energy's fingerprint, the way of computing.
        potential: the energy's fingerprint.
        largest_force: (n,) eV/Å, the largest force on an atom of each crystal.
    """

    def __init__(self, folder: Path, n_atoms: np.ndarray, key: str, potential: str) -> None:
        self.key = key
        self.potential = potential
        self._n_atoms = n_atoms
        self._arrays = {name: open_array(folder / f"{name}.npy") for name in _FILES}
        order = _order(n_atoms)
        self._starts = {}
        for name in ("eigenvalues", "matrix"):
            self._starts[name] = np.empty(len(n_atoms), dtype=np.int64)
            self._starts[name][order] = offsets(_rows(name, n_atoms[order]))[:-1]
        self.largest_force = np.empty(len(n_atoms))
        self.largest_force[order] = np.asarray(self._arrays["largest_force"][:])

    @classmethod
    def build(cls, potential: Encoder, graphs: GraphStore, cache: Path | None = None) -> ForceConstantsStore:
        """Compute the force constants of all crystals, or take them from `cache`; a killed run goes on where it was.

        Each crystal's are kept on their own, too: of another set only the crystals that are new are computed.

        Args:
            potential: a frozen encoder that provides an energy; it is brought to float64 and stays so.
            graphs: the crystals, whatever the cutoff.
            cache: default: `cache_root()`.

        Raises:
            ZooError: a crystal is too large or holds an element that the potential does not know (it is named), or its
                energy has no finite derivative.
        """
        key = content_key("force constants", FORMAT, STEP, SYMPREC, _Geometry(graphs), potential.energy_fingerprint())
        folder = (cache_root() if cache is None else cache) / "force_constants" / key
        kept = KeptForceConstants(potential, cache)

        def crystal(index: int) -> Crystal:
            graph = graphs[index]
            return Crystal(graph.positions, graph.numbers, graph.cell)

        with building(folder, resume=True) as partial:
            if partial is not None:
                _refuse_sizes(graphs)
                refuse_unknown_elements(potential, graphs.keys, graphs)
                potential.double().eval().requires_grad_(False)

                def compute(indices: np.ndarray) -> Iterator[ForceConstants]:
                    known = np.array([kept.read(crystal(i)) is not None for i in indices], dtype=bool)
                    computed = iterate(potential, map(crystal, indices[~known]), ATOMS_AT_ONCE)
                    for i, is_known in zip(indices, known, strict=True):
                        found = kept.read(crystal(i)) if is_known else next(computed)
                        # It may have been deleted in the meantime.
                        yield force_constants(potential, [crystal(i)])[0] if found is None else found

                _write(partial, graphs, compute)
        store = cls(folder, graphs.n_atoms, key, potential.energy_fingerprint())
        for i in range(len(store)):
            if crystal(i) not in kept:
                kept.write(crystal(i), store[i])
        return store

    @classmethod
    def mean(
        cls, stores: Sequence[ForceConstantsStore], graphs: GraphStore, cache: Path | None = None
    ) -> ForceConstantsStore:
        """The mean of several potentials' force constants of the same crystals; of forces the largest."""
        if len(stores) == 1:
            return stores[0]
        key = content_key("mean force constants", FORMAT, [store.key for store in stores])
        folder = (cache_root() if cache is None else cache) / "force_constants" / key
        with building(folder, resume=True) as partial:
            if partial is not None:
                _write(partial, graphs, lambda indices: (mean_of([store[i] for store in stores]) for i in indices))
        return cls(folder, graphs.n_atoms, key, content_key([store.potential for store in stores]))

    @classmethod
    def of_records(
        cls, graphs: GraphStore, matrix: Callable[[int], np.ndarray], cache: Path | None = None
    ) -> ForceConstantsStore:
        """Force constants that a source holds, (3N, 3N) eV/Å² by the number of the crystal, decomposed."""
        content = [content_key(matrix(i)) for i in range(len(graphs))]
        key = content_key("given force constants", FORMAT, content)
        folder = (cache_root() if cache is None else cache) / "force_constants" / key
        with building(folder, resume=True) as partial:
            if partial is not None:
                _write(partial, graphs, lambda indices: (ForceConstants.of(matrix(int(i))) for i in indices))
        return cls(folder, graphs.n_atoms, key, "")

    def __len__(self) -> int:
        return len(self._n_atoms)

    def __getitem__(self, index: int) -> ForceConstants:
        size = 3 * int(self._n_atoms[index])
        first, start = self._starts["eigenvalues"][index], self._starts["matrix"][index]
        matrix, vectors = (
            np.asarray(self._arrays[name][start : start + size**2]).reshape(size, size)
            for name in ("matrix", "eigenvectors")
        )
        values = np.asarray(self._arrays["eigenvalues"][first : first + size])
        return ForceConstants(matrix, values, vectors, float(self.largest_force[index]))

    def read(self, indices: Sequence[int]) -> PaddedForceConstants:
        """The force constants of these crystals as one batch, float64, on the CPU."""
        return padded([self[i] for i in indices])


class CombinedForceConstants:
    """Force constants of n crystals out of several stores; of a crystal that is in none a harmless stand-in.

    Attributes:
        potential: the fingerprint of the first store.
        exact: (n,) bool, whether they are those of the crystal's record.
    """

    def __init__(
        self, n_atoms: np.ndarray, computed: Sequence[tuple[ForceConstantsStore, np.ndarray]], given: np.ndarray
    ) -> None:
        """Take, beside the stores, the numbers of the crystals in each, ascending; `given` are of the last store."""
        self._n_atoms = n_atoms
        self._place = {
            int(i): (store, number) for store, indices in computed for number, i in enumerate(indices.tolist())
        }
        self.potential = computed[0][0].potential
        self.exact = np.zeros(len(n_atoms), dtype=bool)
        self.exact[given] = True

    def __len__(self) -> int:
        return len(self._n_atoms)

    def __getitem__(self, index: int) -> ForceConstants:
        place = self._place.get(index)
        return _stand_in(int(self._n_atoms[index])) if place is None else place[0][place[1]]

    def read(self, indices: Sequence[int]) -> PaddedForceConstants:
        """The force constants of these crystals as one batch, float64, on the CPU."""
        exact = torch.from_numpy(self.exact[list(indices)])
        return replace(padded([self[int(i)] for i in indices]), exact=exact)


def _stand_in(n_atoms: int) -> ForceConstants:
    """10 eV/Å² on every site, for a crystal whose ionic tensor is predicted and compared with nothing."""
    size = 3 * n_atoms
    return ForceConstants(10.0 * np.eye(size), np.full(size, 10.0), np.eye(size), 0.0)


def padded(each: Sequence[ForceConstants]) -> PaddedForceConstants:
    """Force constants of several crystals as one batch, float64, on the CPU."""
    sizes = [len(one.eigenvalues) for one in each]
    most = max(sizes)
    matrix, vectors, values = (np.zeros((len(each), *shape)) for shape in ((most, most), (most, most), (most,)))
    for i, (one, size) in enumerate(zip(each, sizes, strict=True)):
        matrix[i, :size, :size] = one.matrix
        vectors[i, :size, :size] = one.eigenvectors
        values[i, :size] = one.eigenvalues
    counts = torch.tensor(sizes) // 3
    return PaddedForceConstants(
        torch.from_numpy(matrix), torch.from_numpy(values), torch.from_numpy(vectors), places(counts)
    )


class _Geometry(Sequence):
    """Content of graphs that force constants depend on: cells, positions and elements, not the cutoff."""

    def __init__(self, graphs: GraphStore) -> None:
        self._graphs = graphs

    def __len__(self) -> int:
        return len(self._graphs)

    def __getitem__(self, index: int) -> list[np.ndarray]:  # type: ignore[override]
        graph = self._graphs[range(len(self))[index]]
        return [np.asarray(graph.cell), np.asarray(graph.positions), np.asarray(graph.numbers)]


def _rows(name: str, n_atoms: np.ndarray) -> np.ndarray:
    """(n,) rows of each crystal in a file."""
    return {"largest_force": np.ones_like(n_atoms), "eigenvalues": 3 * n_atoms}.get(name, 9 * n_atoms**2)


def _order(n_atoms: np.ndarray) -> np.ndarray:
    """Order crystals by size, the largest first, so that one that does not fit in memory fails at once."""
    return np.argsort(-n_atoms, kind="stable")


def mean_of(each: Sequence[ForceConstants]) -> ForceConstants:
    """The mean of several potentials' force constants and pressures of a crystal; of forces the largest."""
    if len(each) == 1:
        return each[0]
    matrix = np.mean([one.matrix for one in each], axis=0)
    pressure = float(np.mean([one.pressure for one in each]))
    return ForceConstants.of(matrix, max(one.largest_force for one in each), pressure)


def _write(folder: Path, graphs: GraphStore, compute: Callable[[np.ndarray], Iterator[ForceConstants]]) -> None:
    """Fill the files, going on after the last whole crystal; `compute` yields the force constants of crystals."""
    order = _order(graphs.n_atoms)
    with ExitStack() as stack:
        files = {name: ArrayWriter(folder / f"{name}.npy", "<f8") for name in _FILES}
        for file in files.values():
            stack.callback(file.close)
        # The files are their own journal: whole are the first crystals whose rows are all there.
        ends = {name: offsets(_rows(name, graphs.n_atoms[order])) for name in files}
        done = min(int(np.searchsorted(ends[name], files[name].rows, side="right")) - 1 for name in files)
        # A piece is begun anew as a whole: the last digits of a crystal may depend on what is computed beside it.
        done = max(start for start in _pieces(graphs.n_atoms[order]) if start <= done)
        for name, file in files.items():
            file.truncate(int(ends[name][done]))
        bar = stack.enter_context(
            tqdm(total=len(order), initial=done, desc="force constants", unit=" crystals", disable=None)
        )
        for found in compute(order[done:]):
            files["matrix"].append(found.matrix.ravel())
            files["eigenvectors"].append(found.eigenvectors.ravel())
            files["eigenvalues"].append(found.eigenvalues)
            files["largest_force"].append(np.array([found.largest_force]))
            bar.update()
            give_back()


def _refuse_sizes(graphs: GraphStore) -> None:
    for key, count in zip(graphs.keys, graphs.n_atoms, strict=True):
        try:
            refuse_size(int(count))
        except ZooError as error:
            raise ZooError(f"{key}: {error}") from None


def _pieces(sizes: np.ndarray) -> list[int]:
    """Number of the first crystal of each piece that `iterate` computes together, and the number of all."""
    starts, atoms = [0], 0
    for number, size in enumerate(sizes.tolist(), 1):
        atoms += size
        if atoms >= ATOMS_AT_ONCE or number == len(sizes):
            starts.append(number)
            atoms = 0
    return starts
