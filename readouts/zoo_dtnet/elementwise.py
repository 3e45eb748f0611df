"""Three operations on the channels of atoms that torch does with more memory traffic, or random bits, than they need.

Beside them DTNet is products of matrices. Each is differentiable as often as wanted: its backward is made of torch's
own operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """As torch's, which on a CPU draws 64 bits an element one after another: a fifth of a step. 16 bits are enough."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        dropped = round(self.p * 2**16)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = bits[: x.numel()].view(x.shape) >= dropped - 2**15
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))


def safe_norm(x: Tensor) -> Tensor:
    """(N, components, C) -> (N, C), up to 1e-6; its gradient at zero is zero, not NaN (cubic sites have v = t = 0)."""
    return _SafeNorm.apply(x)


def gated(x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
    """x + σ(gate) ⊙ y for (N, components, C), (N, C) and (N, components, C)."""
    return _Gated.apply(x, torch.sigmoid(gate), y)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """(N, components, C) twice -> (N, C), the sum over the components; no product of all of them is written."""
    first, *others = zip(x.unbind(1), y.unbind(1), strict=True)
    total = first[0] * first[1]
    for a, b in others:
        total = torch.addcmul(total, a, b)
    return total


class _SafeNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = _dot(x, x).add_(1e-12).sqrt_()
        ctx.save_for_backward(x, norm)
        return norm

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, norm = ctx.saved_tensors
        return x * (gradients[0] / norm).unsqueeze(1)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(factor, y)
        return torch.addcmul(x, factor.unsqueeze(1), y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        factor, y = ctx.saved_tensors
        return gradients[0], _dot(gradients[0], y), gradients[0] * factor.unsqueeze(1)
