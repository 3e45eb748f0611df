"""The energy of Nequix: all interaction layers and the head on top of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.api import CrystalBatch
from zoo_nequix.network import Linear, Network


class EnergyHead(nn.Module):
    """Energy of each atom from the last layer's scalars: a linear map, scale and shift, the energy of an isolated atom.

    Args:
        channels: scalars after the last layer.
        elements: how many are known.
    """

    scale: Tensor
    shift: Tensor
    isolated: Tensor

    def __init__(self, channels: int, elements: int) -> None:
        super().__init__()
        self.readout = Linear([channels], [1])
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("isolated", torch.zeros(elements))

    def forward(self, scalars: Tensor, species: Tensor) -> Tensor:
        """(N, 1, C) scalars and the place of each atom's element (N,) -> (N,) eV."""
        (energy,) = self.readout([scalars])
        return energy.flatten() * self.scale + self.shift + self.isolated[species]


class EnergyModel(nn.Module):
    """The potential: Koker, Kotak, Smidt, arXiv:2508.16067.

    Args:
        network: with all interaction layers.
        head: on the scalars of the last one.
    """

    def __init__(self, network: Network, head: EnergyHead) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, species: Tensor, batch: CrystalBatch) -> Tensor:
        """The place of each atom's element (N,) and the batch -> (N,) eV."""
        scalars, *_ = self.network(species, batch.src, batch.dst, batch.edge_vectors())[-1]
        energy: Tensor = self.head(scalars, species)
        return energy
