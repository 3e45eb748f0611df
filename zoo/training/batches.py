"""From stored graphs, embeddings and tensors to what a training step takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding
from zoo.contract.plugin import Encoder
from zoo.embeddings import EmbeddingStore
from zoo.graphs.graph import collate
from zoo.graphs.store import GraphStore


@dataclass(frozen=True)
class Batch:
    """Crystals, their cached embedding (None where the encoder runs in every step) and their true tensors.

    The tensors are (B, *target.shape); per atom (N, *target.shape), NaN where an atom has no label.
    """

    crystals: CrystalBatch
    embedding: Embedding | None
    tensors: Tensor


@dataclass(frozen=True)
class Samples:
    """The labelled crystals of a run.

    Attributes:
        graphs: one graph a crystal.
        tensors: float32, (n, *target.shape), or per atom (all atoms, *target.shape), one crystal after another.
        encoder: makes bond features from the geometry, where they are not cached.
        embeddings: of a frozen encoder, else None.
    """

    graphs: GraphStore
    tensors: Tensor
    encoder: Encoder
    embeddings: EmbeddingStore | None
    per_atom: bool = False

    def rows(self, indices: Sequence[int]) -> np.ndarray:
        """Where in `tensors` those of these crystals are, crystal after crystal."""
        if not self.per_atom:
            return np.asarray(indices, dtype=np.int64)
        offsets = self.graphs.atom_offsets
        parts = [np.arange(offsets[i], offsets[i + 1]) for i in indices]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def batch(self, indices: Sequence[int], device: torch.device) -> Batch:
        """The crystals of these indices as one batch on `device`."""
        crystals = collate([self.graphs[i] for i in indices]).to(device)
        embedding = None
        if self.embeddings is not None:
            embedding = self.embeddings.collate(indices, crystals, self.encoder)
        return Batch(crystals, embedding, self.tensors[self.rows(indices)].to(device))


class Batches:
    """An epoch's batches, of sizes as equal as can be (a last batch of one crystal would be mere noise).

    With a seed the order depends on it and on `epoch` alone, so that a resumed run sees the batches that an
    uninterrupted one would have seen.
    """

    def __init__(
        self, samples: Samples, indices: Sequence[int], size: int, device: torch.device, seed: int | None = None
    ) -> None:
        self.samples = samples
        self.indices = np.asarray(indices)
        self.count = max(1, -(-len(indices) // size))
        self.device = device
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        order = self.indices
        if self.seed is not None:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        for chunk in np.array_split(order, self.count):
            yield self.samples.batch(chunk.tolist(), self.device)
