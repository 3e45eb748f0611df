"""The encoder `nequix`."""

from __future__ import annotations

from pathlib import Path

import torch
from e3nn import o3
from pydantic import StrictInt

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
from zoo_nequix import checkpoint
from zoo_nequix.checkpoint import PUBLIC, PUBLISHED
from zoo_nequix.energy import EnergyModel
from zoo_nequix.network import Architecture, Outline

# Raise it whenever the same weights and layers come to give other numbers: caches are then made anew.
VERSION = 1


class NequixHypers(ConvertedHypers):
    """Hyperparameters of `Nequix`."""

    encoder = "nequix"
    public = PUBLIC
    package = "nequix and JAX are not needed"

    weights: str = "nequix-mp-1"
    """nequix-mp-1, -mp-1-pft, -mp-1-pft-nocotrain, -omat-1, -oam-1, -oam-1-pft, or a file of `zoo convert nequix`."""

    layer: StrictInt | tuple[StrictInt, ...] = 3
    """The layer L_n whose features are given, from 1, or a list of layers whose features are concatenated."""

    @property
    def outline(self) -> Outline:
        """Read the outline of a file from its header; of public weights that are not here yet from the table.

        Raises:
            ZooError: a file is named that does not exist.
        """
        return self.described(Architecture) or PUBLISHED

    @property
    def wanted(self) -> list[int]:
        """The layers asked for, ascending.

        Raises:
            ZooError: the model has no such layer.
        """
        return self.chosen(self.outline.layers)

    def sources(self) -> list[list[int]]:
        """Layers that the features of degree 0, 1, ... are taken from.

        The last layer, which has scalars alone, stands for these with the vectors and tensors of the layer before, as
        the DTNet paper's L5. No channel is given twice.
        """
        outline = self.outline
        having = [
            [n for n in range(1, outline.layers + 1) if len(outline.after(n)) > degree]
            for degree in range(len(outline.channels))
        ]
        return [sorted({min(n, layers[-1]) for n in self.wanted}) for layers in having if layers]


class Nequix(ConvertedEncoder):
    """Nequix, a universal potential with parity: Koker, Kotak, Smidt, arXiv:2508.16067.

    The mp models were trained on MPtrj, omat on OMat24, oam on both and sAlex; those named pft were then fine-tuned on
    the force constants of crystals of the Materials Project (the MDR phonon database, arXiv:2601.07742): crystals of a
    test set are among them. Its code is under the MIT licence, its weights are under CC BY 4.0.

    Bonds: radial basis × envelope, and these × Y_1 of the direction. The forward pass is the zoo's own: neither nequix
    nor JAX need be installed.

    Raises:
        ZooError: the weights are not here (`zoo convert nequix`).
    """

    Hypers = NequixHypers
    citation = references("koker2025nequix")
    bonds_from_geometry = True
    public_weights = PUBLIC

    hypers: NequixHypers

    def __init__(self, hypers: NequixHypers) -> None:
        architecture = hypers.described(Architecture)
        tensors = hypers.tensors()
        assert architecture is not None  # else there would be no tensors
        super().__init__(hypers, architecture.elements)
        self.cutoff = architecture.cutoff
        self.sources = hypers.sources()
        self.provided = self.provides(hypers)
        self.network = checkpoint.build(architecture, tensors, max(hypers.wanted))

    @classmethod
    def cites(cls, hypers: NequixHypers) -> str:
        """Nequix, the data of its published weights, and the paper of the later ones."""
        kind = hypers.weights if hypers.weights in PUBLIC else ""
        more = {
            "deng2023chgnet": "-mp-" in kind or "-oam-" in kind,
            "barrosoluque2024omat24": "-omat-" in kind or "-oam-" in kind,
            "koker2026pft": bool(kind) and kind != "nequix-mp-1",
        }
        return "\n".join([cls.citation, *(references(key) for key, cited in more.items() if cited)])

    @classmethod
    def provides(cls, hypers: NequixHypers) -> Provides:
        """Atoms e.g. 128x0e+64x1o+32x2e+32x3o for one layer; bonds 8x0e+8x1o."""
        outline = hypers.outline
        atoms = [
            (len(layers) * outline.channels[degree], o3.Irrep(degree, (-1) ** degree))
            for degree, layers in enumerate(hypers.sources())
        ]
        bonds = o3.Irreps([(outline.radial[0], "0e"), (outline.radial[0], "1o")])
        return Provides(o3.Irreps(atoms), bonds, energy=hypers.without_energy() is None)

    @classmethod
    def layers(cls, hypers: NequixHypers) -> int:
        """4 for the public models."""
        return hypers.outline.layers

    @classmethod
    def convert(cls, source: Path) -> Weights:
        """From a file *.nqx. Nothing of it is executed."""
        return checkpoint.convert(source)

    def fingerprint(self) -> str:
        """sha256 of the weights, the layers and the version of this plugin."""
        return self.fingerprint_with(self.hypers.wanted, VERSION)

    def energy_fingerprint(self) -> str:
        """sha256 of the weights and the version of this plugin."""
        return self.energy_fingerprint_with(VERSION)

    def make_energy_model(self) -> EnergyModel:
        """The potential as nequix has it: readout, scale and shift, energies of isolated atoms.

        Raises:
            ZooError: the weights hold no energy; the line says why.
        """
        energy = self.hypers.energy_tensors()
        return checkpoint.build_energy(self.network.architecture, self.hypers.tensors(), energy)

    def bonds(self, batch: CrystalBatch) -> Features:
        """Radial basis × envelope (0e), and that × Y_1 (1o)."""
        vectors = batch.edge_vectors()
        return bond_features(self.network.radial_basis(vectors.norm(dim=-1)), vectors)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the chosen layers.

        Raises:
            ZooError: the model does not know an element of the batch.
        """
        made = self.network(self.species_of(batch), batch.src, batch.dst, batch.edge_vectors())
        blocks = [
            torch.cat([made[n - 1][degree] for n in layers], dim=-1).transpose(1, 2).flatten(1)
            for degree, layers in enumerate(self.sources)
        ]
        return Embedding(Features(self.provided.atoms, torch.cat(blocks, dim=1)), self.bonds(batch))
