"""The energy of MACE: all layers and the readouts of each, scale and shift, reference energies, nuclear repulsion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn.math import normalize2mom
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo.api import CrystalBatch, polynomial_envelope
from zoo_mace.network import Network

COULOMB = 14.3996
"""e²/4πε0 in eV Å, as mace rounds it."""
BOHR = 0.529
"""Å, as mace rounds it."""
SCREENING = (3.2, 0.9423, 0.4028, 0.2016)
"""Exponents of the universal screening function."""


class EnergyOutline(BaseModel):
    """All that must be known of the energy before its tensors are read.

    Attributes:
        readouts: of each the layer that it reads, from 1, and its hidden neurons, 0 for a linear one.
        repulsion: power of the envelope of the nuclei's repulsion; None where there is none.
    """

    model_config = ConfigDict(frozen=True)

    readouts: tuple[tuple[int, int], ...]
    repulsion: int | None


class Readout(nn.Module):
    """Energy of each atom from the scalars after a layer: linear, or with one hidden layer."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        if hidden:
            self.linear_1 = nn.Parameter(torch.randn(channels * hidden))
            self.linear_2 = nn.Parameter(torch.randn(hidden))
        else:
            self.linear = nn.Parameter(torch.randn(channels))
        self.activation = normalize2mom(silu)

    def forward(self, scalars: Tensor) -> Tensor:
        """(N, C) -> (N,)."""
        channels = scalars.shape[1]
        if not self.hidden:
            return scalars @ self.linear / channels**0.5
        inside = self.activation(scalars @ self.linear_1.view(channels, self.hidden) / channels**0.5)
        return inside @ self.linear_2 / self.hidden**0.5


class Repulsion(nn.Module):
    """Screened Coulomb repulsion of two nuclei, zero from the sum of their covalent radii on.

    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids (1985).
    """

    c: Tensor
    a_exp: Tensor
    a_prefactor: Tensor
    covalent_radii: Tensor

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power
        self.register_buffer("c", torch.ones(len(SCREENING)))
        self.register_buffer("covalent_radii", torch.ones(119))
        for name in ("a_exp", "a_prefactor"):
            self.register_buffer(name, torch.ones(()))

    def forward(self, distance: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """(E,) Å and the atomic numbers of both ends, (E,) -> (E,) eV, the half that belongs to one of them."""
        length = self.a_prefactor * BOHR / (first**self.a_exp + second**self.a_exp)
        exponents = distance.new_tensor(SCREENING)
        screening = (self.c * torch.exp(-exponents * (distance / length).unsqueeze(-1))).sum(-1)
        reach = self.covalent_radii[first] + self.covalent_radii[second]
        envelope = polynomial_envelope(distance / reach, 1.0, self.power)
        return 0.5 * COULOMB * first * second / distance * screening * envelope


class EnergyHead(nn.Module):
    """Energy of each atom from the scalars after all layers.

    Args:
        outline: what there is.
        channels: C.
        elements: how many are known.
    """

    scale: Tensor
    shift: Tensor
    references: Tensor

    def __init__(self, outline: EnergyOutline, channels: int, elements: int) -> None:
        super().__init__()
        self.layers = [layer for layer, _ in outline.readouts]
        self.readouts = nn.ModuleList(Readout(channels, hidden) for _, hidden in outline.readouts)
        self.repulsion = None if outline.repulsion is None else Repulsion(outline.repulsion)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("references", torch.zeros(elements))

    def forward(self, scalars: Sequence[Tensor], species: Tensor, batch: CrystalBatch) -> Tensor:
        """After each layer (N, C), and the index of each atom's element (N,) -> (N,) eV."""
        made = [readout(scalars[layer - 1]) for layer, readout in zip(self.layers, self.readouts, strict=True)]
        interaction = torch.stack(made).sum(0)
        if self.repulsion is not None:
            distance = batch.edge_vectors().norm(dim=-1)
            pairs = self.repulsion(distance, batch.numbers[batch.src], batch.numbers[batch.dst])
            interaction = interaction + batch.sum_to_atoms(pairs)
        return self.scale * interaction + self.shift + self.references[species]


class EnergyModel(nn.Module):
    """The potential: Batatia et al., NeurIPS 2022 and arXiv:2401.00096.

    Args:
        network: with all layers.
        head: on the scalars after each.
    """

    def __init__(self, network: Network, head: EnergyHead) -> None:
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, species: Tensor, batch: CrystalBatch) -> Tensor:
        """Index of each atom's element (N,) and the batch -> (N,) eV."""
        # mace's vectors go the way of the messages, the zoo's against it.
        h, _ = self.network(batch.numbers, species, batch.src, batch.dst, -batch.edge_vectors())
        energy: Tensor = self.head([layer[0].squeeze(1) for layer in h], species, batch)
        return energy
