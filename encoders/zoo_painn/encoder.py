"""The encoder `painn`."""

from __future__ import annotations

from typing import Annotated

from e3nn import o3
from pydantic import Field, model_validator
from torch import Tensor, nn

from zoo.api import (
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
from zoo_painn.blocks import Message, Update

Positive = Annotated[int, Field(ge=1, le=4096)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PaiNNHypers(Hypers):
    """Hyperparameters of `PaiNN`; the defaults are the paper's but for channels and radial functions."""

    cutoff: PositiveFloat = 5.0
    """Å; neighbours up to it exchange messages."""

    layers: Positive = 3
    """Number of layers, each a message block and an update block."""

    layer: Positive | None = None
    """The layer L_n whose features are given, 1 to `layers`; later ones are not built. Unset: the last."""

    channels: Annotated[int, Field(ge=2, le=4096)] = 64
    """Scalars, and vectors, of an atom; the paper has 128."""

    num_bessel: Positive = 8
    """Radial basis functions, also the channels of bond scalars and of bond vectors; the paper has 20.

    More of them oscillate faster, which costs precision in float32.
    """

    envelope_power: Annotated[int, Field(ge=2, le=4096)] = 6
    """p of the polynomial envelope, which takes messages and bonds smoothly to zero at the cutoff."""

    average_neighbours: PositiveFloat = 32.0
    """Typical number of neighbours within the cutoff: a constant that sums over them are normalised by."""

    @model_validator(mode="after")
    def _layer_exists(self) -> PaiNNHypers:
        if self.layer is not None and self.layer > self.layers:
            raise ValueError(f"layer is {self.layer}, but there are {self.layers} layers")
        return self

    @property
    def exposed(self) -> int:
        """The layer L_n whose features are given."""
        return self.layers if self.layer is None else self.layer


class PaiNN(Encoder):
    """PaiNN without its readout: Schütt, Unke, Gastegger, ICML 2021 (arXiv 2102.03150).

    The features given are 64x0e+64x1o by default; the vectors of an atom at an inversion centre are zero. Bonds: radial
    basis × envelope, 8x0e, and these × the direction, 8x1o; all vanish at the cutoff. The envelope is DimeNet's
    polynomial, whose second derivative vanishes at the cutoff too: that of the paper's cosine does not, and so the
    derivative of a force, an elastic constant or a phonon, would jump.
    """

    Hypers = PaiNNHypers
    citation = references("schuett2021painn")
    bonds_from_geometry = True

    hypers: PaiNNHypers

    def __init__(self, hypers: PaiNNHypers) -> None:
        super().__init__(hypers)
        self.cutoff = hypers.cutoff
        self.elements_embedding = nn.Embedding(119, hypers.channels)  # atomic numbers 0 (none) to 118
        self.messages = nn.ModuleList(
            Message(hypers.channels, hypers.num_bessel, hypers.average_neighbours, vectors=layer > 0)
            for layer in range(hypers.exposed)
        )
        self.updates = nn.ModuleList(Update(hypers.channels) for _ in range(hypers.exposed))

    @classmethod
    def provides(cls, hypers: PaiNNHypers) -> Provides:
        """Atoms e.g. 64x0e+64x1o, bonds e.g. 8x0e+8x1o."""
        atoms, bonds = (o3.Irreps(f"{n}x0e+{n}x1o") for n in (hypers.channels, hypers.num_bessel))
        return Provides(atoms, bonds)

    @classmethod
    def layers(cls, hypers: PaiNNHypers) -> int:
        """Return the number of layers of the hyperparameters."""
        return hypers.layers

    def bonds(self, batch: CrystalBatch) -> Features:
        """8x0e+8x1o: radial basis × envelope, and that × the direction."""
        radial, directions = self._edges(batch)
        return Features.from_cartesian(radial, radial.unsqueeze(1) * directions.unsqueeze(2))

    def _edges(self, batch: CrystalBatch) -> tuple[Tensor, Tensor]:
        """(E, R) radial basis × envelope, and (E, 3) unit vectors.

        The Bessel functions have half the cutoff as the unit of length. In Å they are small, and so would be all that
        comes of the neighbours beside what an atom has of itself.
        """
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=1)
        envelope = polynomial_envelope(distance, self.cutoff, self.hypers.envelope_power)
        basis = bessel_basis(distance / (self.cutoff / 2), 2.0, self.hypers.num_bessel)
        return basis * envelope.unsqueeze(1), vectors / distance.unsqueeze(1)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the exposed layer, and of the bonds."""
        radial, directions = self._edges(batch)
        s, v = self.elements_embedding(batch.numbers), None
        for message, update in zip(self.messages, self.updates, strict=True):
            to_s, to_v = message(s, v, radial, directions, batch)
            s, v = s + to_s, to_v if v is None else v + to_v
            to_s, to_v = update(s, v)
            s, v = s + to_s, v + to_v
        bonds = Features.from_cartesian(radial, radial.unsqueeze(1) * directions.unsqueeze(2))
        return Embedding(Features.from_cartesian(s, v), bonds)
