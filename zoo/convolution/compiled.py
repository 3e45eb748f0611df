"""The sum over neighbours as `torch.compile` makes it: loops over edges and channels that hold a message in registers.

A function is compiled for each layer that differs, once for the forward and once for the backward pass, which makes the
messages anew: a layer keeps its inputs alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from zoo.convolution.edges import ConvolutionEdges
from zoo.convolution.paths import Block, coupling, sums
from zoo.convolution.plain import plain, summed
from zoo.errors import ZooError

Sums = Callable[..., tuple[Tensor, ...]]


def load(device: torch.device | None) -> Callable[..., Sequence[Tensor]]:
    """The backend.

    Raises:
        ZooError: nothing can be compiled for the device.
    """
    if device is not None:
        _try(device.type)
    return compiled


def compiled(
    features: Sequence[Tensor], blocks: Sequence[Block], edges: ConvolutionEdges, network: nn.Module
) -> Sequence[Tensor]:
    """As `convolve`, of features (N, 2l1+1, I, C).

    Raises:
        ZooError: nothing can be compiled here.
    """
    if not len(edges.src):
        return plain(features, blocks, edges, network, edges.harmonics, edges.radial)
    _try(features[0].device.type)
    inputs = [
        x.contiguous() for x in (network(edges.radial), edges.harmonics, *features)
    ]  # each layout is compiled anew
    return _Compiled.apply(tuple(blocks), edges, *inputs)


@functools.cache
def _try(device: str) -> None:
    """Compile something small: a compiler may be there, and what else it needs not."""
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # of dynamo, inductor, the compiler, the linker, Triton
        cause = error.__cause__ or error
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        needs = "a C++ compiler (g++ or clang++, or CXX names one)" if device == "cpu" else "Triton"
        raise ZooError(
            f"torch.compile does not work here ({reason[:150]}): install {needs}, or set convolution.backend=auto"
        ) from error


class _Compiled(torch.autograd.Function):
    """Inputs: blocks, edges; radial weights (U, W), harmonics, features (N, 2l1+1, I, C)."""

    @staticmethod
    def forward(
        ctx: Any,
        blocks: tuple[Block, ...],
        edges: ConvolutionEdges,
        weights: Tensor,
        harmonics: Tensor,
        *features: Tensor,
    ) -> tuple[Tensor, ...]:
        """The sums."""
        ctx.blocks, ctx.edges = blocks, edges
        ctx.save_for_backward(weights, harmonics, *features)
        forward = _forward(blocks, edges.filter_degree, weights.dtype, weights.device)
        return forward(*_dynamic(edges.length_of, edges.src, edges.dst, weights, harmonics, *features))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients; by way of `summed` where they shall be differentiated once more: what is compiled cannot."""
        inputs = ctx.saved_tensors
        weights, harmonics, *features = inputs
        edges, needs = ctx.edges, tuple(ctx.needs_input_grad[2:])
        if torch.is_grad_enabled():
            out = summed(features, ctx.blocks, edges, weights, harmonics)
            wanted = [tensor for tensor, needed in zip(inputs, needs, strict=True) if needed]
            found = iter(torch.autograd.grad(out, wanted, slopes, create_graph=True))
        else:
            backward = _backward(ctx.blocks, edges.filter_degree, weights.dtype, weights.device, needs)
            contiguous = [slope.contiguous() for slope in slopes]
            ends = _dynamic(edges.length_of, edges.src, edges.dst)
            found = iter(backward(*ends, _dynamic(*inputs), _dynamic(*contiguous)))
        return (None, None, *(next(found) if needed else None for needed in needs))


def _dynamic(*tensors: Tensor) -> list[Tensor]:
    """Said to have any number of rows. `dynamic=True` would make channels and degrees variables as well."""
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
    return list(tensors)


@functools.cache
def _forward(blocks: tuple[Block, ...], filter_degree: int, dtype: torch.dtype, device: torch.device) -> Sums:
    """(length_of, src, dst, radial weights, harmonics, *features) -> the sums, compiled."""
    return torch.compile(_fresh(_sums(blocks, filter_degree, dtype, device)), fullgraph=True)


@functools.cache
def _backward(
    blocks: tuple[Block, ...],
    filter_degree: int,
    dtype: torch.dtype,
    device: torch.device,
    needs: tuple[bool, ...],
) -> Sums:
    """(length_of, src, dst, [radial weights, harmonics, *features], slopes) -> gradients that are needed, compiled."""
    of_all = _sums(blocks, filter_degree, dtype, device)

    def backward(
        length_of: Tensor, src: Tensor, dst: Tensor, inputs: Sequence[Tensor], slopes: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        def of_wanted(*wanted: Tensor) -> tuple[Tensor, ...]:
            given = iter(wanted)
            return of_all(
                length_of, src, dst, *(next(given) if need else x for x, need in zip(inputs, needs, strict=True))
            )

        pull = torch.func.vjp(of_wanted, *(x for x, need in zip(inputs, needs, strict=True) if need))[1]
        return pull(tuple(slopes))

    return torch.compile(_fresh(backward), fullgraph=True)


def _fresh(function: Any) -> Any:
    """With code of its own: dynamo keeps what it compiles with the code, of one code not more than a few variants."""
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def _sums(blocks: tuple[Block, ...], filter_degree: int, dtype: torch.dtype, device: torch.device) -> Sums:
    """The formula that compiles best of those tried: products element by element, path by path.

    Matrix products are calls that nothing is fused with, and all paths of a block in one tensor are twice as slow.
    """
    constants = [coupling(block, filter_degree, dtype, device) for block in blocks]
    count = len(sums(blocks))

    def of_all(
        length_of: Tensor, src: Tensor, dst: Tensor, weights: Tensor, harmonics: Tensor, *features: Tensor
    ) -> tuple[Tensor, ...]:
        parts: list[list[Tensor]] = [[] for _ in range(count)]
        of_blocks = weights.split([block.weights for block in blocks], dim=1)
        for x, block, w, constant in zip(features, blocks, of_blocks, constants, strict=True):
            degrees = [2 * path.degree + 1 for path in block.paths]
            matrices = (harmonics @ constant.flatten(1)).view(-1, 2 * block.degree + 1, sum(degrees), 1, 1)
            gathered = x[src].unsqueeze(2)  # (E, 2l1+1, 1, I, C)
            of_paths = w[length_of].view(-1, len(block.paths), 1, 1, block.channels).unbind(1)
            for path, matrix, weight in zip(block.paths, matrices.split(degrees, dim=2), of_paths, strict=True):
                message = (matrix * gathered).sum(1) * weight
                out = x.new_zeros(len(x), *message.shape[1:])
                parts[path.into].append(out.index_add(0, dst, message))
        return tuple(torch.cat(part, dim=-1) for part in parts)

    return of_all
