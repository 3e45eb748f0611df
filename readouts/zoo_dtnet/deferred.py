"""Linear maps of vectors and tensors that wait for what follows them: two in a row may cost less as one.

No activation separates DTNet's first map from that of its first block, and of what its last block makes the head wants
one channel: a fifth of all products of matrices.

Letters: N atoms, C channels; vectors and tensors are (N, components, C). All maps are without bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from zoo_dtnet.elementwise import gated


@dataclass(frozen=True)
class Mapped:
    """L x."""

    x: Tensor
    linear: nn.Linear

    @cached_property
    def value(self) -> Tensor:
        """(N, components, C)."""
        return self.linear(self.x)

    def through(self, after: nn.Linear) -> Tensor:
        """A L x, as (A L) x where x has fewer channels than L x."""
        if self.linear.in_features > self.linear.out_features:
            return after(self.value)
        return nn.functional.linear(self.x, after.weight @ self.linear.weight)


@dataclass(frozen=True)
class Gated:
    """x + σ(gate) ⊙ L y, the gate (N, C)."""

    x: Tensor
    gate: Tensor
    y: Tensor
    linear: nn.Linear

    @cached_property
    def value(self) -> Tensor:
        """(N, components, C)."""
        return gated(self.x, self.gate, self.linear(self.y))

    def through(self, after: nn.Linear) -> Tensor:
        """A of it; of one channel a · (σ ⊙ L y) = ((a ⊙ σ) L) · y, a row for each atom and not for each component."""
        if after.out_features > 1:
            return after(self.value)
        row = (after.weight * torch.sigmoid(self.gate)) @ self.linear.weight
        one: Tensor = after(self.x) + (self.y * row.unsqueeze(1)).sum(dim=-1, keepdim=True)
        return one


Deferred = Mapped | Gated
