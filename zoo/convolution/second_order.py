"""The derivatives of `Slopes`, chunk by chunk, all terms at once; see `zoo.convolution.slopes` for the notation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.convolution.edges import Chunk, ConvolutionEdges
from zoo.convolution.paths import Block
from zoo.convolution.pieces import Piece, Pieces, unpadded


class SecondOrder:
    """The derivatives of T by Y, w, x and g.

    Args:
        blocks: of the convolution.
        edges: of the batch.
        row_of: (E,) the row of the radial weights of each edge.
        given: Y (E, (L+1)^2), w (U, W), x of each block, g of each sum.
        along: Y', w' and x', None where there are none.
        wanted: for each of `given`, whether the derivative by it is.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        edges: ConvolutionEdges,
        row_of: Tensor,
        given: Sequence[Tensor],
        along: Sequence[Tensor | None],
        wanted: Sequence[bool],
    ) -> None:
        harmonics, self.weights, *rest = given
        self.edges = edges
        features, self.of_sums = rest[: len(blocks)], rest[len(blocks) :]
        self.pieces = Pieces(features, blocks, edges, harmonics)
        self.rows = edges.pad(row_of.unsqueeze(1)).squeeze(1)
        self.along_harmonics = None if along[0] is None else self.edges.pad(along[0])
        self.along_weights = None if along[1] is None else self.pieces.by_block(along[1])
        self.along_features = along[2:]
        by_features, by_sums = wanted[2 : 2 + len(blocks)], wanted[2 + len(blocks) :]
        self.of_harmonics = torch.zeros_like(self.pieces.padded) if wanted[0] else None
        self.of_weights = torch.zeros_like(self.weights) if wanted[1] else None
        self.of_features = [
            torch.zeros_like(x) if want else None for x, want in zip(features, by_features, strict=True)
        ]
        self.of_of_sums = [torch.zeros_like(g) for g in self.of_sums] if any(by_sums) else None

    def run(self) -> list[Tensor | None]:
        """Return the derivatives, in the order of `given`; None where it is not wanted."""
        by_block = self.pieces.by_block(self.weights)
        for chunk in self.edges.chunks:
            self._chunk(chunk, by_block)
        of_sums: Sequence[Tensor | None] = self.of_of_sums or [None] * len(self.of_sums)
        return [unpadded(self.edges, self.of_harmonics), self.of_weights, *self.of_features, *of_sums]

    def _chunk(self, chunk: Chunk, by_block: Sequence[Tensor]) -> None:
        atoms, src = self.edges.atoms[chunk.atoms], self.edges.padded_src[chunk.rows]
        which = self.rows[chunk.rows]
        here = [slope.index_select(0, atoms) for slope in self.of_sums]
        filled = [0] * len(here)
        parts: list[list[Tensor]] = [[] for _ in here]
        of_chunk: list[Tensor] = []
        for number, piece in enumerate(self.pieces.of(chunk, by_block, which)):
            one = self._along(number, piece, chunk, src, which)
            slopes = []
            for path in piece.block.paths:
                start, channels = filled[path.into], piece.block.channels
                slopes.append(here[path.into].narrow(3, start, channels).flatten(2))
                filled[path.into] += channels
            for path, part in zip(piece.block.paths, one.sums() if self.of_of_sums is not None else [], strict=False):
                parts[path.into].append(part.view(len(atoms), -1, piece.x.shape[2], piece.block.channels))
            of_x, of_weights, of_matrices = one.slopes(slopes, self.of_harmonics is not None)
            into = self.of_features[number]
            if into is not None and of_x is not None:
                into.index_add_(0, src, of_x)
            of_chunk += of_weights
            if of_matrices and self.of_harmonics is not None:
                self.of_harmonics[chunk.rows] += self.pieces.of_harmonics(number, of_matrices)
        if self.of_of_sums is not None:
            for total, of_paths in zip(self.of_of_sums, parts, strict=True):
                total.index_copy_(0, atoms, torch.cat(of_paths, dim=3))
        if self.of_weights is not None:
            self.of_weights.index_add_(0, which, torch.cat(of_chunk, dim=1))

    def _along(self, number: int, piece: Piece, chunk: Chunk, src: Tensor, which: Tensor) -> _PieceAlong:
        matrices = x = weights = None
        if self.along_harmonics is not None:
            matrices = self.pieces.matrices(number, chunk, self.along_harmonics[chunk.rows])
        of_block = self.along_features[number]
        if of_block is not None:
            x = of_block.index_select(0, src)
        if self.along_weights is not None:
            of_edges = self.along_weights[number].index_select(0, which).view(len(src), 1, 1, -1)
            weights = of_edges.split(piece.block.channels, dim=3)
        return _PieceAlong(piece, matrices, x, weights)


class _PieceAlong:
    """A piece with the coupling matrices, features and weights of Y', x' and w', None where there are none."""

    def __init__(
        self, piece: Piece, matrices: Tensor | None, x: Tensor | None, weights: Sequence[Tensor] | None
    ) -> None:
        self.piece = piece
        self.matrices = None if matrices is None else piece.by_path(matrices)
        self.x = x
        self.weights = weights
        self._weighted: list[Tensor | None] = []
        for number, weight in enumerate(piece.weights):
            weighted = None if x is None else x * weight
            if weights is not None:
                more = piece.x * weights[number]
                weighted = more if weighted is None else weighted.add_(more)
            self._weighted.append(None if weighted is None else piece.merged(weighted))

    def sums(self) -> list[Tensor]:
        """For each path (a, 2l3+1, I C): the derivative of T by g."""
        out = []
        for number, (_, matrices, weight) in enumerate(self.piece.paths()):
            weighted = self._weighted[number]
            total = None if weighted is None else torch.bmm(matrices, weighted)
            if self.matrices is not None:
                other, plain = self.matrices[number], self.piece.merged(self.piece.x * weight)
                total = torch.bmm(other, plain) if total is None else torch.baddbmm(total, other, plain)
            if total is None:
                total = matrices.new_zeros(*matrices.shape[:2], self.piece.x[0, 0].numel())
            out.append(total)
        return out

    def slopes(self, of_sums: Sequence[Tensor], by_harmonics: bool) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """Derivatives of T by the features (e, 2l1+1, I, C), the weights (e, C) a path, the matrices of each path."""
        x, of_x = self.piece.x, None
        of_weights: list[Tensor] = []
        of_matrices: list[Tensor] = []
        for number, ((_, matrices, weight), slope) in enumerate(zip(self.piece.paths(), of_sums, strict=True)):
            of_weight = None
            if self.x is not None or self.weights is not None:
                back = torch.bmm(matrices.transpose(1, 2), slope).view(x.shape)
                if self.x is not None:
                    of_weight = (back * self.x).sum((1, 2))
                if self.weights is not None:
                    other = self.weights[number]
                    of_x = back.mul_(other) if of_x is None else of_x.addcmul_(back, other)
            if self.matrices is not None:
                back = torch.bmm(self.matrices[number].transpose(1, 2), slope).view(x.shape)
                more = (back * x).sum((1, 2))
                of_weight = more if of_weight is None else of_weight.add_(more)
                of_x = back.mul_(weight) if of_x is None else of_x.addcmul_(back, weight)
            of_weights.append(x.new_zeros(len(x), x.shape[-1]) if of_weight is None else of_weight)
            weighted = self._weighted[number]
            if by_harmonics and weighted is not None:
                of_matrices.append(torch.bmm(slope, weighted.transpose(1, 2)))
        return of_x, of_weights, of_matrices
