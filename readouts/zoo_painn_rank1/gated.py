"""PaiNN's gated equivariant block."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear map that keeps the variance of what it maps; its bias starts at zero.

    PyTorch's own shrink it threefold. Behind four of them, all tensors of an untrained readout are isotropic.
    """
    made = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(made.weight, std=inputs**-0.5)
    if bias:
        nn.init.zeros_(made.bias)
    return made


class GatedBlock(nn.Module):
    """Scalars and vectors to scalars and vectors: Schütt, Unke, Gastegger, ICML 2021, fig. 3.

    (s', g) = MLP([s, ‖L_1 v‖]) and v' = σ(g) ∘ L_2 v, with linear maps of the channels, without bias. The sigmoid is
    Weiler et al.'s, NeurIPS 2018, whom PaiNN follows here: pretrained encoders can have vectors of size 30, and two
    blocks without it make thousands of them.

    Args:
        scalars, vectors: channels that come in.
        width: of the hidden layer.
        outputs: channels of each of scalars and vectors that go out.
    """

    def __init__(self, scalars: int, vectors: int, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = linear(vectors, width, bias=False)
        self.vector = linear(vectors, outputs, bias=False)
        self.mlp = nn.Sequential(linear(scalars + width, width), nn.SiLU(), linear(width, 2 * outputs))

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C), (N, 3, C') -> (N, outputs), (N, 3, outputs)."""
        # The norm is safe at zero, where the vectors of an atom at an inversion centre are.
        norm = torch.sqrt(self.norm(v).square().sum(dim=1) + 1e-8)
        scalars, gate = self.mlp(torch.cat([s, norm], dim=1)).chunk(2, dim=1)
        return scalars, torch.sigmoid(gate).unsqueeze(1) * self.vector(v)
