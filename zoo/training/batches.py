"""From stored graphs, embeddings and tensors to what a training step takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import ignite.distributed as idist
import numpy as np
import torch
from torch import Tensor

from zoo.config.sections import Optimisation, Training
from zoo.contract.batch import CrystalBatch
from zoo.contract.features import Embedding
from zoo.contract.plugin import Encoder
from zoo.contract.target import TensorTarget
from zoo.data.labels import Labels
from zoo.errors import ZooError
from zoo.graphs.graph import collate
from zoo.graphs.store import GraphStore
from zoo.model.embedding_store import EmbeddingStore
from zoo.phonons.force_constants_store import CombinedForceConstants, ForceConstantsStore
from zoo.storage.cache import give_back
from zoo.training.packing import Packing, partition
from zoo.training.prefetch import prefetch


@dataclass(frozen=True)
class Batch:
    """Crystals, their cached embedding (None where the encoder runs in every step) and their true tensors.

    The tensors are (B, *target.shape); per atom (N, *target.shape), NaN where an atom has no label.

    Attributes:
        rows: where these tensors belong among those of all crystals that are gone through, in their order.
        weights: by label that of its mean error in this batch, so that the sum over processes is the step's error, and
            the mean over an epoch's steps that over its crystals. In one process 1, but for batches by edges.
        labels: by name those beside the tensors (`Labels`), NaN where there is none.
    """

    crystals: CrystalBatch
    embedding: Embedding | None
    tensors: Tensor
    rows: np.ndarray
    weights: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A batch before it is where the model is: of the embedding what is in files."""

    crystals: CrystalBatch
    embedding: Embedding | None
    tensors: Tensor
    rows: np.ndarray
    weights: Mapping[str, float]
    labels: Mapping[str, Tensor]

    def pinned(self) -> Loaded:
        """In memory from which a GPU fetches it while the processor goes on."""
        embedding = None if self.embedding is None else self.embedding.pin_memory()
        return replace(
            self,
            crystals=self.crystals.pin_memory(),
            embedding=embedding,
            tensors=self.tensors.pin_memory(),
            labels={name: label.pin_memory() for name, label in self.labels.items()},
        )


@dataclass(frozen=True)
class Samples:
    """The labelled crystals of a run.

    Attributes:
        graphs: one graph a crystal.
        tensors: float32, (n, *target.shape), or per atom (all atoms, *target.shape), one crystal after another.
        encoder: makes bond features from the geometry, where they are not cached.
        embeddings: of a frozen encoder, else None.
        force_constants: of all crystals, where the readout needs them, else None.
        target: of the tensors, where it is a joint one: each of its parts is a label.
        labels: those beside the tensors, else None.
    """

    graphs: GraphStore
    tensors: Tensor
    encoder: Encoder
    embeddings: EmbeddingStore | None
    per_atom: bool = False
    force_constants: ForceConstantsStore | CombinedForceConstants | None = None
    target: TensorTarget | None = None
    labels: Labels | None = None

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return where in `tensors` those of these crystals are, crystal after crystal."""
        if not self.per_atom:
            return np.asarray(indices, dtype=np.int64)
        return _concatenated_ranges(self.graphs.atom_offsets, np.asarray(indices, dtype=np.int64))

    def labelled(self, indices: Sequence[int] | np.ndarray) -> Counter[str]:
        """By label the number that a mean error of these crystals is the mean of, in units that are the same for all.

        The tensors are the label "", or each part of a joint target is one by its name: of one tensor an atom the atoms
        with a label are counted, else components.
        """
        tensors = self.tensors[self.rows(indices)]
        if self.per_atom:
            return Counter({"": int((~tensors.isnan()).flatten(1).all(dim=1).sum())})
        parts = {"": tensors} if self.target is None else {k: t for k, (_, t) in self.target.split(tensors).items()}
        beside = {} if self.labels is None else self._beside(indices)
        return Counter({name: int((~label.isnan()).sum()) for name, label in (parts | beside).items()})

    def _beside(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """The labels of these crystals beside their tensors."""
        chosen = np.asarray(indices, dtype=np.int64)
        assert self.labels is not None
        return self.labels.read(chosen, _concatenated_ranges(self.graphs.atom_offsets, chosen))

    def load(self, indices: Sequence[int], rows: np.ndarray, weights: Mapping[str, float]) -> Loaded:
        """The crystals of these indices from the files; see `Batch` for `rows` and `weights`."""
        embedding = None if self.embeddings is None else self.embeddings.read(indices)
        crystals = collate([self.graphs[i] for i in indices])
        if self.force_constants is not None:
            constants = self.force_constants.read(indices)
            crystals = replace(crystals, force_constants=constants.each(in_precision_of(crystals.positions)))
        labels: Mapping[str, Tensor] = {}
        if self.labels is not None:
            labels = self._beside(indices)
            crystals = replace(crystals, level=self.labels.level[list(indices)])
        give_back()
        return Loaded(crystals, embedding, self.tensors[self.rows(indices)], rows, weights, labels)

    def batch(self, loaded: Loaded, device: torch.device) -> Batch:
        """Move a loaded batch to `device`."""
        pinned = device.type == "cuda"
        crystals = loaded.crystals.to(device, non_blocking=pinned)
        embedding = None
        if self.embeddings is not None:
            assert loaded.embedding is not None
            embedding = self.embeddings.complete(loaded.embedding, crystals, self.encoder)
        tensors = loaded.tensors.to(device, non_blocking=pinned)
        labels = {name: label.to(device, non_blocking=pinned) for name, label in loaded.labels.items()}
        return Batch(crystals, embedding, tensors, loaded.rows, loaded.weights, labels)


def in_precision_of(like: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that brings floating-point tensors to the dtype of `like`, and leaves others."""
    return lambda tensor: tensor.to(like.dtype) if tensor.is_floating_point() else tensor


