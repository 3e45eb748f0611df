"""The readout `susceptibility`."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from zoo.api import (
    CrystalBatch,
    Embedding,
    Features,
    Hypers,
    LevelOfTheory,
    Needs,
    Provides,
    Readout,
    TensorTarget,
    only_symmetric_rank_2,
    spherical_to_matrix,
)

Count = Annotated[int, Field(ge=1, le=4096)]

TYPICAL = 1.4
"""Logarithm of the susceptibility before training: that of ε∞ = 5, in the middle of what is known."""

SMALL = 1e-6
"""Added to the square of a norm."""


class SusceptibilityHypers(Hypers):
    """Hyperparameters of `Susceptibility`."""

    width: Count = 128
    """Hidden channels of the perceptrons."""

    hidden_layers: Count = 2
    """Hidden layers of the perceptron on an atom's invariant features."""

    channels: Count = 16
    """Channels of tensors that the anisotropy is made of."""

    heads: Annotated[int, Field(ge=0, le=64)] = 4
    """Weighted means over the atoms, beside the plain one, from which the whole crystal is judged; 0: none of this."""

    norms: bool = False
    """Read the norms of an atom's vectors and tensors beside its scalars."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of hidden channels dropped in training."""

    level_of_theory: bool = False
    """Read the level of theory, for several sources."""

    band_gap: bool = False
    """Learn the band gap beside the tensor, from the same invariants: ε∞ - 1 goes as its inverse square."""


class Susceptibility(Readout):
    """ε∞ = I + exp(c I + A), which is never below that of empty space.

    A is the mean over the atoms of a scalar and a symmetric traceless tensor, from each atom's features, plus a scalar
    from means over atoms of hidden invariants, of which some are weighted by learned weights that add up to one. So ε∞
    is intensive, and a supercell has the same. A narrow gap, which a mean over atoms cannot know of, is what the
    weights are for. The matrix exponential keeps every point group.
    """

    Hypers = SusceptibilityHypers
    needs: ClassVar[Needs] = Needs(atoms=("0e", "2e"))
    normalise = False
    also_makes = ("band_gap",)

    def __init__(self, hypers: SusceptibilityHypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        # All irreps but the scalars, where their norms are read.
        self.normed = list(dict.fromkeys(ir for _, ir in provides.atoms if str(ir) != "0e")) if hypers.norms else []
        size = provides.atoms.count("0e") + sum(provides.atoms.count(ir) for ir in self.normed)
        layers: list[nn.Module] = [nn.LayerNorm(size)]
        for _ in range(hypers.hidden_layers):
            layers += [nn.Linear(size, hypers.width), nn.SiLU(), nn.Dropout(hypers.dropout)]
            size = hypers.width
        self.trunk = nn.Sequential(*layers)
        self.scalar = nn.Linear(size, 1)
        self.tensor = nn.Linear(provides.atoms.count("2e"), hypers.channels, bias=False)
        self.gates = nn.Linear(size, hypers.channels)
        self.attention = nn.Linear(size, hypers.heads) if hypers.heads else None
        self.whole = None
        if hypers.heads:
            self.whole = nn.Sequential(
                nn.Linear(size * (hypers.heads + 1), hypers.width),
                nn.SiLU(),
                nn.Dropout(hypers.dropout),
                nn.Linear(hypers.width, 1),
            )
        self.level = LevelOfTheory(size) if hypers.level_of_theory else None
        self.gap = nn.Linear(size * (hypers.heads + 1), 1) if hypers.band_gap else None
        nn.init.constant_(self.scalar.bias, TYPICAL)

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric intensive 3×3 tensor a crystal."""
        return only_symmetric_rank_2(target)

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3), with eigenvalues above 1."""
        return self.with_labels(embedding, batch)[0]

    def with_labels(self, embedding: Embedding, batch: CrystalBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, 3, 3), with eigenvalues above 1, and the band gap (B,) in eV where it is learned."""
        hidden = self.trunk(self._invariants(embedding.atoms))
        if self.level is not None:
            hidden = self.level(hidden, batch)
        identity = torch.eye(3, dtype=hidden.dtype, device=hidden.device)
        tensors = self.tensor(embedding.atoms.block("2e").transpose(1, 2))  # (N, 5, k)
        atoms = self.scalar(hidden).unsqueeze(-1) * identity
        atoms = atoms + spherical_to_matrix((tensors * self.gates(hidden).unsqueeze(1)).sum(-1), 2)
        exponent = batch.mean_over_atoms(atoms)
        pooled = self._pooled(hidden, batch)
        if self.whole is not None:
            exponent = exponent + self.whole(pooled).unsqueeze(-1) * identity
        # Not through eigh, whose gradient is NaN where eigenvalues coincide: on every cubic crystal.
        # Of X + 1, over e: torch's series for matrices of small norm alone in their batch errs by 4e-11.
        powers = torch.matrix_exp(exponent + identity) / math.e
        labels = {} if self.gap is None else {"band_gap": nn.functional.softplus(self.gap(pooled)).squeeze(1)}
        return identity + 0.5 * (powers + powers.transpose(-1, -2)), labels

    def _invariants(self, atoms: Features) -> Tensor:
        """(N, C): the scalars of each atom and, where they are wanted, the norms of the rest."""
        # The square root has no slope at zero, where symmetry puts many a vector.
        norms = [(atoms.block(ir).square().sum(dim=-1) + SMALL).sqrt() for ir in self.normed]
        return torch.cat([atoms.scalars(), *norms], dim=1)

    def _pooled(self, hidden: Tensor, batch: CrystalBatch) -> Tensor:
        """(B, (heads + 1) width): the mean over the atoms of a crystal, and the weighted means."""
        if self.attention is None:
            return batch.mean_over_atoms(hidden)
        # Weights are relative to the mean of their logarithms: no exponential overflows, and a supercell has the same.
        logits = self.attention(hidden).clamp(-20, 20)
        weights = (logits - batch.mean_over_atoms(logits)[batch.crystal]).exp()
        weighted = batch.mean_over_atoms((weights.unsqueeze(-1) * hidden.unsqueeze(1)).flatten(1))
        total = batch.mean_over_atoms(weights).repeat_interleave(hidden.shape[1], dim=1)
        return torch.cat([batch.mean_over_atoms(hidden), weighted / total], dim=1)
