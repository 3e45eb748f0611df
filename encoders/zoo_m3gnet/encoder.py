"""The encoder `m3gnet`."""

from __future__ import annotations

from typing import Annotated

from e3nn import o3
from pydantic import Field, model_validator
from torch import nn

from zoo.api import CrystalBatch, Embedding, Encoder, Features, Hypers, Provides, references
from zoo_m3gnet.convolution import GraphConvolution
from zoo_m3gnet.many_body import ManyBodyToBond, ShortBonds
from zoo_m3gnet.radial import smooth_basis

Positive = Annotated[int, Field(ge=1, le=4096)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class M3GNetHypers(Hypers):
    """Hyperparameters of `M3GNet`; the defaults are the paper's."""

    cutoff: PositiveFloat = 5.0
    """Å; neighbours up to it exchange messages."""

    threebody_cutoff: PositiveFloat = 4.0
    """Å; bonds up to it see the angles between them; at most `cutoff`."""

    layers: Positive = 3
    """Number of layers, each a many-body to bond step and a graph convolution."""

    layer: Positive | None = None
    """The layer L_n whose features are given, 1 to `layers`; later ones are not built. Unset: the last."""

    channels: Positive = 64
    """Channels of atoms and of bonds."""

    num_radial: Positive = 3
    """Number of radial basis functions of the bonds."""

    l_max: Annotated[int, Field(ge=1, le=6)] = 3
    """Degrees of the three-body basis, as the paper counts them: l = 0 to l_max - 1."""

    n_max: Positive = 3
    """Radial functions of each degree of the three-body basis."""

    @model_validator(mode="after")
    def _consistent(self) -> M3GNetHypers:
        if self.layer is not None and self.layer > self.layers:
            raise ValueError(f"layer is {self.layer}, but there are {self.layers} layers")
        if self.threebody_cutoff > self.cutoff:
            raise ValueError(f"threebody_cutoff is {self.threebody_cutoff} Å, more than the cutoff of {self.cutoff} Å")
        return self

    @property
    def exposed(self) -> int:
        """The layer L_n whose features are given."""
        return self.layers if self.layer is None else self.layer


class M3GNet(Encoder):
    """M3GNet without its energy readout: Chen, Ong, Nat. Comput. Sci. 2, 718 (2022). Invariant, three-body.

    Atoms and bonds have 64x0e by default. The bond from i to j and that from j to i differ, for each sees the angles at
    its own atom. Bond features and their first two derivatives vanish at the cutoff. Of the paper's options, the state
    of the crystal is left out.
    """

    Hypers = M3GNetHypers
    citation = references("chen2022m3gnet")

    hypers: M3GNetHypers

    def __init__(self, hypers: M3GNetHypers) -> None:
        super().__init__(hypers)
        self.cutoff = hypers.cutoff
        channels = hypers.channels
        self.elements_embedding = nn.Embedding(119, channels)  # atomic numbers 0 (none) to 118
        self.bond_embedding = nn.Linear(hypers.num_radial, channels, bias=False)
        self.many_body = nn.ModuleList(
            ManyBodyToBond(channels, hypers.l_max, hypers.n_max) for _ in range(hypers.exposed)
        )
        self.convolutions = nn.ModuleList(GraphConvolution(channels, hypers.num_radial) for _ in range(hypers.exposed))

    @classmethod
    def provides(cls, hypers: M3GNetHypers) -> Provides:
        """Atoms and bonds e.g. 64x0e."""
        irreps = o3.Irreps(f"{hypers.channels}x0e")
        return Provides(irreps, irreps)

    @classmethod
    def layers(cls, hypers: M3GNetHypers) -> int:
        """Return the number of layers of the hyperparameters."""
        return hypers.layers

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the exposed layer."""
        hypers, src, dst = self.hypers, batch.src, batch.dst
        vectors = batch.edge_vectors()
        distance = vectors.norm(dim=-1)
        short = ShortBonds.of(vectors, distance, src, dst, hypers.threebody_cutoff, hypers.l_max, hypers.n_max)
        radial = smooth_basis(distance, hypers.cutoff, hypers.num_radial)
        atoms = self.elements_embedding(batch.numbers)
        edges = self.bond_embedding(radial)
        for many_body, convolution in zip(self.many_body, self.convolutions, strict=True):
            edges = many_body(atoms, edges, short)
            atoms, edges = convolution(atoms, edges, radial, src, dst)
        irreps = self.provides(hypers).atoms
        return Embedding(Features(irreps, atoms), Features(irreps, edges))
