"""The encoder `teanet`."""

from __future__ import annotations

from typing import Annotated

import torch
from e3nn import o3
from pydantic import Field, model_validator
from torch import Tensor, nn

from zoo.api import CrystalBatch, Embedding, Encoder, Features, Hypers, Provides, references
from zoo_teanet.bonds import Bonds
from zoo_teanet.elements import CHANNELS, half_charges
from zoo_teanet.geometry import Geometry, neighbours
from zoo_teanet.layer import TENSOR, VECTOR, Layer, linear

Positive = Annotated[int, Field(ge=1, le=4096)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TeaNetHypers(Hypers):
    """Hyperparameters of `TeaNet`."""

    cutoffs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (3.0, 3.0, 4.0, 6.0, 6.0)
    """Å, one for each layer: its atoms and bonds meet within it. Their number is that of the layers."""

    layer: Positive | None = None
    """The layer L_n whose features are given, 1 to the last; later ones are not built. Unset: the last."""

    channels: Positive = 64
    """Channels of each rank, of atoms and bonds."""

    element_channels: Annotated[int, Field(ge=CHANNELS, le=4096)] = 64
    """Channels of the element table, 59 or more: Z = 118 needs 59. A learned map follows if `channels` differs."""

    num_bessel: Positive = 8
    """Number of radial basis functions."""

    envelope_power: Annotated[int, Field(ge=2, le=4096)] = 6
    """p of the polynomial envelope, which takes every layer's messages smoothly to zero at its cutoff."""

    density: PositiveFloat = 0.06
    """Typical number of atoms in Å³: sums over the neighbours are normalised by what it says of their number."""

    @model_validator(mode="after")
    def _layer_exists(self) -> TeaNetHypers:
        if self.layer is not None and self.layer > len(self.cutoffs):
            raise ValueError(f"layer is {self.layer}, but there are {len(self.cutoffs)} cutoffs, one for each layer")
        return self

    @property
    def exposed(self) -> int:
        """The layer L_n whose features are given."""
        return len(self.cutoffs) if self.layer is None else self.layer


class TeaNet(Encoder):
    """TeaNet without its energy readout: Takamoto, Izumi, Li, Comput. Mater. Sci. 207, 111280 (2022).

    Atoms 64x0e+64x1o+64x2e, bonds 64x0e+64x1o, all true tensors. Five layers within 3, 3, 4, 6 and 6 Å and the element
    encoding as in Takamoto et al., Nat. Commun. 13, 2991 (2022). Vectors, tensors and bonds start at zero. An edge
    longer than a layer's cutoff passes it unchanged; a bond vanishes smoothly at the largest cutoff.

    In a potential the vectors and tensors of the last layer are never trained. So the last layer has none: exposed, it
    gives its scalars and the vectors and tensors of the layer before (a_s5, a_v4, a_t4, b_s5, b_v4), the rule of Mao,
    Li, Tan, npj Comput. Mater. 10, 265 (2024). An only layer, before which there are none, gives its own.
    """

    Hypers = TeaNetHypers
    citation = references("takamoto2022teanet")

    hypers: TeaNetHypers
    elements_table: Tensor

    def __init__(self, hypers: TeaNetHypers) -> None:
        super().__init__(hypers)
        self.cutoff = max(hypers.cutoffs)
        self.register_buffer("elements_table", self.element_table(hypers.element_channels))
        width = hypers.channels
        same = width == hypers.element_channels
        self.input = nn.Identity() if same else linear(hypers.element_channels, width, bias=False)
        last = len(hypers.cutoffs)
        self.interactions = nn.ModuleList(
            Layer(
                width,
                hypers.num_bessel,
                full_in=n > 1,
                full_out=n < last or n == 1,
                neighbours=neighbours(cutoff, hypers.envelope_power, hypers.density),
            )
            for n, cutoff in enumerate(hypers.cutoffs[: hypers.exposed], start=1)
        )

    @staticmethod
    def element_table(channels: int) -> Tensor:
        """(119, channels), by atomic number; for another encoding of the elements, override it."""
        return half_charges(channels)

    @classmethod
    def provides(cls, hypers: TeaNetHypers) -> Provides:
        """Return the same number of channels for each irrep: 64x0e+64x1o+64x2e of atoms, 64x0e+64x1o of bonds."""
        n = hypers.channels
        return Provides(o3.Irreps(f"{n}x0e+{n}x1o+{n}x2e"), o3.Irreps(f"{n}x0e+{n}x1o"))

    @classmethod
    def layers(cls, hypers: TeaNetHypers) -> int:
        """Return the number of layers, one for each cutoff."""
        return len(hypers.cutoffs)

    def forward(self, batch: CrystalBatch) -> Embedding:
        """Features of the exposed layer."""
        geometry = Geometry(batch, self.hypers.num_bessel, self.hypers.envelope_power)
        atoms = self.input(self.elements_table[batch.numbers]).unsqueeze(1)
        every = torch.arange(len(batch.src), device=batch.src.device)
        bonds = Bonds.none(every, self.hypers.channels, atoms.dtype)
        for layer, cutoff in zip(self.interactions, self.hypers.cutoffs, strict=False):
            edges = geometry.within(cutoff)
            atoms, new = layer(atoms, bonds.on(edges.index), edges)
            bonds = bonds.replaced_by(new)
        return Embedding(*self._features(atoms, bonds.on(every)))

    def _features(self, atoms: Tensor, bonds: Bonds) -> tuple[Features, Features]:
        """Into e3nn's layout."""
        irreps = self.provides(self.hypers)
        assert irreps.bonds is not None
        ranks = (atoms[:, VECTOR].transpose(1, 2).flatten(1), atoms[:, TENSOR].transpose(1, 2).flatten(1))
        vectors = bonds.vectors.transpose(1, 2).flatten(1)
        return (
            Features(irreps.atoms, torch.cat([atoms[:, 0], *ranks], dim=1)),
            Features(irreps.bonds, torch.cat([bonds.scalars, vectors], dim=1)),
        )
