"""The readout `strain`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from zoo.api import (
    CrystalBatch,
    Embedding,
    Hypers,
    Needs,
    Provides,
    Readout,
    TensorTarget,
    only_symmetric_rank_2,
    references,
)


class StrainHypers(Hypers):
    """Hyperparameters of `Strain`."""

    width: Annotated[int, Field(ge=1, le=4096)] = 64
    """Width of the hidden layers."""

    hidden_layers: Annotated[int, Field(ge=1, le=4096)] = 2
    """Hidden layers of the perceptron that makes S_i."""


class Strain(Readout):
    """(1/N) ∂(Σ_i S_i)/∂η: S_i a perceptron on the invariant features of atom i, η a strain of atoms and cell together.

    How Mao, Li, Tan, npj Comput. Mater. 10, 265 (2024), Results, made the invariant M3GNet predict tensors; their
    wording leaves the derivative open, this is the one that is symmetric and intensive. It differentiates through
    the encoder, so a frozen encoder works, but runs in every step: its embeddings cannot come from the cache. In eval
    mode nothing is kept to differentiate the tensor any further.
    """

    Hypers = StrainHypers
    citation = references("mao2024dtnet")
    needs: ClassVar[Needs] = Needs(atoms=("0e",))
    needs_grad = True

    def __init__(self, hypers: StrainHypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        inputs = provides.atoms.count("0e")
        parts: list[nn.Module] = []
        for _ in range(hypers.hidden_layers):
            parts += [nn.Linear(inputs, hypers.width), nn.SiLU()]
            inputs = hypers.width
        # No bias: a constant has no derivative.
        last = nn.Linear(inputs, 1, bias=False)
        # By torch's default the untrained tensors are of order 0.03, where the normaliser behind them expects 1.
        nn.init.normal_(last.weight)
        self.scalar = nn.Sequential(*parts, last)

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric intensive 3×3 tensor a crystal."""
        return only_symmetric_rank_2(target)

    def prepare(self, batch: CrystalBatch) -> CrystalBatch:
        """The batch under a strain of zero, to differentiate by."""
        return dataclasses.replace(batch, strain=torch.zeros_like(batch.cell, requires_grad=True))

    def mean_scalar(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B,), (1/N) Σ_i S_i: what is differentiated."""
        return batch.mean_over_atoms(self.scalar(embedding.atoms.scalars()).squeeze(-1))

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3), of a batch that `prepare` made."""
        assert batch.strain is not None  # prepare
        mean = self.mean_scalar(embedding, batch)
        # Crystals do not see each other, so the derivative of the sum is that of each. Without edges it is zero.
        (slope,) = torch.autograd.grad(mean.sum(), batch.strain, create_graph=self.training, materialize_grads=True)
        return 0.5 * (slope + slope.transpose(-1, -2))
