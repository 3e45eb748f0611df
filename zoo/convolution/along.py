"""Products of a vector with a Jacobian, without the imports of `torch.autograd.grad` for them.

Given `grad_outputs`, `torch.autograd.grad` compares shapes by `torch.fx.experimental.symbolic_shapes`, whose import,
with that of sympy, takes half as long as that of torch itself. Asked for the gradient of a single number, it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _Along(torch.autograd.Function):
    """A number whose gradient by the outputs is `along`."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, along: Tensor) -> Tensor:
        ctx.save_for_backward(along)
        return outputs.new_zeros(())

    @staticmethod
    def backward(ctx: Any, of_number: Tensor) -> tuple[Tensor, None]:
        (along,) = ctx.saved_tensors
        return along, None


def gradient_along(
    outputs: Tensor, inputs: Sequence[Tensor], along: Tensor, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """For each input the gradient of Σ outputs · along, by which it can be differentiated where a graph is created.

    Args:
        outputs: a tensor that depends on every input.
        inputs: tensors that require a gradient.
        along: of the shape of the outputs.
        create_graph: whether the gradient will itself be differentiated.
    """
    with torch.enable_grad():  # a backward pass may be under way, which is not recorded itself
        number = _Along.apply(outputs, along)
    return torch.autograd.grad(number, inputs, create_graph=create_graph)
