"""Embeddings of a set of crystals by a frozen encoder, computed once and kept in memory-mapped files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from e3nn import o3
from tqdm import tqdm

from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding, Features
from zoo.contract.plugin import Encoder, Readout
from zoo.errors import ZooError
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.graph import collate
from zoo.graphs.store import GraphStore, offsets
from zoo.model.precomputed import Precomputed
from zoo.storage.cache import ArrayWriter, building, cache_root, content_key, give_back, open_array

FORMAT = 1  # of the files: count up when they change
EDGES_PER_BATCH = 16_000  # on a CPU the speed is the same from 2,000 on; this takes 0.1 GB with SevenNet-0

Dtype = Literal["float32", "float16"]


class EmbeddingStore:
    """Atom features of all atoms of a `GraphStore` and, where they do not follow from the geometry, bond features.

    Attributes:
        graphs: the crystals.
        provides: irreps of the atom and bond features.
        key: hash of the content: graphs, the encoder's fingerprint, dtype.
    """

    def __init__(self, folder: Path, graphs: GraphStore, encoder: Encoder, key: str) -> None:
        self.graphs = graphs
        self.provides = encoder.provides(encoder.hypers)
        self.key = key
        order = _order(graphs)
        self._atoms = _Rows(folder / "atoms.npy", graphs.n_atoms, order)
        self._bonds = _Rows(folder / "bonds.npy", graphs.n_edges, order) if _stored_bonds(encoder) else None
        self._precomputed: Precomputed | None = None

    @classmethod
    def build(
        cls,
        encoder: Encoder,
        graphs: GraphStore,
        *,
        cache: Path | None = None,
        device: torch.device | str = "cpu",
        dtype: Dtype = "float32",
        edges_per_batch: int = EDGES_PER_BATCH,
    ) -> EmbeddingStore:
        """Compute the embeddings of all crystals of `graphs`, or take them from `cache`.

        A run that was killed goes on after the last crystal that it wrote.

        Args:
            encoder: a pretrained one; it is moved to `device` and stays there.
            graphs: built with the encoder's cutoff or a larger one.
            cache: default: `cache_root()`.
            device: where to compute.
            dtype: precision of the files. float16 halves them and is outside the zoo's claims of accuracy: expect 2e-4.
            edges_per_batch: number of edges that go through the encoder at once; a larger crystal goes alone.

        Raises:
            ZooError: the encoder lacks an element, a feature is not finite (crystals are named), or the disk is full.
            TypeError: the encoder is not pretrained.
        """
        # Neither device nor backend of the convolution is in the key: they change the last digits alone.
        key = content_key("embeddings", FORMAT, graphs.key, encoder.fingerprint(), dtype)
        if graphs.cutoff < encoder.cutoff:
            raise ValueError(f"the graphs end at {graphs.cutoff} Å, the encoder needs {encoder.cutoff} Å")
        refuse_unknown_elements(encoder, graphs.keys, graphs)
        encoder.to(device).eval()
        folder = (cache_root() if cache is None else cache) / "embeddings" / key
        with building(folder, resume=True) as partial:
            if partial is not None:
                _compute(partial, encoder, graphs, torch.device(device), dtype, edges_per_batch)
        return cls(folder, graphs, encoder, key)

    def __len__(self) -> int:
        return len(self.graphs)

    def atoms(self, index: int) -> np.ndarray:
        """Return the atom features of a crystal, (n_atoms[index], irreps.dim), as a view in the dtype of the files."""
        return self._atoms[index]

    def bonds(self, index: int) -> np.ndarray | None:
        """Return stored bond features, (n_edges[index], irreps.dim), or None where the encoder has none to store."""
        return self._bonds[index] if self._bonds is not None else None

    def precompute(self, readout: Readout, encoder: Encoder, device: torch.device | str = "cpu") -> None:
        """Let `collate` return the precomputed part of `readout` (see `Readout.precompute`) from now on, if it has one.

        `encoder` is on `device`.
        """

        def embed(piece: np.ndarray) -> tuple[Embedding, CrystalBatch]:
            batch = collate([self.graphs[i] for i in piece]).to(device)
            return self.collate(piece.tolist(), batch, encoder), batch

        pieces = _batches(np.arange(len(self)), self.graphs.n_edges, EDGES_PER_BATCH)
        self._precomputed = None
        self._precomputed = Precomputed.build(readout, embed, pieces)

    def collate(self, indices: Sequence[int], batch: CrystalBatch, encoder: Encoder) -> Embedding:
        """Return the embedding of a batch of the crystals `indices`, in this order, as the encoder would compute it.

        On the device and in the dtype of the batch; bonds that follow from the geometry are computed again.
        """
        return self.complete(self.read(indices), batch, encoder)

    def read(self, indices: Sequence[int]) -> Embedding:
        """Read the stored features of these crystals, one after another: on the CPU, in the dtype of the files."""
        atoms = self._joined(self._atoms, indices, self.provides.atoms)
        if self._precomputed is not None:
            return Embedding(atoms, precomputed=self._precomputed.rows(indices))
        if self.provides.bonds is None or self._bonds is None:
            return Embedding(atoms)
        return Embedding(atoms, self._joined(self._bonds, indices, self.provides.bonds))

    def complete(self, stored: Embedding, batch: CrystalBatch, encoder: Encoder) -> Embedding:
        """Complete what `read` gave for `batch` by the features that are recomputed from the geometry."""
        if batch.strain is not None:
            raise ValueError("a cached embedding does not follow a strain")
        if len(stored.atoms.values) != batch.n_atoms:
            raise ValueError(f"the batch has {batch.n_atoms} atoms, the crystals {len(stored.atoms.values)}")
        positions = batch.positions
        embedding = stored.to(positions.device, positions.dtype, non_blocking=positions.is_cuda)
        if self.provides.bonds is None or self._precomputed is not None or self._bonds is not None:
            return embedding
        return replace(embedding, bonds=encoder.bonds(batch))

    @staticmethod
    def _joined(rows: _Rows, indices: Sequence[int], irreps: o3.Irreps) -> Features:
        return Features(irreps, torch.from_numpy(np.concatenate([rows[i] for i in indices])))


class _Rows:
    """Access by crystal to the rows of a mapped array that is in the order of computation."""

    def __init__(self, path: Path, counts: np.ndarray, order: np.ndarray) -> None:
        self._array = open_array(path)
        self._counts = counts
        self._start = np.empty(len(counts), dtype=np.int64)
        self._start[order] = offsets(counts[order])[:-1]

    def __getitem__(self, index: int) -> np.ndarray:
        return self._array[self._start[index] : self._start[index] + self._counts[index]]


def _stored_bonds(encoder: Encoder) -> bool:
    return encoder.provides(encoder.hypers).bonds is not None and not encoder.bonds_from_geometry


def _order(graphs: GraphStore) -> np.ndarray:
    """Order crystals by size, the largest first, so that one that does not fit in memory fails at once."""
    return np.argsort(-graphs.n_edges, kind="stable")


def _batches(order: np.ndarray, n_edges: np.ndarray, edges_per_batch: int) -> list[np.ndarray]:
    """Cut `order` into pieces of at most `edges_per_batch` edges, or of one crystal."""
    pieces, start, edges = [], 0, 0
    for end, index in enumerate(order):
        if end > start and edges + n_edges[index] > edges_per_batch:
            pieces.append(order[start:end])
            start, edges = end, 0
        edges += n_edges[index]
    return [*pieces, order[start:]] if start < len(order) else pieces


def _compute(
    folder: Path, encoder: Encoder, graphs: GraphStore, device: torch.device, dtype: Dtype, edges_per_batch: int
) -> None:
    order = _order(graphs)
    provides = encoder.provides(encoder.hypers)
    parts = {"atoms": (provides.atoms, graphs.n_atoms[order])}
    if provides.bonds is not None and _stored_bonds(encoder):
        parts["bonds"] = (provides.bonds, graphs.n_edges[order])
    with ExitStack() as stack:
        files = {name: ArrayWriter(folder / f"{name}.npy", dtype, (irreps.dim,)) for name, (irreps, _) in parts.items()}
        for file in files.values():
            stack.callback(file.close)
        # The files are their own journal: whole are the first crystals whose rows are all there. A batch of which some
        # are missing is computed again as a whole: among other crystals the last digits would be others.
        ends = {name: offsets(counts) for name, (_, counts) in parts.items()}
        whole = min(int(np.searchsorted(ends[name], files[name].rows, side="right")) - 1 for name in files)
        pieces = _batches(order, graphs.n_edges, edges_per_batch)
        last = np.cumsum([len(piece) for piece in pieces])
        pieces = pieces[int(np.searchsorted(last, whole, side="right")) :]
        done = len(order) - sum(map(len, pieces))
        for name, file in files.items():
            file.truncate(int(ends[name][done]))
        bar = stack.enter_context(
            tqdm(total=len(order), initial=done, desc="embeddings", unit=" crystals", disable=None)
        )
        for piece in pieces:
            batch = collate([graphs[i] for i in piece]).to(device)
            # no_grad, not inference_mode: tensors that a library caches on first use would be lost to training.
            with torch.no_grad():
                embedding = encoder(batch)
            for name, file in files.items():
                features = getattr(embedding, name)
                if features is None or features.irreps != parts[name][0]:
                    raise ValueError(f"{type(encoder).__name__} did not give the {name} that it provides")
                counts = graphs.n_atoms if name == "atoms" else graphs.n_edges
                file.append(_finite(features.values, dtype, piece, counts, graphs.keys))
            bar.update(len(piece))
            give_back()


def _finite(values: torch.Tensor, dtype: Dtype, piece: np.ndarray, counts: np.ndarray, keys: list[str]) -> np.ndarray:
    """Return the features of the crystals `piece` in the dtype of the files, (n, dim), refusing infinity and NaN."""
    rows = values.cpu().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an overflow is named below
        stored = rows.astype(dtype)
    bad = ~np.isfinite(stored).all(axis=1)
    if not bad.any():
        return stored
    crystal = keys[np.repeat(piece, counts[piece])[bad][0]]
    if np.isfinite(rows).all():
        raise ZooError(f"{crystal}: a feature is too large for float16: keep the embeddings in float32")
    raise ZooError(f"{crystal}: the encoder gives NaN or infinity: look for atoms in the same place, or take it out")
