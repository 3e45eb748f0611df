"""PaiNN's gated equivariant block."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedBlock(nn.Module):
    """Scalars and vectors to scalars and vectors: Schütt, Unke, Gastegger, ICML 2021, fig. 3.

    (s', g) = MLP([s, ‖L_1 v‖]) and v' = g ∘ L_2 v, with linear maps of the channels, without bias; after Weiler et al.,
    NeurIPS 2018.

    Args:
        scalars, vectors: channels that come in.
        width: of the hidden layer.
        outputs: channels of each of scalars and vectors that go out.
    """

    def __init__(self, scalars: int, vectors: int, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.Linear(vectors, width, bias=False)
        self.vector = nn.Linear(vectors, outputs, bias=False)
        self.mlp = nn.Sequential(nn.Linear(scalars + width, width), nn.SiLU(), nn.Linear(width, 2 * outputs))

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C), (N, 3, C') -> (N, outputs), (N, 3, outputs)."""
        # The norm is safe at zero, where the vectors of an atom at an inversion centre are.
        norm = torch.sqrt(self.norm(v).square().sum(dim=1) + 1e-8)
        scalars, gate = self.mlp(torch.cat([s, norm], dim=1)).chunk(2, dim=1)
        return scalars, gate.unsqueeze(1) * self.vector(v)
