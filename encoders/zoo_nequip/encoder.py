"""The encoder `nequip`."""

from __future__ import annotations

from typing import Annotated

import torch
from e3nn import o3
from pydantic import Field, model_validator
from torch import nn

from zoo.api import (
    ConvolutionEdges,
    CrystalBatch,
    Embedding,
    Encoder,
    Features,
    Hypers,
    Provides,
    bessel_basis,
    polynomial_envelope,
    references,
)
from zoo_nequip.interaction import Interaction
from zoo_nequip.paths import after_each_layer, natural

Positive = Annotated[int, Field(ge=1, le=4096)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NequIPHypers(Hypers):
    """Hyperparameters of `NequIP`."""

    cutoff: PositiveFloat = 5.0
    """Å; neighbours up to it exchange messages."""

    layers: Positive = 3
    """Number of interaction layers."""

    layer: Positive | None = None
    """The layer L_n whose features are given, 1 to `layers`; later ones are not built. Unset: the last."""

    l_max: Positive = 2
    """Highest degree of features and spherical harmonics; 2 gives the scalars, vectors and tensors that DTNet reads."""

    channels: Positive = 64
    """Channels of degree 0; every further degree has half as many (64, 32, 16), rounded up."""

    parity: bool = True
    """Have pseudotensors (0o, 1e, 2o) inside, between the layers. The model is O(3)-equivariant either way."""

    element_channels: Positive = 16
    """Channels of the learned embedding of the elements."""

    num_bessel: Positive = 8
    """Number of radial basis functions; also the channels of the bond scalars and of the bond vectors."""

    envelope_power: Annotated[int, Field(ge=2, le=4096)] = 6
    """p of the polynomial envelope, which takes messages and bonds smoothly to zero at the cutoff."""

    radial_layers: Positive = 2
    """Hidden layers of the network that makes the radial weights."""

    radial_width: Positive = 64
    """Their width."""

    average_neighbours: PositiveFloat = 32.0
    """Typical number of neighbours within the cutoff: a constant that sums over them are normalised by."""

    @model_validator(mode="after")
    def _layer_exists(self) -> NequIPHypers:
        if self.layer is not None and self.layer > self.layers:
            raise ValueError(f"layer is {self.layer}, but there are {self.layers} layers")
        return self

    @property
    def exposed(self) -> int:
        """The layer L_n whose features are given."""
        return self.layers if self.layer is None else self.layer

    def with_channels(self, irreps: list[o3.Irrep]) -> o3.Irreps:
        """Irreps with their numbers of channels."""
        return o3.Irreps([(-(-self.channels // 2**irrep.l), irrep) for irrep in irreps])


class NequIP(Encoder):
    """NequIP without its energy readout: Batzner et al., Nat. Commun. 13, 2453 (2022).

    The features given are true tensors, 64x0e+32x1o+16x2e by default. Bonds: radial basis × envelope, 8x0e, and these ×
    Y_1 of the direction, 8x1o; all vanish at the cutoff.
    """

    Hypers = NequIPHypers
    citation = references("batzner2022nequip")
    bonds_from_geometry = True

    hypers: NequIPHypers

    def __init__(self, hypers: NequIPHypers) -> None:
        super().__init__(hypers)
        self.cutoff = hypers.cutoff
        self.elements_embedding = nn.Embedding(119, hypers.element_channels)  # atomic numbers 0 (none) to 118
        self.input = o3.Linear(f"{hypers.element_channels}x0e", f"{hypers.channels}x0e")
        after = [hypers.with_channels(i) for i in after_each_layer(hypers.exposed, hypers.l_max, hypers.parity)]
        before = [o3.Irreps(f"{hypers.channels}x0e"), *after[:-1]]
        radial = [hypers.num_bessel, *[hypers.radial_width] * hypers.radial_layers]
        self.interactions = nn.ModuleList(
            Interaction(a, b, hypers.element_channels, hypers.l_max, radial, hypers.average_neighbours)
            for a, b in zip(before, after, strict=True)
        )

    @classmethod
    def provides(cls, hypers: NequIPHypers) -> Provides:
        """Atoms e.g. 64x0e+32x1o+16x2e, bonds e.g. 8x0e+8x1o."""
        bonds = o3.Irreps(f"{hypers.num_bessel}x0e+{hypers.num_bessel}x1o")
        return Provides(hypers.with_channels(natural(hypers.l_max)), bonds)

    @classmethod
    def layers(cls, hypers: NequIPHypers) -> int:
        """Return the number of layers of the hyperparameters."""
        return hypers.layers

    def bonds(self, batch: CrystalBatch) -> Features:
        """8x0e+8x1o: radial basis × envelope, and that × Y_1."""
        vectors = batch.edge_vectors()
        return self._bonds(self._radial(vectors.norm(dim=-1)), self._harmonics(vectors))

    def _bonds(self, radial: torch.Tensor, harmonics: torch.Tensor) -> Features:
        values = torch.cat([radial, (radial.unsqueeze(-1) * harmonics[:, None, 1:4]).flatten(1)], dim=1)
        irreps = self.provides(self.hypers).bonds
        assert irreps is not None
        return Features(irreps, values)

    def _radial(self, length: torch.Tensor) -> torch.Tensor:
        """(E,) Å -> (E, R), zero at the cutoff; Bessel functions with half the cutoff as the unit of length.

        In Å they are small, and so would be all that comes of the neighbours beside what an atom has of itself.
        """
        distance = length / (self.cutoff / 2)
        envelope = polynomial_envelope(distance, 2.0, self.hypers.envelope_power)
        return bessel_basis(distance, 2.0, self.hypers.num_bessel) * envelope.unsqueeze(-1)

    def _harmonics(self, vectors: torch.Tensor) -> torch.Tensor:
        """(E, 3) Å -> (E, (l_max+1)^2), of the directions."""
        degrees = list(range(self.hypers.l_max + 1))
        return o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the exposed layer, and of the bonds."""
        vectors = batch.edge_vectors()
        length = vectors.norm(dim=-1)
        radial, harmonics = self._radial(length), self._harmonics(vectors)
        edges = ConvolutionEdges(batch.src, batch.dst, harmonics, radial, batch.n_atoms, length)
        elements = self.elements_embedding(batch.numbers)
        features = self.input(elements)
        for interaction in self.interactions:
            features = interaction(features, elements, edges)
        return Embedding(Features(self.provides(self.hypers).atoms, features), self._bonds(radial, harmonics))
