"""One pass over all batches, forward alone or with the gradients of the parameters, as in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Input = TypeVar("Input")


def passes_of(
    name: str, module: nn.Module, run: Callable[[Input], Tensor], inputs: Sequence[Input]
) -> dict[str, Callable[[], None]]:
    """The orders "NAME forward" (nothing kept for gradients) and "NAME both"; `run` puts an input through `module`."""

    def forward() -> None:
        with torch.no_grad():
            for given in inputs:
                run(given)

    def both() -> None:
        for given in inputs:
            module.zero_grad(set_to_none=True)
            run(given).square().mean().backward()

    return {f"{name} forward": forward, f"{name} both": both}


def as_inside(features: Tensor) -> Callable[[], Tensor]:
    """Gives the features as they are in the middle of a model: a gradient goes through them."""
    leaf = features.detach().clone().requires_grad_()
    return lambda: leaf.view_as(leaf)
