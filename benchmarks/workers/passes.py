"""Parts of a worker that measures a model: the batches of inputs.py, passes over them, floating-point operations.

Nothing of the zoo is needed here, so that workers in the environments of other packages use it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Input = TypeVar("Input")


def read_batches(folder: str) -> list[dict[str, Any]]:
    """Tensors named as the fields of the zoo's `CrystalBatch`: positions, numbers, cell, crystal, src, dst, shift."""
    paths = sorted(Path(folder).glob("*.npz"))
    return [{name: torch.from_numpy(value) for name, value in np.load(path).items()} for path in paths]


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


class _Counter(TorchDispatchMode):
    # Not torch's own FlopCounterMode: it also tracks modules, and fails on those of e3nn that take weights as input.
    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def matmul_flops(one_pass: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products in a pass; products element by element are not counted."""
    with _Counter() as counter:
        one_pass()
    return counter.total
