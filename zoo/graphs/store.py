"""Many crystal graphs in memory-mapped files, built once and cached by content."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
from pymatgen.core import Structure
from tqdm import tqdm

from zoo.errors import ZooError
from zoo.graphs import neighbour_backends
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import CrystalGraph, crystal_graphs
from zoo.storage.cache import ArrayWriter, building, cache_root, content_key, open_array

FORMAT = 2  # of the files, and of the order of the edges: count up when they change
CHUNK = 256  # crystals in memory while building

# name -> dtype and shape of a row; the first three have a row a crystal, the next two one an atom, the rest one an edge
FILES: dict[str, tuple[str, tuple[int, ...]]] = {
    "cell": ("<f8", (3, 3)),
    "n_atoms": ("<i8", ()),
    "n_edges": ("<i8", ()),
    "positions": ("<f8", (3,)),
    "numbers": ("|u1", ()),
    "src": ("<i4", ()),
    "dst": ("<i4", ()),
    "shift": ("<i2", (3,)),
}


class GraphStore(Sequence[CrystalGraph]):
    """The graphs of n crystals: `store[i]` is a view of the mapped files, nothing is read before it is used.

    Attributes:
        keys: what the crystals are called, in errors too.
        cutoff: Å.
        key: hash of the content; the same crystals (cells, positions, elements; not `keys`) and cutoff have the same,
            whichever backend found the edges.
        n_atoms, n_edges: (n,) int64.
        atom_offsets, edge_offsets: (n + 1,) int64, the rows of crystal i being [offsets[i], offsets[i + 1]).
    """

    def __init__(self, folder: Path, keys: Sequence[str], cutoff: float, key: str) -> None:
        self.keys = list(keys)
        self.cutoff = cutoff
        self.key = key
        self._arrays = {name: open_array(folder / f"{name}.npy") for name in FILES}
        self.n_atoms = np.array(self._arrays["n_atoms"])
        self.n_edges = np.array(self._arrays["n_edges"])
        self.atom_offsets = offsets(self.n_atoms)
        self.edge_offsets = offsets(self.n_edges)

    @classmethod
    def build(
        cls,
        structures: Sequence[Structure] | Sequence[Crystal],
        cutoff: float,
        keys: Sequence[str] | None = None,
        cache: Path | None = None,
        backend: str = neighbour_backends.DEFAULT,
    ) -> GraphStore:
        """The graphs of `structures` with all edges up to `cutoff` (Å), from `cache` where they are there.

        Args:
            structures: n crystals. `Crystal`s are asked for when their turn comes, twice: they need not be in memory.
            cutoff: Å.
            keys: what to call them, n unique strings; default: their numbers.
            cache: default: `cache_root()`.
            backend: looks for the edges (`zoo.graphs.neighbour_backends`).

        Raises:
            ZooError: a structure cannot be made a graph (its key is named), or the disk is full.
        """
        keys = [str(i) for i in range(len(structures))] if keys is None else keys
        crystals = _crystals(structures, keys)
        key = content_key("graphs", FORMAT, float(cutoff), _Contents(crystals))
        folder = (cache_root() if cache is None else cache) / "graphs" / key
        with building(folder) as partial:
            if partial is not None:
                _write(partial, crystals, cutoff, keys, backend)
        return cls(folder, keys, float(cutoff), key)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> CrystalGraph:  # type: ignore[override]
        index = range(len(self))[index]
        atoms = slice(self.atom_offsets[index], self.atom_offsets[index + 1])
        edges = slice(self.edge_offsets[index], self.edge_offsets[index + 1])
        part = self._arrays
        return CrystalGraph(
            positions=part["positions"][atoms],
            numbers=part["numbers"][atoms],
            cell=part["cell"][index],
            src=part["src"][edges],
            dst=part["dst"][edges],
            shift=part["shift"][edges],
        )


def offsets(counts: np.ndarray) -> np.ndarray:
    """(n,) rows of each -> (n + 1,) where each begins, and the total."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _crystals(structures: Sequence[Structure] | Sequence[Crystal], keys: Sequence[str]) -> Sequence[Crystal]:
    if len(structures) and isinstance(structures[0], Crystal):
        return cast(Sequence[Crystal], structures)
    crystals = []
    for structure, key in zip(cast(Sequence[Structure], structures), keys, strict=True):
        try:
            crystals.append(Crystal.of(structure))
        except ZooError as error:
            raise ZooError(f"{key}: {error}") from error
    return crystals


class _Contents(Sequence[list[np.ndarray]]):
    """Arrays of each crystal that determine the graphs, made when they are asked for."""

    def __init__(self, crystals: Sequence[Crystal]) -> None:
        self._crystals = crystals

    def __len__(self) -> int:
        return len(self._crystals)

    def __getitem__(self, index: int) -> list[np.ndarray]:  # type: ignore[override]
        crystal = self._crystals[index]
        return [crystal.cell, crystal.positions, crystal.numbers.astype(np.int64)]


def _write(folder: Path, crystals: Sequence[Crystal], cutoff: float, keys: Sequence[str], backend: str) -> None:
    with ExitStack() as stack:
        files = {name: ArrayWriter(folder / f"{name}.npy", *kind) for name, kind in FILES.items()}
        for file in files.values():
            stack.callback(file.close)
        bar = stack.enter_context(tqdm(total=len(crystals), desc="graphs", unit=" crystals", disable=None))
        graphs, named = crystal_graphs(crystals, cutoff, backend), iter(keys)
        while chunk := list(islice(graphs, CHUNK)):
            for graph, key in zip(chunk, named, strict=False):
                if np.abs(graph.shift).max(initial=0) > np.iinfo(np.int16).max:
                    raise ZooError(f"{key}: atoms lie more than 30,000 cells apart; write them within the cell")
            files["cell"].append(np.stack([g.cell for g in chunk]))
            files["n_atoms"].append(np.array([len(g.numbers) for g in chunk]))
            files["n_edges"].append(np.array([len(g.src) for g in chunk]))
            for name in ("positions", "numbers", "src", "dst", "shift"):
                files[name].append(np.concatenate([getattr(g, name) for g in chunk]))
            bar.update(len(chunk))
