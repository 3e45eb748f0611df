"""Rules that make positive stiffnesses of the eigenvalues of an imperfect force-constant matrix."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class Floor(nn.Module):
    """λ -> (λ + √(λ² + 4δ²))/2: λ where it is far above the learned δ (eV/Å²), δ at zero, and δ²/|λ| below.

    Args:
        start: δ before training.
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log_delta = nn.Parameter(torch.tensor(math.log(start)))

    def forward(self, values: Tensor) -> Tensor:
        """Same shape, positive."""
        delta = self.log_delta.exp()
        root = (values.square() + 4 * delta.square()).sqrt()
        # The sum cancels below zero; there the same number is 2δ²/(√(λ² + 4δ²) - λ).
        return torch.where(values > 0, 0.5 * (values + root), 2 * delta.square() / (root - values).clamp(min=1e-12))


class Softplus(nn.Module):
    """λ -> ln(1 + exp(βλ))/β with a learned β; ln 2/β at zero.

    Args:
        start: the stiffness at zero before training, eV/Å².
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log_beta = nn.Parameter(torch.tensor(math.log(math.log(2) / start)))

    def forward(self, values: Tensor) -> Tensor:
        """Same shape, positive."""
        beta = self.log_beta.exp()
        return softplus(values * beta) / beta


class Expectation(nn.Module):
    """λ -> 1/E[1/f(λ + σξ)], ξ a standard normal error of the potential and f the `Floor`; σ and δ are learned.

    An eigenvalue λ that is known up to σ contributes the mean of 1/λ over its error, not the inverse of its mean.

    Args:
        start: σ before training, eV/Å²; δ starts at a third of it.
    """

    def __init__(self, start: float, nodes: int = 7) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(math.log(start)))
        self.floor = Floor(start / 3)
        x, w = np.polynomial.hermite_e.hermegauss(nodes)
        self.nodes: Tensor
        self.weights: Tensor
        self.register_buffer("nodes", torch.tensor(x, dtype=torch.float32), persistent=False)
        self.register_buffer("weights", torch.tensor(w / w.sum(), dtype=torch.float32), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Same shape, positive."""
        spread = values.unsqueeze(-1) + self.log_sigma.exp() * self.nodes.to(values)
        return 1 / (self.weights.to(values) / self.floor(spread)).sum(-1)


RULES = {"floor": Floor, "softplus": Softplus, "expectation": Expectation}
