"""The sum over neighbours without a message in memory, chunk by chunk.

With the atoms sorted by degree, the sum over the neighbours of an atom is the inner sum of a matrix product,
(2l3+1 × neighbours·(2l1+1)) @ (neighbours·(2l1+1) × channels), path by path, over chunks of edges that stay in the
cache. The backward pass makes the chunks anew, so that a layer keeps its inputs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.convolution.along import gradient_along
from zoo.convolution.edges import ConvolutionEdges
from zoo.convolution.paths import Block
from zoo.convolution.pieces import Gradients, Pieces, unpadded
from zoo.convolution.slopes import Slopes, wanted_inputs


def segments(
    features: Sequence[Tensor], blocks: Sequence[Block], edges: ConvolutionEdges, network: nn.Module
) -> tuple[Tensor, ...]:
    """Compute `convolve` for features (N, 2l1+1, I, C)."""
    given = (edges.harmonics, edges.radial_in_graph, edges.length)
    return Segments.apply(blocks, edges, network, *given, *network.parameters(), *features)


class Segments(torch.autograd.Function):
    """Inputs: blocks, edges, radial network; harmonics, radial inputs, lengths, its parameters, features.

    Features are (N, 2l1+1, I, C) here. Where there are lengths, the first derivative goes by them, past the radial
    inputs: these, and what the network makes of them, are then computed once for each different length.
    """

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[Block],
        edges: ConvolutionEdges,
        network: nn.Module,
        harmonics: Tensor,
        radial: Tensor,
        length: Tensor | None,
        *rest: Tensor,
    ) -> tuple[Tensor, ...]:
        """The sums."""
        ctx.blocks, ctx.edges, ctx.network = blocks, edges, network
        ctx.save_for_backward(harmonics, radial, *rest)
        pieces = Pieces(rest[len(rest) - len(blocks) :], blocks, edges, harmonics)
        out = pieces.empty_sums()
        for stretch in edges.stretches:
            weights = pieces.by_block(network(edges.radial[stretch.lengths]))
            for chunk in stretch.chunks:
                pieces.add_sums(out, chunk, weights, stretch.of(chunk))
        return out

    @staticmethod
    def backward(ctx: Any, *of_sums: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; where these are to be differentiated once more, by `Slopes`."""
        harmonics, radial, *rest = ctx.saved_tensors
        wanted = wanted_inputs(ctx)[3:]
        if torch.is_grad_enabled():
            return (None, None, None, *_in_graph(ctx, harmonics, radial, rest, wanted, of_sums))
        return (None, None, None, *_Backward(ctx, harmonics, radial, rest, wanted).run(of_sums))


def _in_graph(
    ctx: Any,
    harmonics: Tensor,
    radial: Tensor,
    rest: Sequence[Tensor],
    wanted: Sequence[bool],
    of_sums: Sequence[Tensor],
) -> list[Tensor | None]:
    """Gradients with a graph of their own; that by the lengths goes through the radial inputs."""
    edges, blocks = ctx.edges, ctx.blocks
    by_harmonics, by_radial, by_length, *by_rest = wanted
    count = len(rest) - len(blocks)
    by_features = by_rest[count:]
    # By aliases: the features may themselves come from the same harmonics, radial inputs and parameters, by an earlier
    # layer, and a gradient by these must stop here, not go on through the features.
    harmonics, radial, *rest = (tensor.view_as(tensor) for tensor in (harmonics, radial, *rest))
    named = {name: x for (name, _), x in zip(ctx.network.named_parameters(), rest, strict=False)}
    bonds, bond_of = edges.bonds
    weights = torch.func.functional_call(ctx.network, named, (radial if bonds is None else radial[bonds],))
    into_network = [(radial, by_radial or by_length), *zip(rest[:count], by_rest, strict=False)]
    by_weights = any(needed for _, needed in into_network)
    needed = (by_harmonics, by_weights, *by_features)
    found = Slopes.apply(blocks, edges, bond_of, needed, harmonics, weights, *rest[count:], *of_sums)
    of_harmonics, of_weights, *of_features = found
    through: list[Tensor | None] = [None] * len(into_network)
    if by_weights:
        inputs = [tensor for tensor, needed in into_network if needed]
        slopes = iter(gradient_along(weights, inputs, of_weights, create_graph=True))
        through = [next(slopes) if needed else None for _, needed in into_network]
    return [of_harmonics, through[0], None, *through[1:], *of_features]


