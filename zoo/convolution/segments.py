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
    return Segments.apply(blocks, edges, network, edges.harmonics, edges.radial, *network.parameters(), *features)


class Segments(torch.autograd.Function):
    """Inputs: blocks, edges, radial network; harmonics, radial inputs, its parameters, features. See `plain`.

    Features are (N, 2l1+1, I, C) here.
    """

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[Block],
        edges: ConvolutionEdges,
        network: nn.Module,
        harmonics: Tensor,
        radial: Tensor,
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
            weights = work.by_block(network(radial[stretch.lengths]))
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
        needs = ctx.needs_input_grad[3:]
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
            return (None, None, None, *(next(found) if needed else None for needed in needs))
        return (None, None, None, *_Backward(ctx, harmonics, radial, rest, needs).run(grad_outputs))


class _Backward:
    """The backward pass of `Segments`, chunk by chunk."""

    def __init__(
        self, ctx: Any, harmonics: Tensor, radial: Tensor, rest: Sequence[Tensor], needs: Sequence[bool]
    ) -> None:
        self.edges, self.blocks, self.network = ctx.edges, ctx.blocks, ctx.network
        count = len(rest) - len(self.blocks)
        self.parameters, self.features = rest[:count], rest[count:]
        self.harmonics, self.radial = harmonics, radial
        self.work = _Work(self.features, self.blocks, self.edges, harmonics)

        def zeros(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
            return [torch.zeros_like(t) if want else None for t, want in zip(tensors, wanted, strict=True)]

        self.of_features = zeros(self.features, needs[2 + count :])
        self.of_parameters = zeros(self.parameters, needs[2 : 2 + count])
        self.of_radial = torch.zeros_like(radial) if needs[1] else None
        self.of_padded = harmonics.new_empty(len(self.edges.rows), harmonics.shape[1]) if needs[0] else None

    def run(self, slopes: Sequence[Tensor]) -> list[Tensor | None]:
        """Gradients of harmonics, radial inputs, parameters and features from those of the sums."""
        for stretch in self.edges.stretches:
            with torch.enable_grad():
                seen = self.radial[stretch.lengths].detach().requires_grad_(self.of_radial is not None)
                weights = self.network(seen)
            of_weights = torch.zeros_like(weights) if weights.requires_grad else None
            by_block = self.work.by_block(weights.detach())
            for chunk in stretch.chunks:
                self._chunk(stretch, chunk, by_block, slopes, of_weights)
            if of_weights is not None:
                self._through_network(seen, weights, of_weights, stretch.lengths)
        return [self._unpadded(), self.of_radial, *self.of_parameters, *self.of_features]

    def _chunk(
        self,
        stretch: Stretch,
        chunk: Chunk,
        weights: Sequence[Tensor],
        slopes: Sequence[Tensor],
        of_weights: Tensor | None,
    ) -> None:
        atoms, src = self.edges.atoms[chunk.atoms], self.edges.padded_src[chunk.rows]
        here = [slope.index_select(0, atoms) for slope in slopes]
        filled = [0] * len(slopes)  # channels of each sum that earlier paths went into
        of_chunk: list[Tensor] = []  # of the radial weights, path after path
        of_harmonics: list[Tensor] = []
        for piece, of_x, constants in zip(
            self.work.pieces(stretch, chunk, weights), self.of_features, self.work.constants, strict=True
        ):
            channels, total = piece.block.channels, None
            of_matrices: list[Tensor] = []
            for path, matrices, weight in piece.paths():
                slope = here[path.into].narrow(3, filled[path.into], channels).flatten(2)
                filled[path.into] += channels
                of_weighted = torch.bmm(matrices.transpose(1, 2), slope).view(piece.x.shape)
                if of_weights is not None:
                    of_chunk.append((of_weighted * piece.x).sum((1, 2)))
                if self.of_padded is not None:
                    of_matrices.append(torch.bmm(slope, piece.merged(piece.x * weight).transpose(1, 2)))
                if of_x is not None:
                    total = of_weighted.mul_(weight) if total is None else total.addcmul_(of_weighted, weight)
            if of_x is not None and total is not None:
                of_x.index_add_(0, src, total)
            if of_matrices:
                of_merged = torch.cat(of_matrices, dim=1).transpose(1, 2).reshape(len(src), -1)
                of_harmonics.append(of_merged @ constants.T)
        if self.of_padded is not None:
            self.of_padded[chunk.rows] = torch.stack(of_harmonics).sum(0)
        if of_weights is not None:
            of_weights.index_add_(0, stretch.of(chunk), torch.cat(of_chunk, dim=1))

    def _through_network(self, seen: Tensor, weights: Tensor, of_weights: Tensor, lengths: Tensor) -> None:
        wanted = [p for p, slope in zip(self.parameters, self.of_parameters, strict=True) if slope is not None]
        into = [slope for slope in self.of_parameters if slope is not None]
        inputs = [*wanted, seen] if self.of_radial is not None else wanted
        found = torch.autograd.grad(weights, inputs, of_weights)
        for slope, more in zip(into, found, strict=False):
            slope += more
        if self.of_radial is not None:
            self.of_radial.index_add_(0, lengths, found[-1])

    def _unpadded(self) -> Tensor | None:
        if self.of_padded is None:
            return None
        out = self.harmonics.new_zeros(len(self.harmonics) + 1, self.harmonics.shape[1])  # the last: what fills up
        return out.index_copy_(0, self.edges.rows, self.of_padded)[:-1]
