"""Floating-point operations of a pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):
    # Not torch's own FlopCounterMode: it also tracks modules, and fails on those of e3nn that take weights as input.
    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def matmul_flops(one_pass: Callable[[], Any]) -> int:
    """Those of the matrix products; products element by element are not counted."""
    with _Counter() as counter:
        one_pass()
    return counter.total