def _concatenated_ranges(offsets: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """[offsets[i], offsets[i + 1]) for each i, one after another."""
    parts = [np.arange(offsets[i], offsets[i + 1]) for i in indices]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


class SamplesOf(Protocol):
    """Labelled crystals that `Batches` makes batches of: `Samples`, or those of another kind of label.

    Attributes:
        graphs: one graph a crystal.
        per_atom: labels are those of atoms.
    """

    @property
    def graphs(self) -> GraphStore:
        """One graph a crystal."""

    @property
    def per_atom(self) -> bool:
        """Labels are those of atoms."""

    def labelled(self, indices: Sequence[int] | np.ndarray) -> Counter[str]:
        """By label the number that a mean error of these crystals is the mean of."""

    def load(self, indices: Sequence[int], rows: np.ndarray, weights: Mapping[str, float]) -> Any:
        """The crystals of these indices from the files; what it gives has a method `pinned`."""

    def batch(self, loaded: Any, device: torch.device) -> Any:
        """Move what was loaded to `device`."""


class Batches:
    """An epoch's batches, by number of crystals or by edges; of each, what falls to this process.

    By number they are of sizes as equal as can be (a last batch of one crystal would be mere noise); by edges see
    `Packing`. With a seed the batches depend on it and on `epoch` alone, so that a resumed run, and one on another
    number of processes, sees those that an uninterrupted one would have seen. Each is divided among the processes by
    edges; None comes where there are fewer crystals than processes.

    Of auxiliary crystals an epoch has as many as `training.auxiliary_share` says, drawn anew by seed and epoch; of each
    of further groups as many as stand beside it.

    Attributes:
        prefetch: load the next batches while one is computed. On a GPU, which leaves the processor idle; on a CPU the
            thread would take its time from the model's.
    """

    def __init__(
        self,
        samples: SamplesOf,
        indices: Sequence[int],
        settings: Optimisation,
        device: torch.device,
        seed: int | None = None,
        auxiliary: Sequence[int] = (),
        further: Sequence[tuple[Sequence[int], int]] = (),
    ) -> None:
        self.samples = samples
        drawn = len(auxiliary)
        if isinstance(settings, Training) and settings.auxiliary_share is not None:
            drawn = min(drawn, round(settings.auxiliary_share * len(indices)))
        groups = [(indices, len(indices)), (auxiliary, drawn), *further]
        self._groups = [(len(group), count) for group, count in groups]
        indices = [i for group, _ in groups for i in group]
        self.indices = np.asarray(indices, dtype=np.int64)
        self.device = device
        self.seed = seed
        self.epoch = 0
        self.prefetch = device.type == "cuda"
        self.edges = samples.graphs.n_edges[self.indices]
        self.packing = None if settings.batch_edges is None else Packing(self.edges, settings.batch_edges)
        if self.packing is not None and drawn < len(auxiliary):
            raise ZooError("training.batch_edges takes all auxiliary crystals: set training.auxiliary_share: null")
        crystals = sum(count for _, count in self._groups)
        self.count = max(1, -(-crystals // settings.batch_size)) if self.packing is None else len(self.packing)
        counts = samples.graphs.n_atoms[self.indices] if samples.per_atom else np.ones(len(indices), dtype=np.int64)
        self._offsets = np.concatenate([[0], np.cumsum(counts)])
        self._labelled = samples.labelled(self.indices)

    def __len__(self) -> int:
        return self.count

    @property
    def n_rows(self) -> int:
        """The number of tensors of all crystals together."""
        return int(self._offsets[-1])

    def plan(self) -> list[np.ndarray]:
        """The crystals of each batch of this epoch, over all processes, as positions among `indices`."""
        random = None if self.seed is None else np.random.default_rng((self.seed, self.epoch))
        if self.packing is not None:
            return self.packing.batches(random)
        order = np.arange(len(self.indices))
        if random is not None:
            ends = np.cumsum([size for size, _ in self._groups])[:-1]
            chosen = [
                group if count == len(group) else random.permutation(group)[:count]
                for group, (_, count) in zip(np.split(order, ends), self._groups, strict=True)
            ]
            order = random.permutation(np.concatenate(chosen))
        return np.array_split(order, self.count)

    def __iter__(self) -> Iterator[Batch | None]:
        loaded: Iterable[Loaded | None] = self._load()
        if self.prefetch:
            loaded = prefetch(part.pinned() if part is not None else None for part in self._load())
        for part in loaded:
            yield None if part is None else self.samples.batch(part, self.device)

    def _load(self) -> Iterator[Loaded | None]:
        rank, world = idist.get_rank(), idist.get_world_size()
        for whole in self.plan():
            mine = whole if world == 1 else whole[np.sort(partition(self.edges[whole], world)[rank])]
            yield self._share(mine, whole) if len(mine) else None

    def _share(self, mine: np.ndarray, whole: np.ndarray) -> Loaded:
        indices = self.indices[mine]
        own = self.samples.labelled(indices)
        weights = dict.fromkeys(own, 1.0)
        if self.packing is not None:
            weights = {name: own[name] * self.count / max(self._labelled[name], 1) for name in own}
        elif len(mine) < len(whole):
            all_of_step = self.samples.labelled(self.indices[whole])
            weights = {name: own[name] / max(all_of_step[name], 1) for name in own}
        return self.load(indices.tolist(), _concatenated_ranges(self._offsets, mine), weights)

    def load(self, indices: Sequence[int], rows: np.ndarray, weights: Mapping[str, float]) -> Any:
        """The crystals of these indices from the files, for `SamplesOf.batch`."""
        return self.samples.load(indices, rows, weights)
