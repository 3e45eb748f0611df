"""An encoder with an energy on top: what makes it an interatomic potential, to be pretrained as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Encoder
from zoo.errors import ZooError


@dataclass(frozen=True)
class PotentialOutput:
    """Energy and forces that a potential predicts for B crystals with N atoms.

    Attributes:
        energy: (B,) eV, extensive.
        forces: (N, 3) eV/Å, minus the derivative of the energy with respect to the positions.
        stress: (B, 3, 3) eV/Å³, the derivative with respect to a symmetric strain over the volume; positive where the
            energy falls when the crystal shrinks, as in ASE.
        atomic_energies: (N,) eV, whose sums are the energy; None where the potential has none.
    """

    energy: Tensor
    forces: Tensor
    stress: Tensor
    atomic_energies: Tensor | None = None


class HasEnergy(Protocol):
    """A potential: an `Encoder` that provides an energy, or a `Potential`."""

    def energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV."""


def energies_of(potential: HasEnergy, batch: CrystalBatch) -> tuple[Tensor, Tensor | None]:
    """(B,) eV, and the energies of the atoms, (N,) eV, whose sums they are, where the potential has these."""
    parts = getattr(potential, "atomic_energies", None)
    atomic = None if parts is None else parts(batch)
    return (potential.energy(batch) if atomic is None else batch.sum_over_atoms(atomic)), atomic


def forces_of(energy_of: Callable[[CrystalBatch], Tensor], batch: CrystalBatch, create_graph: bool = False) -> Tensor:
    """(N, 3) eV/Å, the forces alone, of a function that gives the energies (B,); see `forces_and_stress`."""
    with torch.enable_grad():
        positions = batch.positions.detach().requires_grad_()
        energy = energy_of(dataclasses.replace(batch, positions=positions))
        slope = torch.autograd.grad(energy.sum(), positions, create_graph=create_graph, materialize_grads=True)[0]
        return -slope


def forces_and_stress(potential: HasEnergy, batch: CrystalBatch, create_graph: bool = False) -> PotentialOutput:
    """Energy, forces and stress of any potential, by derivatives of its energy.

    Args:
        potential: gives the energy.
        batch: without a strain.
        create_graph: let the results be differentiated once more.
    """
    with torch.enable_grad():
        positions = batch.positions.detach().requires_grad_()
        strain = torch.zeros_like(batch.cell).requires_grad_()
        energy, atomic = energies_of(potential, dataclasses.replace(batch, positions=positions, strain=strain))
        slope, strain_slope = torch.autograd.grad(
            energy.sum(), (positions, strain), create_graph=create_graph, materialize_grads=True
        )
    symmetric = 0.5 * (strain_slope + strain_slope.transpose(-1, -2))
    volume = torch.linalg.det(batch.cell).abs()
    # Without create_graph the graph is gone, and the energy has nothing to be differentiated through.
    if not create_graph:
        energy, atomic = energy.detach(), None if atomic is None else atomic.detach()
    return PotentialOutput(energy, -slope, symmetric / volume[:, None, None], atomic)


class Potential(nn.Module):
    """E = Σ_i (E_0(Z_i) + MLP(s_i)), with s_i the invariant features (0e) of atom i: any encoder becomes a potential.

    One hidden layer, SiLU; E_0 starts at zero. Forces and stress are the exact derivatives, as in Batzner et al., Nat.
    Commun. 13, 2453 (2022), eq. (2), and Takamoto et al., Nat. Commun. 13, 2991 (2022).

    Args:
        encoder: gives at least one channel of 0e.
        width: of the hidden layer.

    Raises:
        ZooError: the encoder gives no invariant features.
    """

    def __init__(self, encoder: Encoder, width: int = 64) -> None:
        super().__init__()
        scalars = type(encoder).provides(encoder.hypers).atoms.count("0e")
        if not scalars:
            raise ZooError(f"{type(encoder).__name__} gives no invariant features (0e) to make an energy of")
        self.encoder = encoder
        self.reference = nn.Embedding(119, 1)  # atomic numbers 0 (none) to 118
        nn.init.zeros_(self.reference.weight)
        self.atomic_energy = nn.Sequential(nn.Linear(scalars, width), nn.SiLU(), nn.Linear(width, 1))

    def atomic_energies(self, batch: CrystalBatch) -> Tensor:
        """(N,) eV."""
        scalars = self.encoder(batch).atoms.scalars()
        return (self.atomic_energy(scalars) + self.reference(batch.numbers)).squeeze(-1)

    def energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV."""
        return batch.sum_over_atoms(self.atomic_energies(batch))

    def forward(self, batch: CrystalBatch) -> PotentialOutput:
        """Energy, forces and stress. In training mode they can be differentiated once more, for a loss on forces."""
        return forces_and_stress(self, batch, create_graph=self.training)
