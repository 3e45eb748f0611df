"""The sum over neighbours without a message in memory, chunk by chunk.

With the atoms sorted by degree, the sum over the neighbours of an atom is the inner sum of a matrix product,
(2l3+1 × neighbours·(2l1+1)) @ (neighbours·(2l1+1) × channels), path by path, over chunks of edges that stay in the
cache. The backward pass makes the chunks anew, so that a layer keeps its inputs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.convolution.edges import Chunk, ConvolutionEdges, Stretch
from zoo.convolution.paths import Block, TensorProductPath, coupling, sums
from zoo.convolution.plain import plain


@dataclass(frozen=True)
class _Piece:
    """One block of one chunk: a atoms of n edges each, e = a n; I images that share the radial weights.

    Attributes:
        block: which.
        x: (e, 2l1+1, I, C), the features of the atoms that the edges come from.
        matrices: (a, K, n(2l1+1)), what couples them with the harmonics; K = Σ 2l3+1.
        weights: for each path (e, 1, 1, C).
    """

    block: Block
    x: Tensor
    matrices: Tensor
    weights: Sequence[Tensor]

    def merged(self, weighted: Tensor) -> Tensor:
        """(e, 2l1+1, I, C) -> (a, n(2l1+1), I C): all that is summed over in the middle."""
        return weighted.view(len(self.matrices), self.matrices.shape[2], -1)

    def paths(self) -> Iterator[tuple[TensorProductPath, Tensor, Tensor]]:
        """Each with its matrices (a, 2l3+1, n(2l1+1)) and weights."""
        sizes = [2 * path.degree + 1 for path in self.block.paths]
        return zip(self.block.paths, self.matrices.split(sizes, dim=1), self.weights, strict=True)


class _Work:
    """Work that the forward and the backward pass have in common.

    Args:
        features: for each block (N, 2l1+1, I, C).
        harmonics: (E, (L+1)^2).

    Attributes:
        constants: for each block ((L+1)^2, (2l1+1) K).
    """

    def __init__(
        self, features: Sequence[Tensor], blocks: Sequence[Block], edges: ConvolutionEdges, harmonics: Tensor
    ) -> None:
        self.features, self.blocks, self.edges = features, blocks, edges
        self.padded = edges.pad(harmonics)
        self.constants = [
            coupling(block, edges.filter_degree, x.dtype, x.device).flatten(1)
            for block, x in zip(blocks, features, strict=True)
        ]

    def by_block(self, weights: Tensor) -> list[Tensor]:
        """(u, W) -> for each block (u, its weights), in memory of its own: edges gather from it."""
        return [w.contiguous() for w in weights.split([block.weights for block in self.blocks], dim=1)]

    def pieces(self, stretch: Stretch, chunk: Chunk, weights: Sequence[Tensor]) -> Iterator[_Piece]:
        """Each block; `weights` are those of the stretch, `by_block`. One at a time, so that it stays in the cache."""
        harmonics, src = self.padded[chunk.rows], self.edges.padded_src[chunk.rows]
        which = stretch.of(chunk)
        for x, block, constants, w in zip(self.features, self.blocks, self.constants, weights, strict=True):
            inner = chunk.degree * (2 * block.degree + 1)
            matrices = (harmonics @ constants).view(-1, inner, constants.shape[1] // (2 * block.degree + 1))
            of_paths = w.index_select(0, which).view(len(src), 1, 1, -1).split(block.channels, dim=3)
            yield _Piece(block, x.index_select(0, src), matrices.transpose(1, 2), of_paths)


def segments(
    features: Sequence[Tensor], blocks: Sequence[Block], edges: ConvolutionEdges, network: nn.Module
) -> tuple[Tensor, ...]:
    """Compute `convolve` for features (N, 2l1+1, I, C)."""
    given = (edges.harmonics, edges.radial_of_each, edges.length)
    return Segments.apply(blocks, edges, network, *given, *network.parameters(), *features)


class Segments(torch.autograd.Function):
    """Inputs: blocks, edges, radial network; harmonics, radial inputs, lengths, its parameters, features. See `plain`.

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
        features = rest[len(rest) - len(blocks) :]
        ctx.blocks, ctx.edges, ctx.network = blocks, edges, network
        ctx.save_for_backward(harmonics, radial, *rest)
        images = features[0].shape[2]
        # Atoms that receive no edge are in no chunk.
        new = features[0].new_empty if len(edges.atoms) == edges.n_atoms else features[0].new_zeros
        out = tuple(new(edges.n_atoms, 2 * degree + 1, images, channels) for degree, channels in sums(blocks))
        work = _Work(features, blocks, edges, harmonics)
        for stretch in edges.stretches:
            weights = work.by_block(network(edges.radial[stretch.lengths]))
            for chunk in stretch.chunks:
                atoms = edges.atoms[chunk.atoms]
                parts: list[list[Tensor]] = [[] for _ in out]
                for piece in work.pieces(stretch, chunk, weights):
                    shape = (len(atoms), -1, images, piece.block.channels)
                    for path, matrices, weight in piece.paths():
                        parts[path.into].append(torch.bmm(matrices, piece.merged(piece.x * weight)).view(shape))
                for total, part in zip(out, parts, strict=True):
                    total.index_copy_(0, atoms, torch.cat(part, dim=3))
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients; by `plain` and autograd where these are to be differentiated once more."""
        harmonics, radial, *rest = ctx.saved_tensors
        by_harmonics, by_radial, by_length, *by_rest = ctx.needs_input_grad[3:]
        needs = (by_harmonics, by_radial, *by_rest)
        if torch.is_grad_enabled():
            # By aliases: the features may themselves come from the same harmonics, radial inputs and parameters, by an
            # earlier layer, and a gradient by these must stop here, not go on through the features.
            inputs = [tensor.view_as(tensor) for tensor in (harmonics, radial, *rest)]
            parameters, features = inputs[2 : len(inputs) - len(ctx.blocks)], inputs[len(inputs) - len(ctx.blocks) :]
            named = {name: x for (name, _), x in zip(ctx.network.named_parameters(), parameters, strict=True)}

            def network(seen: Tensor) -> Tensor:
                weights: Tensor = torch.func.functional_call(ctx.network, named, (seen,))
                return weights

            out = plain(features, ctx.blocks, ctx.edges, network, *inputs[:2])
            wanted = [tensor for tensor, needed in zip(inputs, needs, strict=True) if needed]
            found = iter(torch.autograd.grad(out, wanted, grad_outputs, create_graph=True))
            first, second, *others = (next(found) if needed else None for needed in needs)
            return (None, None, None, first, second, None, *others)
        return (None, None, None, *_Backward(ctx, harmonics, radial, rest, needs, by_length).run(grad_outputs))


class _Backward:
    """The backward pass of `Segments`, chunk by chunk."""

    def __init__(
        self,
        ctx: Any,
        harmonics: Tensor,
        radial: Tensor,
        rest: Sequence[Tensor],
        needs: Sequence[bool],
        by_length: bool,
    ) -> None:
        self.edges, self.blocks, self.network = ctx.edges, ctx.blocks, ctx.network
        count = len(rest) - len(self.blocks)
        self.parameters, self.features = rest[:count], rest[count:]
        self.harmonics = harmonics
        self.work = _Work(self.features, self.blocks, self.edges, harmonics)

        def zeros(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
            return [torch.zeros_like(t) if want else None for t, want in zip(tensors, wanted, strict=True)]

        self.of_features = zeros(self.features, needs[2 + count :])
        self.of_parameters = zeros(self.parameters, needs[2 : 2 + count])
        self.of_radial = torch.zeros_like(radial) if needs[1] and not by_length else None
        padded = len(self.edges.rows)
        self.of_padded = harmonics.new_empty(padded, harmonics.shape[1]) if needs[0] else None
        self.of_padded_length = harmonics.new_empty(padded) if by_length else None

    def run(self, slopes: Sequence[Tensor]) -> list[Tensor | None]:
        """Gradients of harmonics, radial inputs, lengths, parameters and features from those of the sums."""
        by_parameters = any(slope is not None for slope in self.of_parameters)
        for stretch in self.edges.stretches:
            with torch.enable_grad():
                seen = self.edges.radial[stretch.lengths].detach().requires_grad_(self.of_radial is not None)
                weights = self.network(seen)
            of_weights = None
            if by_parameters or self.of_radial is not None:
                of_weights = torch.zeros_like(weights)
            by_block = self.work.by_block(weights.detach())
            by_length = None
            if self.of_padded_length is not None:
                by_length = self.work.by_block(self._by_length(stretch.lengths))
            for chunk in stretch.chunks:
                self._chunk(stretch, chunk, by_block, by_length, slopes, of_weights)
            if of_weights is not None:
                self._through_network(seen, weights, of_weights, stretch.lengths)
        of_given = [self._unpadded(self.of_padded), self.of_radial, self._unpadded(self.of_padded_length)]
        return [*of_given, *self.of_parameters, *self.of_features]

    def _by_length(self, lengths: Tensor) -> Tensor:
        """(u, W) derivatives of the radial weights by the length: what the network makes of a tangent."""
        assert self.edges.slope is not None  # for the type checker
        with torch.enable_grad():
            seen = self.edges.radial[lengths].requires_grad_()
            weights = self.network(seen)
            along = torch.zeros_like(weights).requires_grad_()
            (whole,) = torch.autograd.grad(weights, seen, along, create_graph=True)
            return torch.autograd.grad(whole, along, self.edges.slope[lengths])[0]

    def _chunk(
        self,
        stretch: Stretch,
        chunk: Chunk,
        weights: Sequence[Tensor],
        by_length: Sequence[Tensor] | None,
        slopes: Sequence[Tensor],
        of_weights: Tensor | None,
    ) -> None:
        atoms, src = self.edges.atoms[chunk.atoms], self.edges.padded_src[chunk.rows]
        here = [slope.index_select(0, atoms) for slope in slopes]
        filled = [0] * len(slopes)  # channels of each sum that earlier paths went into
        of_chunk: list[Tensor] = []  # of the radial weights, path after path
        of_harmonics: list[Tensor] = []
        of_length: list[Tensor] = []
        which = stretch.of(chunk)
        for number, (piece, of_x, constants) in enumerate(
            zip(self.work.pieces(stretch, chunk, weights), self.of_features, self.work.constants, strict=True)
        ):
            channels, total = piece.block.channels, None
            of_matrices: list[Tensor] = []
            of_paths: list[Tensor] = []
            for path, matrices, weight in piece.paths():
                slope = here[path.into].narrow(3, filled[path.into], channels).flatten(2)
                filled[path.into] += channels
                of_weighted = torch.bmm(matrices.transpose(1, 2), slope).view(piece.x.shape)
                if of_weights is not None or by_length is not None:
                    of_paths.append((of_weighted * piece.x).sum((1, 2)))
                if self.of_padded is not None:
                    of_matrices.append(torch.bmm(slope, piece.merged(piece.x * weight).transpose(1, 2)))
                if of_x is not None:
                    total = of_weighted.mul_(weight) if total is None else total.addcmul_(of_weighted, weight)
            if of_x is not None and total is not None:
                of_x.index_add_(0, src, total)
            if by_length is not None:
                tangents = by_length[number].index_select(0, which)
                of_length.append((torch.cat(of_paths, dim=1) * tangents).sum(1))
            if of_weights is not None:
                of_chunk += of_paths
            if of_matrices:
                of_merged = torch.cat(of_matrices, dim=1).transpose(1, 2).reshape(len(src), -1)
                of_harmonics.append(of_merged @ constants.T)
        if self.of_padded is not None:
            self.of_padded[chunk.rows] = torch.stack(of_harmonics).sum(0)
        if self.of_padded_length is not None:
            self.of_padded_length[chunk.rows] = torch.stack(of_length).sum(0)
        if of_weights is not None:
            of_weights.index_add_(0, which, torch.cat(of_chunk, dim=1))

    def _through_network(self, seen: Tensor, weights: Tensor, of_weights: Tensor, lengths: Tensor) -> None:
        wanted = [p for p, slope in zip(self.parameters, self.of_parameters, strict=True) if slope is not None]
        into = [slope for slope in self.of_parameters if slope is not None]
        inputs = [*wanted, seen] if self.of_radial is not None else wanted
        found = torch.autograd.grad(weights, inputs, of_weights)
        for slope, more in zip(into, found, strict=False):
            slope += more
        if self.of_radial is not None:
            self.of_radial.index_add_(0, lengths, found[-1])

    def _unpadded(self, padded: Tensor | None) -> Tensor | None:
        """(P, ...) -> (E, ...)."""
        if padded is None:
            return None
        out = padded.new_zeros(len(self.harmonics) + 1, *padded.shape[1:])  # the last: what fills up
        return out.index_copy_(0, self.edges.rows, padded)[:-1]
