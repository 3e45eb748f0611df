"""Gradients of a convolution as a function that can itself be differentiated, for losses on forces.

The sums F(Y, w, x) are linear in the harmonics Y, in the radial weights w and in the features x. With g the gradient of
a loss by the sums, S = <g, F(Y, w, x)> has slopes S_Y, S_w and S_x, which are what a backward pass returns. Weighted
with Y', w', x' and added up they are, by linearity,

    T = <g, F(Y', w, x) + F(Y, w', x) + F(Y, w, x')>

so the derivatives of T by g, Y, w and x are convolutions and slopes of convolutions again. They are computed from the
inputs, chunk by chunk (`zoo.convolution.second_order`): nothing of size edges × channels × components is kept between
the passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.convolution.edges import ConvolutionEdges
from zoo.convolution.paths import Block
from zoo.convolution.pieces import Gradients, Pieces, unpadded
from zoo.convolution.second_order import SecondOrder


def wanted_inputs(ctx: Any) -> list[bool]:
    """For each input of a torch.autograd.Function, whether the backward pass under way uses its gradient.

    `ctx.needs_input_grad` says what could have one; a pass that asks for forces alone, say, needs none of parameters.
    """
    nodes = iter([node for node, _ in ctx.next_functions if node is not None])  # one for each that could have one
    return [needed and _is_used(next(nodes, None)) for needed in ctx.needs_input_grad]


def _is_used(node: Any) -> bool:
    will_execute = getattr(torch._C, "_will_engine_execute_node", None)
    if node is None or will_execute is None:
        return True
    try:
        return bool(will_execute(node))
    except RuntimeError:  # a leaf that autograd.grad was asked for, or no backward pass is under way
        return True


class Sums(torch.autograd.Function):
    """Inputs: blocks, edges, row of the weights of each edge; harmonics, weights (U, W), features. The sums.

    It has the radial weights where `Segments` has the network, and any number of derivatives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[Block],
        edges: ConvolutionEdges,
        row_of: Tensor,
        harmonics: Tensor,
        weights: Tensor,
        *features: Tensor,
    ) -> tuple[Tensor, ...]:
        """Compute them."""
        ctx.blocks, ctx.edges, ctx.row_of = blocks, edges, row_of
        ctx.save_for_backward(harmonics, weights, *features)
        pieces = Pieces(features, blocks, edges, harmonics)
        out, by_block, rows = pieces.empty_sums(), pieces.by_block(weights), edges.pad(row_of.unsqueeze(1)).squeeze(1)
        for chunk in edges.chunks:
            pieces.add_sums(out, chunk, by_block, rows[chunk.rows])
        return out

    @staticmethod
    def backward(ctx: Any, *of_sums: Tensor) -> tuple[Tensor | None, ...]:
        """Return the slopes."""
        wanted = tuple(wanted_inputs(ctx)[3:])
        return (
            None,
            None,
            None,
            *Slopes.apply(ctx.blocks, ctx.edges, ctx.row_of, wanted, *ctx.saved_tensors, *of_sums),
        )


class Slopes(torch.autograd.Function):
    """Inputs: blocks, edges, row of the weights of each edge, which slopes are wanted; Y, w (U, W), all x, all g.

    Returns S_Y, S_w and S_x of each block, None where it is not wanted.
    """

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[Block],
        edges: ConvolutionEdges,
        row_of: Tensor,
        wanted: Sequence[bool],
        harmonics: Tensor,
        weights: Tensor,
        *rest: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Compute them."""
        ctx.blocks, ctx.edges, ctx.row_of = blocks, edges, row_of
        ctx.save_for_backward(harmonics, weights, *rest)
        ctx.set_materialize_grads(False)
        features, of_sums = rest[: len(blocks)], rest[len(blocks) :]
        pieces = Pieces(features, blocks, edges, harmonics)
        made = Gradients(
            pieces,
            [torch.zeros_like(x) if want else None for x, want in zip(features, wanted[2:], strict=True)],
            harmonics.new_empty(len(edges.rows), harmonics.shape[1]) if wanted[0] else None,
        )
        of_weights = torch.zeros_like(weights) if wanted[1] else None
        by_block, rows = pieces.by_block(weights), edges.pad(row_of.unsqueeze(1)).squeeze(1)
        for chunk in edges.chunks:
            made.add(chunk, by_block, rows[chunk.rows], of_sums, of_weights)
        return (unpadded(edges, made.of_harmonics), of_weights, *made.of_features)

    @staticmethod
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:
        """Return the derivatives of T by Y, w, x and g; `along` are Y', w' and x'."""
        wanted = wanted_inputs(ctx)[4:]
        if torch.is_grad_enabled():
            return (None, None, None, None, *_in_graph(ctx, along, wanted))
        second = SecondOrder(ctx.blocks, ctx.edges, ctx.row_of, ctx.saved_tensors, along, wanted)
        return (None, None, None, None, *second.run())


def _in_graph(ctx: Any, along: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
    """The derivatives of T as sums and slopes, which can be differentiated again: one term of T after another."""
    count = 2 + len(ctx.blocks)
    inputs, of_sums = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
    total: list[Tensor | None] = [None] * len(wanted)

    def add(at: int, more: Tensor | None) -> None:
        if more is not None and wanted[at]:
            here = total[at]
            total[at] = more if here is None else here + more

    # F is linear in all features together, so x' of all blocks is one term.
    terms = [(range(0, 1), along[:1]), (range(1, 2), along[1:2]), (range(2, count), along[2:])]
    for places, changed in terms:
        if all(one is None for one in changed):
            continue
        given = list(inputs)
        for place, one in zip(places, changed, strict=True):
            given[place] = torch.zeros_like(inputs[place]) if one is None else one
        by_inputs = [want and place not in places for place, want in enumerate(wanted[:count])]
        if any(by_inputs):
            found = Slopes.apply(ctx.blocks, ctx.edges, ctx.row_of, by_inputs, *given, *of_sums)
            for place, slope in enumerate(found):
                add(place, slope)
        if any(wanted[count:]):
            for place, part in enumerate(Sums.apply(ctx.blocks, ctx.edges, ctx.row_of, *given), start=count):
                add(place, part)
    return total
