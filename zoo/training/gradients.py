"""Gradients of several processes."""

from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
import torch
from torch import Tensor

from zoo.runtime.distributed import sum_over_processes


def sum_of_gradients(parameters: Sequence[Tensor], loss: Tensor) -> float:
    """Sum gradients, in place, and loss over all processes; gives the loss.

    One message a step. A parameter that no process has a gradient of keeps none, as in one process: the optimizer
    leaves it alone. One that took part here in nothing (no crystal, no edge) counts as zero.
    """
    if idist.get_world_size() == 1:
        return loss.item()
    wanted = [p for p in parameters if p.requires_grad]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in wanted]
    has = torch.tensor([p.grad is not None for p in wanted], device=loss.device, dtype=loss.dtype)
    message = sum_over_processes(torch.cat([*(part.reshape(-1) for part in parts), has, loss.reshape(1)]))
    *gradients, has, loss = message.split([*(p.numel() for p in wanted), len(wanted), 1])
    for parameter, gradient, present in zip(wanted, gradients, has.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if present else None
    return loss.item()
