"""The encoder `tensornet`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from e3nn import o3
from pydantic import StrictInt
from torch import Tensor, nn

from zoo.api import (
    ConvertedEncoder,
    ConvertedHypers,
    CrystalBatch,
    Embedding,
    Features,
    Provides,
    Weights,
    bond_features,
    references,
)
from zoo_tensornet import checkpoint
from zoo_tensornet.checkpoint import KNOWN, PUBLIC, Architecture
from zoo_tensornet.energy import EnergyModel
from zoo_tensornet.network import SIZES, edges_of
from zoo_tensornet.radial import cosine_envelope

# Raise it whenever the same weights and layers come to give other numbers: caches are then made anew.
VERSION = 1


class TensorNetHypers(ConvertedHypers):
    """Hyperparameters of `TensorNet`."""

    encoder = "tensornet"
    public = PUBLIC
    package = "matgl is not needed"

    weights: str = "MatPES-PBE-2025.1"
    """MatPES-PBE-2025.1, MatPES-r2SCAN-2025.1, or a file that `zoo convert tensornet` wrote (*.safetensors)."""

    layer: StrictInt | tuple[StrictInt, ...] = 2
    """The layer L_n whose features are given, from 1, or a list of layers whose features are concatenated."""

    @classmethod
    def outdated(cls, metadata: Mapping[str, Any]) -> str | None:
        """Tell of published weights that were converted before pairs of elements were brought into order."""
        published = {weights.sha256 for weights in PUBLIC.values()}
        if metadata.get("source_sha256") in published and checkpoint.PAIRS not in metadata:
            return "was converted by a version that took the two elements of a pair for each other"
        return None

    @property
    def architecture(self) -> Architecture:
        """Read the architecture of a file from its header; of public weights that are not here yet from the table.

        Raises:
            ZooError: a file is named that does not exist.
        """
        return self.described(Architecture) or KNOWN[self.weights]

    @property
    def wanted(self) -> list[int]:
        """The layers asked for, ascending.

        Raises:
            ZooError: the model has no such layer.
        """
        return self.chosen(self.architecture.layers)


class TensorNet(ConvertedEncoder):
    """TensorNet of matgl, pretrained on MatPES: Simeon, De Fabritiis, NeurIPS 2023.

    Its 3×3 matrices X = I + A + S, exactly, as 0e, 1o and 2e: A is made of polar vectors. Bonds: radial basis ×
    envelope, and these × Y_1 of the direction. The forward pass is the zoo's own: matgl need not be installed.

    Raises:
        ZooError: the weights are not here (`zoo convert tensornet`).
    """

    Hypers = TensorNetHypers
    citation = references("simeon2023tensornet", "kaplan2025matpes")
    bonds_from_geometry = True
    public_weights = PUBLIC

    hypers: TensorNetHypers

    def __init__(self, hypers: TensorNetHypers) -> None:
        tensors = hypers.tensors()
        found = hypers.architecture
        super().__init__(hypers, found.elements)
        self.cutoff = found.cutoff
        self.wanted = hypers.wanted
        self.provided = self.provides(hypers)
        self.radial_basis, self.network = checkpoint.build(found, tensors, max(self.wanted))

    @classmethod
    def provides(cls, hypers: TensorNetHypers) -> Provides:
        """Atoms e.g. 128x0e+128x1o+128x2e for one layer; bonds 3x0e+3x1o."""
        architecture = hypers.architecture
        channels = architecture.units * len(hypers.wanted)
        radial = architecture.radial
        return Provides(
            o3.Irreps([(channels, "0e"), (channels, "1o"), (channels, "2e")]),
            o3.Irreps([(radial, "0e"), (radial, "1o")]),
            energy=hypers.without_energy() is None,
        )

    @classmethod
    def layers(cls, hypers: TensorNetHypers) -> int:
        """2 for the public models."""
        return hypers.architecture.layers

    @classmethod
    def convert(cls, source: Path) -> Weights:
        """From matgl's `state.pt`, with `model.json` beside it."""
        return checkpoint.convert(source)

    def fingerprint(self) -> str:
        """sha256 of the weights, the layers and the version of this plugin."""
        return self.fingerprint_with(self.wanted, VERSION)

    def energy_fingerprint(self) -> str:
        """sha256 of the weights and the version of this plugin."""
        return self.energy_fingerprint_with(VERSION)

    def make_energy_model(self) -> EnergyModel:
        """The potential as matgl has it: readout, scale and reference energies.

        Raises:
            ZooError: the weights hold no energy; the line says why.
        """
        tensors, found = self.hypers.energy_tensors(), self.hypers.architecture
        return checkpoint.build_energy(found, self.hypers.tensors(), tensors)

    def features_of(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Tensors of the network, and of the radial basis."""
        assert isinstance(model, EnergyModel)  # for the type checker
        basis = {f"{checkpoint.BASIS}{name}": x for name, x in model.radial_basis.state_dict().items()}
        return {**basis, **model.network.state_dict()}

    def bonds(self, batch: CrystalBatch) -> Features:
        """Radial basis × envelope (0e), and that × Y_1 (1o)."""
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        radial = self.radial_basis(distance) * cosine_envelope(distance, self.cutoff).unsqueeze(-1)
        return bond_features(radial, vectors)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the chosen layers.

        Raises:
            ZooError: the model does not know an element of the batch.
        """
        species = self.species_of(batch)
        edges, directions = edges_of(batch, self.radial_basis, self.cutoff)
        layers = self.network(species, edges, directions)
        chosen = torch.cat([layers[n - 1] for n in self.wanted], dim=-1)
        values = torch.cat([part.transpose(1, 2).flatten(1) for part in chosen.split(SIZES, dim=1)], dim=1)
        return Embedding(Features(self.provided.atoms, values), self.bonds(batch))
