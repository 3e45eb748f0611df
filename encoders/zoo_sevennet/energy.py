"""The energy of SevenNet: all interaction layers and the head on top of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.api import CrystalBatch
from zoo_sevennet.network import Linear, Network


class EnergyHead(nn.Module):
    """Energy of each atom from the scalars after the last layer: two linear maps, times a scale, plus a shift.

    Args:
        channels: scalars after the last layer.
        hidden: scalars between the two maps.
        species: number of chemical species.
        biased: the first map has a bias.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, channels: int, hidden: int, species: int, biased: bool = False) -> None:
        super().__init__()
        self.linear_1 = Linear((channels,), (hidden,), biased=biased)
        self.linear_2 = Linear((hidden,), (1,))
        self.register_buffer("scale", torch.ones(species))
        self.register_buffer("shift", torch.zeros(species))

    def forward(self, scalars: Tensor, species: Tensor) -> Tensor:
        """(N, 1, I, C) scalars and (N,) species -> (N,) eV, the mean over the images."""
        energy = self.linear_2(self.linear_1([scalars]))[0].mean(dim=2).flatten()
        return energy * self.scale[species] + self.shift[species]


class EnergyModel(nn.Module):
    """The potential: Park et al., J. Chem. Theory Comput. 20, 4857 (2024).

    Args:
        network: with all interaction layers.
        head: on the scalars of the last one.
    """

    def __init__(self, network: Network, head: EnergyHead) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, species: Tensor, batch: CrystalBatch, mirror: bool = False) -> Tensor:
        """Index of each atom's species (N,), batch -> (N,) eV.

        The energy is that of the crystal itself, with `mirror` the mean with that of its mirror image.
        """
        scalars, *_ = self.network(species, batch.src, batch.dst, batch.edge_vectors(), mirror=mirror)[-1]
        return self.head(scalars, species)
