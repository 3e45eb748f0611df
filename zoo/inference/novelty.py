"""Novelty of a crystal: its distance to the training crystals of a model, and the nearest of them.

A crystal is described by what its encoder sees of it, free of frame, origin and cell: the mean over its atoms of the
scalar features and of the norms of the others. Each channel is divided by its standard deviation over the training
crystals; a distance is the root mean square of the differences of all channels. Channels are many, and alike: kept are
the coordinates along the first principal axes of the training crystals, and the distance from the space of these, in
which the differences of a crystal that is unlike all of them would otherwise be lost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from zoo.contract.features import Features
from zoo.contract.plugin import Encoder
from zoo.errors import ZooError
from zoo.graphs.graph import collate, size_sorted
from zoo.storage import checksums
from zoo.storage.cache import give_back

if TYPE_CHECKING:  # ignite, which an answer needs nothing of, takes a while to import
    from zoo.training.batches import Samples

NEIGHBOURS = 5  # a crystal is as novel as its mean distance to so many
COMPONENTS = 64  # principal axes that are kept, at most
WITHIN = 0.99  # of the validation part are nearer than the threshold
USUAL = 0.95
"""Share of the training tensors that are no larger than what counts as usual. Answers are drawn towards the middle: of
206 held-out crystals none was answered with more than 99 % of the training tensors have, and 5 with more than 95 %,
whose errors were five times those of the others."""
_ARRAYS, _NAMES = "reference.safetensors", "reference.json"


def describe_crystals(atoms: Features, crystal: Tensor, n_crystals: int) -> Tensor:
    """Average over the atoms of each crystal the scalars (0e) and the norms of all other channels: (B, D).

    Args:
        atoms: features of N atoms.
        crystal: (N,) the crystal of each.
        n_crystals: B.
    """
    parts = [
        atoms.values[:, where]
        if ir.l == 0 and ir.p == 1
        else atoms.values[:, where].reshape(-1, mul, ir.dim).norm(dim=-1)
        for (mul, ir), where in zip(atoms.irreps, atoms.irreps.slices(), strict=True)
    ]
    invariant = torch.cat(parts, dim=1).double()
    sums = invariant.new_zeros((n_crystals, invariant.shape[1])).index_add_(0, crystal, invariant)
    return (sums / torch.bincount(crystal, minlength=n_crystals)[:, None]).float()


@torch.no_grad()
def describe_samples(
    encoder: Encoder, samples: Samples, indices: Sequence[int], device: torch.device, edges_per_batch: int = 16_000
) -> np.ndarray:
    """Describe the crystals `indices`, (n, D), from cached embeddings where there are some, else by `encoder`."""
    if samples.embeddings is None:
        encoder.to(device).eval()
    found: list[Tensor] = [torch.empty(0)] * len(indices)
    batches = size_sorted(samples.graphs.n_edges[list(indices)].tolist(), edges_per_batch)
    for chosen in tqdm(batches, desc="training crystals", unit=" batches", disable=None, leave=False):
        these = [indices[i] for i in chosen]
        counts = torch.from_numpy(samples.graphs.n_atoms[these])
        if samples.embeddings is not None:
            atoms = samples.embeddings.read(these).atoms
        else:
            atoms = encoder(collate([samples.graphs[i] for i in these]).to(device)).atoms
        crystal = torch.arange(len(these)).repeat_interleave(counts).to(atoms.values.device)
        for i, descriptor in zip(chosen, describe_crystals(atoms, crystal, len(these)).cpu(), strict=True):
            found[i] = descriptor
        give_back()
    return torch.stack(found).numpy()


@dataclass(frozen=True)
class Novelty:
    """Descriptors of n training crystals, and the distance beyond which a crystal is unlike them.

    Attributes:
        names: `key`, `formula` and `crystal_system` of each training crystal.
        tensors: their labels, (n, *target.shape), zero where a crystal has none of this part of a joint target; None
            where there is one tensor per atom.
        descriptors: `coordinates` of each, (n, K + 1) float32; in a model of an earlier zoo all channels, (n, D).
        scale: standard deviation of each channel of `describe_crystals`, (D,).
        threshold: distance that 99 % of the validation crystals are within, see `novelty`.
        axes: (D, K) orthonormal columns, principal axes of the training crystals' channels in units of `scale`; None in
            a model of an earlier zoo.
    """

    names: Sequence[Mapping[str, str]]
    tensors: np.ndarray | None
    descriptors: np.ndarray
    scale: np.ndarray
    threshold: float
    axes: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        names: Sequence[Mapping[str, str]],
        tensors: np.ndarray | None,
        training: np.ndarray,
        validation: np.ndarray,
    ) -> Novelty:
        """Scale the training crystals' descriptors (`describe_crystals`); validation crystals set the threshold."""
        scale = training.std(0)
        scale[scale < 1e-6 * max(float(scale.max()), 1e-12)] = np.inf  # a channel that never changes tells nothing
        scaled = (training / scale).astype(np.float64)
        _, axes = np.linalg.eigh(np.cov(scaled, rowvar=False))
        found = cls(names, tensors, training, scale, np.inf, np.ascontiguousarray(axes[:, ::-1][:, :COMPONENTS]))
        found = replace(found, descriptors=found.coordinates(training).astype(np.float32))
        threshold = sorted(found.novelty(one) for one in validation)[math.ceil(WITHIN * len(validation)) - 1]
        return replace(found, threshold=threshold)

    def coordinates(self, descriptors: np.ndarray) -> np.ndarray:
        """Convert descriptors, (..., D) as of `describe_crystals`, to coordinates whose distances are compared.

        Returns:
            (..., K + 1): along the K axes, and the norm of the rest; without axes all channels in units of `scale`.
        """
        scaled = np.asarray(descriptors, np.float64) / self.scale
        if self.axes is None:
            return scaled
        along = scaled @ self.axes
        rest = np.square(scaled).sum(-1) - np.square(along).sum(-1)
        return np.concatenate([along, np.sqrt(np.maximum(rest, 0))[..., None]], axis=-1)

    @cached_property
    def usual(self) -> float | None:
        """Frobenius norm that 95 % of the training tensors do not exceed; None where these are not known."""
        if self.tensors is None:
            return None
        norms = np.linalg.norm(self.tensors.reshape(len(self.tensors), -1), axis=1)
        known = np.sort(norms[norms > 0])  # zero: a crystal without a label of this part of a joint target
        return float(known[math.ceil(USUAL * len(known)) - 1]) if len(known) else None

    def distances(self, descriptor: np.ndarray) -> np.ndarray:
        """Return the distances from a crystal, (D,) as `describe_crystals` gives it, to the training crystals, (n,)."""
        squares = np.square(self.descriptors - self.coordinates(descriptor)).sum(axis=1)
        return np.sqrt(squares / len(self.scale))

    def novelty(self, descriptor: np.ndarray) -> float:
        """Return the mean distance to the `NEIGHBOURS` nearest training crystals."""
        count = min(NEIGHBOURS, len(self.descriptors))
        return float(np.partition(self.distances(descriptor), count - 1)[:count].mean())

    def nearest(self, descriptor: np.ndarray, count: int) -> tuple[dict[str, Any], ...]:
        """Return the nearest training crystals: key, formula, crystal system, distance, tensor; nearest first.

        The tensor is None where the crystal has no label of this part of a joint target.
        """
        distances = self.distances(descriptor)
        return tuple(
            {**self.names[i], "distance": float(distances[i]), "tensor": self._label(i)}
            for i in np.argsort(distances, kind="stable")[:count]
        )

    def _label(self, number: np.intp) -> list[Any] | None:
        """The tensor of a training crystal; None where it has no label, which `tensors` holds as zero."""
        tensor = None if self.tensors is None else self.tensors[number]
        return tensor.tolist() if tensor is not None and tensor.any() else None

    def save(self, folder: Path) -> None:
        """Write two files into a model folder: numbers as safetensors, names as JSON."""
        arrays = {"descriptors": self.descriptors, "scale": self.scale, "threshold": np.array([self.threshold])}
        arrays |= {name: array for name, array in (("tensors", self.tensors), ("axes", self.axes)) if array is not None}
        numbers = {name: torch.from_numpy(np.ascontiguousarray(array, "<f4")) for name, array in arrays.items()}
        (folder / _ARRAYS).write_bytes(save(numbers))
        (folder / _NAMES).write_text(json.dumps(list(self.names), ensure_ascii=False) + "\n", encoding="utf-8")
        checksums.seal(folder, [_ARRAYS, _NAMES])

    @classmethod
    def load(cls, folder: Path) -> Novelty:
        """Load from a model folder of format 3 or later.

        Raises:
            ZooError: the files are missing or damaged.
        """
        for name in (_ARRAYS, _NAMES):
            if not (folder / name).is_file():
                raise ZooError(f"{folder / name} is missing: bring it back, or train the model again")
            checksums.verify(folder / name)
        try:
            names = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ZooError(f"{folder / _NAMES} is damaged: {error}") from None
        try:
            arrays = {name: tensor.numpy() for name, tensor in load_file(folder / _ARRAYS).items()}
            threshold = float(arrays.pop("threshold")[0])
            found = cls(
                names,
                arrays.get("tensors"),
                arrays["descriptors"],
                arrays["scale"],
                threshold,
                arrays.get("axes"),
            )
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise ZooError(f"{folder / _ARRAYS} is damaged: {error}") from None
        if not (isinstance(names, list) and len(names) == len(found.descriptors) and all(map(_is_name, names))):
            raise ZooError(f"{folder / _NAMES} is damaged, or does not belong to {_ARRAYS}")
        return found


def _is_name(entry: Any) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(k), str) for k in ("key", "formula", "crystal_system"))
