"""DTNet's decoder as readouts: with bonds, without, and with a positive definite result."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
    Rows,
    TensorTarget,
    only_symmetric_rank_2,
    references,
)
from zoo_dtnet.bonds import Bonds
from zoo_dtnet.layers import Block, BondBlock, Embed, TensorHead, symmetrised


class DTNetHypers(Hypers):
    """Hyperparameters of all variants; the defaults are the paper's where it gives any."""

    width: Annotated[int, Field(ge=1, le=4096)] = 128
    """Latent channels of each of scalars, vectors and tensors."""

    blocks: Annotated[int, Field(ge=1, le=4096)] = 2
    """Equivariant blocks."""

    hidden_layers: Annotated[int, Field(ge=1, le=4096)] = 2
    """Hidden layers of the multilayer perceptrons on atoms (that on bonds has one)."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of hidden scalars dropped in training."""


class DTNetSimple(Readout):
    """DTNet's decoder, eqs. (13)-(27), without bonds: no eq. (14), (17).

    Mao, Li, Tan, npj Comput. Mater. 10, 265 (2024). Linear maps, without bias for vectors and tensors, first bring
    the encoder's channels to the latent width, since the residual of the first block needs equal widths. The result
    is O(3)-equivariant, intensive and smooth in the positions. Dropout falls on scalars alone.
    """

    Hypers = DTNetHypers
    citation = references("mao2024dtnet")
    needs: ClassVar[Needs] = Needs(atoms=("0e", "1o", "2e"))

    def __init__(self, hypers: DTNetHypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        self.embed = Embed(provides, hypers.width)
        self.blocks = nn.ModuleList(self.block(hypers, provides) for _ in range(hypers.blocks))
        self.head = TensorHead(hypers.width, hypers.hidden_layers, hypers.dropout)

    @staticmethod
    def block(hypers: DTNetHypers, provides: Provides) -> Block:
        """One of the equivariant blocks."""
        return Block(hypers.width, hypers.hidden_layers, hypers.dropout)

    @classmethod
    def cannot_make(cls, target: TensorTarget) -> str | None:
        """Anything but one symmetric intensive 3×3 tensor a crystal."""
        return only_symmetric_rank_2(target)

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3)."""
        ranks = self.embed(embedding.atoms)
        bonds = self.bonds(embedding, batch)
        for block in self.blocks:
            ranks = block(ranks, bonds)
        return self.head(ranks, batch)

    def bonds(self, embedding: Embedding, batch: CrystalBatch) -> Bonds | None:
        """Return nothing: the blocks read no bonds."""
        return None


class DTNet(DTNetSimple):
    """DTNet's decoder, eqs. (13)-(27), with bonds. Everything else is as in `DTNetSimple`."""

    needs = Needs(atoms=("0e", "1o", "2e"), bonds=("0e", "1o"))

    @staticmethod
    def block(hypers: DTNetHypers, provides: Provides) -> Block:
        """One of the equivariant blocks, which reads bonds."""
        return BondBlock(provides, hypers.width, hypers.hidden_layers, hypers.dropout)

    def bonds(self, embedding: Embedding, batch: CrystalBatch) -> Bonds | None:
        """The bond features under the envelope."""
        if embedding.precomputed is not None:
            return Bonds.joined(embedding.precomputed, batch)
        assert embedding.bonds is not None  # needs
        return Bonds.of(embedding.bonds, batch, self.cutoff)

    def precompute(self, embedding: Embedding, batch: CrystalBatch) -> Mapping[str, Rows]:
        """The sums over bonds that no parameter is in, and the bonds that differ."""
        assert embedding.bonds is not None  # needs
        return Bonds.of(embedding.bonds, batch, self.cutoff).merged(batch)


class DTNetExp(DTNet):
    """The matrix exponential of what DTNet makes: positive definite by construction, as ε must be (ours).

    It makes the physical scale itself (the last bias of the head moves it), so no normaliser stands behind it. An
    untrained one is near the identity.
    """

    normalise = False

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3), positive definite."""
        # Not through eigh, whose gradient is NaN where eigenvalues coincide: on every cubic crystal.
        # Of X + 1, over e: torch's series for matrices of norm 0.01 to 0.05 alone in their batch errs by 4e-11.
        exponent = super().forward(embedding, batch)
        identity = torch.eye(3, dtype=exponent.dtype, device=exponent.device)
        return symmetrised(torch.matrix_exp(exponent + identity) / math.e)
