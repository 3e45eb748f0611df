"""Features of an encoder as plain arrays, scalars, vectors and tensors apart, for use outside of the zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from e3nn import o3

from zoo.contract.features import Features
from zoo.contract.plugin import Encoder
from zoo.data.inputs import CLOSEST, too_close
from zoo.errors import ZooError
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.graph import CrystalGraph, collate, size_sorted
from zoo.inference.predictor import EDGES_PER_BATCH, shortest_edge

CARTESIAN = {"0e": "scalars", "1o": "vectors", "2e": "tensors"}


@dataclass(frozen=True)
class Block:
    """All channels of one irrep.

    Attributes:
        irrep: e3nn's, with its parity.
        channels: C, at least 1.
    """

    irrep: o3.Irrep
    channels: int

    @property
    def name(self) -> str:
        """Name of the block: `scalars` (0e), `vectors` (1o), `tensors` (2e), otherwise the irrep."""
        return CARTESIAN.get(str(self.irrep), str(self.irrep))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one atom's features: (C,), (3, C), (3, 3, C); for any other irrep (C, 2l+1)."""
        cartesian = {"scalars": (), "vectors": (3,), "tensors": (3, 3)}
        if self.name in cartesian:
            return (*cartesian[self.name], self.channels)
        return (self.channels, self.irrep.dim)

    @property
    def axes(self) -> tuple[str, ...]:
        """Return the names of the axes of `shape`."""
        if self.name in CARTESIAN.values():
            return (*("xyz",) * (len(self.shape) - 1), "channel")
        return ("channel", "component")

    def of(self, features: Features) -> np.ndarray:
        """Return the values of this block for n atoms, (n, *shape)."""
        if self.name in CARTESIAN.values():
            values: torch.Tensor = getattr(features, self.name)()
        else:
            values = features.block(self.irrep)
        return values.cpu().numpy()


def blocks_of(irreps: o3.Irreps) -> tuple[Block, ...]:
    """Split irreps into blocks: scalars, vectors, tensors, then the other irreps in order of appearance."""
    count: dict[str, int] = dict.fromkeys(CARTESIAN, 0)
    for mul, irrep in irreps:
        count[str(irrep)] = count.get(str(irrep), 0) + mul
    return tuple(Block(o3.Irrep(irrep), mul) for irrep, mul in count.items() if mul)


@dataclass(frozen=True)
class CrystalFeatures:
    """Features of one crystal with n atoms and E edges, each by the name of its block.

    Attributes:
        atoms: (n, *shape) each.
        crystal: (*shape) each, the mean over the atoms: as equivariant as these, and the same for a supercell.
        bonds: (E, *shape) each, in the order of the graph's edges; None where they were not requested.
    """

    atoms: Mapping[str, np.ndarray]
    crystal: Mapping[str, np.ndarray]
    bonds: Mapping[str, np.ndarray] | None = None


def embed(
    encoder: Encoder,
    names: Sequence[str],
    graphs: Sequence[CrystalGraph],
    bonds: bool = False,
    progress: Callable[[int], object] = lambda done: None,
) -> list[CrystalFeatures | ZooError]:
    """Compute the features of crystals, in their order; a crystal without features has an error in its place.

    Args:
        encoder: in eval mode; the crystals go where it is.
        names: names of the crystals in errors.
        graphs: graphs within the encoder's cutoff; small ones go through it together.
        bonds: also of the bonds, which the encoder must provide.
        progress: called with the number of crystals that have just been done.
    """
    found: dict[int, CrystalFeatures | ZooError] = {}
    for index, (name, graph) in enumerate(zip(names, graphs, strict=True)):
        try:
            refuse_unknown_elements(encoder, [name], [graph])
            if shortest_edge(graph) < CLOSEST:
                raise ZooError(too_close(name))
        except ZooError as error:
            found[index] = error
    progress(len(found))
    good = [index for index in range(len(graphs)) if index not in found]
    for batch in size_sorted([len(graphs[i].src) for i in good], EDGES_PER_BATCH):
        chosen = [good[i] for i in batch]
        for index, features in zip(chosen, _forward(encoder, [graphs[i] for i in chosen], bonds), strict=True):
            arrays = [*features.atoms.values(), *(features.bonds or {}).values()]
            finite = all(np.isfinite(array).all() for array in arrays)
            found[index] = features if finite else ZooError(f"{names[index]}: the encoder gives NaN or infinity")
        progress(len(chosen))
    return [found[index] for index in range(len(graphs))]


def _forward(encoder: Encoder, graphs: Sequence[CrystalGraph], bonds: bool) -> list[CrystalFeatures]:
    device = next((tensor.device for tensor in encoder.state_dict().values()), torch.device("cpu"))
    batch = collate(graphs).to(device)
    # no_grad, not inference_mode: tensors that a library caches on first use would be lost to training.
    with torch.no_grad():
        embedding = encoder(batch)
    mean = Features(embedding.atoms.irreps, batch.mean_over_atoms(embedding.atoms.values))
    atoms = _split(embedding.atoms, [len(graph.numbers) for graph in graphs])
    crystals = _split(mean, [1] * len(graphs))
    edges = _split(embedding.bonds, [len(graph.src) for graph in graphs]) if bonds else [None] * len(graphs)
    return [
        CrystalFeatures(a, {name: array[0] for name, array in c.items()}, e)
        for a, c, e in zip(atoms, crystals, edges, strict=True)
    ]


def _split(features: Features, counts: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Split features into the blocks of each crystal; `counts` holds the rows of each."""
    ends = np.cumsum(counts)[:-1]
    parts = {block.name: np.split(block.of(features), ends) for block in blocks_of(features.irreps)}
    return [{name: arrays[i] for name, arrays in parts.items()} for i in range(len(counts))]