class _Backward:
    """The backward pass of `Segments`, chunk by chunk."""

    def __init__(
        self, ctx: Any, harmonics: Tensor, radial: Tensor, rest: Sequence[Tensor], wanted: Sequence[bool]
    ) -> None:
        self.edges, self.network = ctx.edges, ctx.network
        by_harmonics, by_radial, by_length, *by_rest = wanted
        count = len(rest) - len(ctx.blocks)
        self.parameters, features = rest[:count], rest[count:]

        def zeros(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
            return [torch.zeros_like(t) if want else None for t, want in zip(tensors, wanted, strict=True)]

        self.of_parameters = zeros(self.parameters, by_rest[:count])
        self.of_radial = torch.zeros_like(radial) if by_radial and not by_length else None
        padded = len(self.edges.rows)
        self.gradients = Gradients(
            Pieces(features, ctx.blocks, self.edges, harmonics),
            zeros(features, by_rest[count:]),
            harmonics.new_empty(padded, harmonics.shape[1]) if by_harmonics else None,
            harmonics.new_empty(padded) if by_length else None,
        )

    def run(self, of_sums: Sequence[Tensor]) -> list[Tensor | None]:
        """Gradients of harmonics, radial inputs, lengths, parameters and features from those of the sums."""
        made, pieces = self.gradients, self.gradients.pieces
        by_parameters = any(slope is not None for slope in self.of_parameters)
        for stretch in self.edges.stretches:
            with torch.enable_grad():
                seen = self.edges.radial[stretch.lengths].detach().requires_grad_(self.of_radial is not None)
                weights = self.network(seen)
            of_weights = None
            if by_parameters or self.of_radial is not None:
                of_weights = torch.zeros_like(weights)
            by_block = pieces.by_block(weights.detach())
            tangents = None
            if made.of_length is not None:
                tangents = pieces.by_block(self._by_length(stretch.lengths))
            for chunk in stretch.chunks:
                made.add(chunk, by_block, stretch.of(chunk), of_sums, of_weights, tangents)
            if of_weights is not None:
                self._through_network(seen, weights, of_weights, stretch.lengths)
        of_given = [unpadded(self.edges, made.of_harmonics), self.of_radial, unpadded(self.edges, made.of_length)]
        return [*of_given, *self.of_parameters, *made.of_features]

    def _by_length(self, lengths: Tensor) -> Tensor:
        """(u, W) derivatives of the radial weights by the length: what the network makes of a tangent."""
        assert self.edges.slope is not None  # for the type checker
        with torch.enable_grad():
            seen = self.edges.radial[lengths].requires_grad_()
            weights = self.network(seen)
            along = torch.zeros_like(weights).requires_grad_()
            (whole,) = gradient_along(weights, [seen], along, create_graph=True)
            return gradient_along(whole, [along], self.edges.slope[lengths])[0]

    def _through_network(self, seen: Tensor, weights: Tensor, of_weights: Tensor, lengths: Tensor) -> None:
        wanted = [p for p, slope in zip(self.parameters, self.of_parameters, strict=True) if slope is not None]
        into = [slope for slope in self.of_parameters if slope is not None]
        inputs = [*wanted, seen] if self.of_radial is not None else wanted
        found = gradient_along(weights, inputs, of_weights)
        for slope, more in zip(into, found, strict=False):
            slope += more
        if self.of_radial is not None:
            self.of_radial.index_add_(0, lengths, found[-1])
