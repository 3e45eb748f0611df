"""One pass over all batches, forward alone or with the gradients of the parameters, as in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def passes_of(name: str, module: nn.Module, forwards: Sequence[Callable[[], Tensor]]) -> dict[str, Callable[[], None]]:
    """The orders "NAME forward" (nothing kept for gradients) and "NAME both"; `forwards` run `module`, a batch each."""

    def forward() -> None:
        with torch.no_grad():
            for run in forwards:
                run()

    def both() -> None:
        for run in forwards:
            module.zero_grad(set_to_none=True)
            run().square().mean().backward()

    return {f"{name} forward": forward, f"{name} both": both}


def as_inside(features: Tensor) -> Callable[[], Tensor]:
    """Gives the features as they are in the middle of a model: a gradient goes through them."""
    leaf = features.detach().clone().requires_grad_()
    return lambda: leaf.view_as(leaf)
