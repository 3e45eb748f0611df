"""The encoder `mace`."""

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
from zoo_mace import checkpoint
from zoo_mace.architecture import Architecture, Outline
from zoo_mace.checkpoint import KNOWN, PUBLIC
from zoo_mace.network import Network

NAME = "mace"
# Raise it whenever the same weights and layers come to give other numbers: caches are then made anew.
VERSION = 1


class MACEHypers(Hypers):
    """Hyperparameters of `MACE`."""

    weights: str = "mp-0a-large"
    """mp-0a-small, -medium, -large, mp-0b3-medium, mpa-0-medium, or a file of `zoo convert mace` (*.safetensors)."""

    layer: StrictInt | tuple[StrictInt, ...] = 2
    """The layer L_n whose features are given, from 1, or a list of layers whose features are concatenated."""

    atomic_basis: bool = False
    """Also give the atomic basis A of these layers, of higher degree: what the messages bring before the products."""

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: str) -> str:
        if weights not in KNOWN and not weights.endswith(".safetensors"):
            raise ValueError(f"weights is one of {', '.join(KNOWN)}, or a file *.safetensors")
        return weights

    @property
    def outline(self) -> Outline:
        """Of a file from its header; of public weights that are not here yet from the table.

        Raises:
            ZooError: a file is named that does not exist.
        """
        path = default_path(NAME, self.weights) if self.weights in KNOWN else locate_weights(NAME, self.weights, PUBLIC)
        return _architecture(read_metadata(NAME, path)).outline if path.is_file() else KNOWN[self.weights]

    @property
    def wanted(self) -> list[int]:
        """The layers asked for, ascending.

        Raises:
            ZooError: the model has no such layer.
        """
        layers = self.layer if isinstance(self.layer, tuple) else (self.layer,)
        last = len(self.outline.degrees)
        if not layers or len(set(layers)) < len(layers) or not all(1 <= n <= last for n in layers):
            raise ZooError(f"encoder 'mace': layer is a number from 1 to {last}, or a list of different ones")
        return sorted(layers)

    def sources(self) -> list[tuple[int, list[tuple[str, int]]]]:
        """Each degree to be given, and what it is taken from: ("h" features or "A" atomic basis, layer).

        A layer without vectors and tensors, the last, stands for its scalars with the vectors and tensors of the layer
        before, as the DTNet paper's L5. No channel is given twice.
        """
        outline, wanted = self.outline, self.wanted
        out = []
        for degree in range(max(outline.basis if self.atomic_basis else 0, *outline.degrees) + 1):
            having = [n for n, highest in enumerate(outline.degrees, start=1) if highest >= degree]
            taken = {max(n for n in having if n <= want) for want in wanted if any(n <= want for n in having)}
            parts = [("h", n) for n in sorted(taken)]
            if self.atomic_basis and degree <= outline.basis:
                parts += [("A", n) for n in wanted]
            if parts:
                out.append((degree, parts))
        return out


def _architecture(metadata: Mapping[str, Any]) -> Architecture:
    return Architecture(**{key: value for key, value in metadata.items() if key in Architecture.model_fields})


class MACE(Encoder):
    """MACE-MP-0 and its kin, universal potentials: Batatia et al., NeurIPS 2022 and arXiv:2401.00096.

    The mp-0 models were trained on MPtrj, mpa-0-medium on MPtrj and a part of Alexandria.

    Bonds: radial basis × envelope, and these × Y_1 of the direction. The forward pass is the zoo's own: mace-torch need
    not be installed, and cannot be beside the zoo (it wants e3nn 0.4.4).

    Raises:
        ZooError: the weights are not here (`zoo convert mace`).
    """

    Hypers = MACEHypers
    pretrained = True
    bonds_from_geometry = True
    public_weights = PUBLIC

    hypers: MACEHypers
    species: Tensor

    def __init__(self, hypers: MACEHypers) -> None:
        super().__init__(hypers)
        self.path = locate_weights(NAME, hypers.weights, PUBLIC)
        weights = load_weights(NAME, self.path)
        architecture = _architecture(weights.metadata)
        self.cutoff = architecture.cutoff
        self.sources = hypers.sources()
        self.provided = self.provides(hypers)
        self.network = Network(architecture, layers=max(hypers.wanted))
        own = self.network.state_dict()
        self.network.load_state_dict(
            {name: value for name, value in weights.tensors.items() if name in own}, strict=True
        )
        index = torch.full((119,), -1)
        index[list(architecture.elements)] = torch.arange(len(architecture.elements))
        self.register_buffer("species", index)

    @classmethod
    def provides(cls, hypers: MACEHypers) -> Provides:
        """Atoms e.g. 128x0e+128x1o+128x2e for one layer; bonds 10x0e+10x1o."""
        outline = hypers.outline
        atoms = [
            (len(parts) * outline.channels, o3.Irrep(degree, (-1) ** degree)) for degree, parts in hypers.sources()
        ]
        return Provides(o3.Irreps(atoms), o3.Irreps([(outline.radial, "0e"), (outline.radial, "1o")]))

    @classmethod
    def layers(cls, hypers: MACEHypers) -> int:
        """2 for the public models."""
        return len(hypers.outline.degrees)

    @classmethod
    def missing(cls, hypers: MACEHypers) -> str | None:
        """The converted weights."""
        try:
            locate_weights(NAME, hypers.weights, PUBLIC)
        except ZooError as error:
            return str(error)
        return None

    @classmethod
    def convert(cls, source: Path) -> Weights:
        """From a model that mace pickled (*.model). Nothing of it is executed."""
        return checkpoint.convert(source)

    def elements(self) -> frozenset[int]:
        """89 elements for the public models."""
        return frozenset((self.species >= 0).nonzero().flatten().tolist())

    def fingerprint(self) -> str:
        """sha256 of the weights, the layers, the choice of features and the version of this plugin."""
        choice = [sha256_of(self.path), self.hypers.wanted, self.hypers.atomic_basis, VERSION]
        return hashlib.sha256(json.dumps(choice).encode()).hexdigest()

    def bonds(self, batch: CrystalBatch) -> Features:
        """Radial basis × envelope (0e), and that × Y_1 (1o)."""
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        basis = self.network.radial_basis
        radial = basis(distance, batch.numbers[batch.src], batch.numbers[batch.dst]) * basis.envelope(distance)
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
        # mace's vectors go the way of the messages, the zoo's against it.
        h, a = self.network(batch.numbers, species, batch.src, batch.dst, -batch.edge_vectors())
        made = {"h": h, "A": a}
        blocks = [
            torch.cat([made[kind][n - 1][degree] for kind, n in parts], dim=-1).transpose(1, 2).flatten(1)
            for degree, parts in self.sources
        ]
        return Embedding(Features(self.provided.atoms, torch.cat(blocks, dim=1)), self.bonds(batch))
