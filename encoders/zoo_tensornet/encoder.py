"""The encoder `tensornet`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from e3nn import o3
from pydantic import StrictInt, field_validator
from pymatgen.core import Element
from torch import Tensor

from zoo.api import (
    CrystalBatch,
    Embedding,
    Encoder,
    Features,
    Hypers,
    Provides,
    Weights,
    ZooError,
    default_path,
    load_weights,
    locate_weights,
    read_metadata,
    sha256_of,
)
from zoo_tensornet import checkpoint
from zoo_tensornet.checkpoint import KNOWN, PUBLIC, Architecture
from zoo_tensornet.network import SIZES, Edges
from zoo_tensornet.radial import cosine_envelope

NAME = "tensornet"
# Raise it whenever the same weights and layers come to give other numbers: caches are then made anew.
VERSION = 1


class TensorNetHypers(Hypers):
    """Hyperparameters of `TensorNet`."""

    weights: str = "MatPES-PBE-2025.1"
    """MatPES-PBE-2025.1, MatPES-r2SCAN-2025.1, or a file that `zoo convert tensornet` wrote (*.safetensors)."""

    layer: StrictInt | tuple[StrictInt, ...] = 2
    """The layer L_n whose features are given, from 1, or a list of layers whose features are concatenated."""

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: str) -> str:
        if weights not in KNOWN and not weights.endswith(".safetensors"):
            raise ValueError(f"weights is one of {', '.join(KNOWN)}, or a file *.safetensors")
        return weights

    @property
    def architecture(self) -> Architecture:
        """Of a file from its header; of public weights that are not here yet from the table.

        Raises:
            ZooError: a file is named that does not exist.
        """
        path = default_path(NAME, self.weights) if self.weights in KNOWN else locate_weights(NAME, self.weights, PUBLIC)
        return _architecture(read_metadata(NAME, path)) if path.is_file() else KNOWN[self.weights]

    @property
    def wanted(self) -> list[int]:
        """The layers asked for, ascending.

        Raises:
            ZooError: the model has no such layer.
        """
        layers = self.layer if isinstance(self.layer, tuple) else (self.layer,)
        last = self.architecture.layers
        if not layers or len(set(layers)) < len(layers) or not all(1 <= n <= last for n in layers):
            raise ZooError(f"encoder 'tensornet': layer is a number from 1 to {last}, or a list of different ones")
        return sorted(layers)


def _architecture(metadata: Mapping[str, Any]) -> Architecture:
    return Architecture(**{key: value for key, value in metadata.items() if key in Architecture.model_fields})


class TensorNet(Encoder):
    """TensorNet of matgl, pretrained on MatPES: Simeon, De Fabritiis, NeurIPS 2023.

    Its 3×3 matrices X = I + A + S, exactly, as 0e, 1o and 2e: A is made of polar vectors. Bonds: radial basis ×
    envelope, and these × Y_1 of the direction. The forward pass is the zoo's own: matgl need not be installed.

    Raises:
        ZooError: the weights are not here (`zoo convert tensornet`).
    """

    Hypers = TensorNetHypers
    pretrained = True
    bonds_from_geometry = True
    public_weights = PUBLIC

    hypers: TensorNetHypers
    species: Tensor

    def __init__(self, hypers: TensorNetHypers) -> None:
        super().__init__(hypers)
        self.path = locate_weights(NAME, hypers.weights, PUBLIC)
        weights = load_weights(NAME, self.path)
        found = _architecture(weights.metadata)
        self.cutoff = found.cutoff
        self.wanted = hypers.wanted
        self.provided = self.provides(hypers)
        self.radial_basis, self.network = checkpoint.build(found, weights.tensors, max(self.wanted))
        index = torch.full((119,), -1)
        index[list(found.elements)] = torch.arange(len(found.elements))
        self.register_buffer("species", index)

    @classmethod
    def provides(cls, hypers: TensorNetHypers) -> Provides:
        """Atoms e.g. 128x0e+128x1o+128x2e for one layer; bonds 3x0e+3x1o."""
        architecture = hypers.architecture
        channels = architecture.units * len(hypers.wanted)
        radial = architecture.radial
        return Provides(
            o3.Irreps([(channels, "0e"), (channels, "1o"), (channels, "2e")]),
            o3.Irreps([(radial, "0e"), (radial, "1o")]),
        )

    @classmethod
    def layers(cls, hypers: TensorNetHypers) -> int:
        """2 for the public models."""
        return hypers.architecture.layers

    @classmethod
    def missing(cls, hypers: TensorNetHypers) -> str | None:
        """The converted weights."""
        try:
            locate_weights(NAME, hypers.weights, PUBLIC)
        except ZooError as error:
            return str(error)
        return None

    @classmethod
    def convert(cls, source: Path) -> Weights:
        """From matgl's `state.pt`, with `model.json` beside it."""
        return checkpoint.convert(source)

    def elements(self) -> frozenset[int]:
        """89 elements for the public models."""
        return frozenset((self.species >= 0).nonzero().flatten().tolist())

    def fingerprint(self) -> str:
        """sha256 of the weights, the layers and the version of this plugin."""
        choice = json.dumps([sha256_of(self.path), self.wanted, VERSION])
        return hashlib.sha256(choice.encode()).hexdigest()

    def bonds(self, batch: CrystalBatch) -> Features:
        """Radial basis × envelope (0e), and that × Y_1 (1o)."""
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        radial = self.radial_basis(distance) * cosine_envelope(distance, self.cutoff).unsqueeze(-1)
        direction = o3.spherical_harmonics([1], vectors, normalize=True, normalization="component")
        values = torch.cat([radial, (radial.unsqueeze(-1) * direction.unsqueeze(1)).flatten(1)], dim=1)
        return Features(o3.Irreps([(radial.shape[1], "0e"), (radial.shape[1], "1o")]), values)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the chosen layers.

        Raises:
            ZooError: the model does not know an element of the batch.
        """
        species = self.species[batch.numbers]
        if (species < 0).any():
            unknown = ", ".join(Element.from_Z(z).symbol for z in batch.numbers[species < 0].unique().tolist())
            raise ZooError(f"{self.hypers.weights} does not know {unknown}: leave out the crystals that hold it")
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        envelope = cosine_envelope(distance, self.cutoff)
        edges = Edges(batch.src, batch.dst, self.radial_basis(distance), envelope, batch.n_atoms)
        layers = self.network(species, edges, vectors / distance.unsqueeze(-1))
        chosen = torch.cat([layers[n - 1] for n in self.wanted], dim=-1)
        values = torch.cat([part.transpose(1, 2).flatten(1) for part in chosen.split(SIZES, dim=1)], dim=1)
        return Embedding(Features(self.provided.atoms, values), self.bonds(batch))
