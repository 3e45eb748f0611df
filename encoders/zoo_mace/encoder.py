"""The encoder `mace`."""

from __future__ import annotations

from pathlib import Path

import torch
from e3nn import o3
from pydantic import BaseModel, StrictInt

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
from zoo_mace import checkpoint
from zoo_mace.architecture import Architecture, Outline
from zoo_mace.checkpoint import KNOWN, PUBLIC
from zoo_mace.energy import EnergyHead, EnergyModel, EnergyOutline
from zoo_mace.network import Network

# Raise it whenever the same weights and layers come to give other numbers: caches are then made anew.
VERSION = 1


# A model of the kind MACE has none of its own, one of the kind ScaleShiftMACE has.
_NO_SCALE = {"scale": torch.ones(()), "shift": torch.zeros(())}


class Energetic(BaseModel):
    """The part of a header that speaks of the energy."""

    energy: EnergyOutline


class MACEHypers(ConvertedHypers):
    """Hyperparameters of `MACE`."""

    encoder = "mace"
    public = PUBLIC
    package = "mace-torch is not needed, and cannot live in one environment with the zoo: it pins e3nn 0.4.4"

    weights: str = "mp-0a-large"
    """mp-0a-small, -medium, -large, mp-0b3-medium, mpa-0-medium, or a file of `zoo convert mace` (*.safetensors)."""

    layer: StrictInt | tuple[StrictInt, ...] = 2
    """The layer L_n whose features are given, from 1, or a list of layers whose features are concatenated."""

    atomic_basis: bool = False
    """Also give the atomic basis A of these layers, of higher degree: what the messages bring before the products."""

    @property
    def outline(self) -> Outline:
        """Read the outline of a file from its header; of public weights that are not here yet from the table.

        Raises:
            ZooError: a file is named that does not exist.
        """
        found = self.described(Architecture)
        return KNOWN[self.weights] if found is None else found.outline

    @property
    def wanted(self) -> list[int]:
        """The layers asked for, ascending.

        Raises:
            ZooError: the model has no such layer.
        """
        return self.chosen(len(self.outline.degrees))

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


class MACE(ConvertedEncoder):
    """MACE-MP-0 and its kin, universal potentials: Batatia et al., NeurIPS 2022 and arXiv:2401.00096.

    The mp-0 models were trained on MPtrj, mpa-0-medium on MPtrj and a part of Alexandria.

    Bonds: radial basis × envelope, and these × Y_1 of the direction. The forward pass is the zoo's own: mace-torch need
    not be installed, and cannot be beside the zoo (it wants e3nn 0.4.4).

    Raises:
        ZooError: the weights are not here (`zoo convert mace`).
    """

    Hypers = MACEHypers
    citation = references("batatia2022mace", "batatia2023foundation", "deng2023chgnet")
    bonds_from_geometry = True
    public_weights = PUBLIC

    hypers: MACEHypers

    def __init__(self, hypers: MACEHypers) -> None:
        architecture = hypers.described(Architecture)
        tensors = hypers.tensors()
        assert architecture is not None  # else there would be no tensors
        super().__init__(hypers, architecture.elements)
        self.cutoff = architecture.cutoff
        self.sources = hypers.sources()
        self.provided = self.provides(hypers)
        self.network = Network(architecture, layers=max(hypers.wanted))
        own = self.network.state_dict()
        self.network.load_state_dict({name: value for name, value in tensors.items() if name in own}, strict=True)

    @classmethod
    def provides(cls, hypers: MACEHypers) -> Provides:
        """Atoms e.g. 128x0e+128x1o+128x2e for one layer; bonds 10x0e+10x1o."""
        outline = hypers.outline
        atoms = [
            (len(parts) * outline.channels, o3.Irrep(degree, (-1) ** degree)) for degree, parts in hypers.sources()
        ]
        bonds = o3.Irreps([(outline.radial, "0e"), (outline.radial, "1o")])
        return Provides(o3.Irreps(atoms), bonds, energy=hypers.without_energy() is None)

    @classmethod
    def layers(cls, hypers: MACEHypers) -> int:
        """2 for the public models."""
        return len(hypers.outline.degrees)

    @classmethod
    def convert(cls, source: Path) -> Weights:
        """From a model that mace pickled (*.model). Nothing of it is executed."""
        return checkpoint.convert(source)

    def fingerprint(self) -> str:
        """sha256 of the weights, the layers, the choice of features and the version of this plugin."""
        return self.fingerprint_with(self.hypers.wanted, self.hypers.atomic_basis, VERSION)

    def energy_fingerprint(self) -> str:
        """sha256 of the weights and the version of this plugin."""
        return self.energy_fingerprint_with(VERSION)

    def make_energy_model(self) -> EnergyModel:
        """The potential as mace has it: readouts, scale and shift, reference energies, repulsion of nuclei.

        Raises:
            ZooError: the weights hold no energy; the line says why.
        """
        energy = self.hypers.energy_tensors()
        architecture, outline = self.hypers.described(Architecture), self.hypers.described(Energetic)
        assert architecture is not None and outline is not None  # else there would be no tensors
        head = EnergyHead(outline.energy, architecture.channels, len(architecture.elements)).double()
        head.load_state_dict({**_NO_SCALE, **energy}, strict=True)
        network = Network(architecture, layers=len(architecture.layers)).double()
        network.load_state_dict(dict(self.hypers.tensors()), strict=True)
        return EnergyModel(network, head)

    def bonds(self, batch: CrystalBatch) -> Features:
        """Radial basis × envelope (0e), and that × Y_1 (1o)."""
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        basis = self.network.radial_basis
        radial = basis(distance, batch.numbers[batch.src], batch.numbers[batch.dst]) * basis.envelope(distance)
        return bond_features(radial, vectors)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the chosen layers.

        Raises:
            ZooError: the model does not know an element of the batch.
        """
        species = self.species_of(batch)
        # mace's vectors go the way of the messages, the zoo's against it.
        h, a = self.network(batch.numbers, species, batch.src, batch.dst, -batch.edge_vectors())
        made = {"h": h, "A": a}
        blocks = [
            torch.cat([made[kind][n - 1][degree] for kind, n in parts], dim=-1).transpose(1, 2).flatten(1)
            for degree, parts in self.sources
        ]
        return Embedding(Features(self.provided.atoms, torch.cat(blocks, dim=1)), self.bonds(batch))
