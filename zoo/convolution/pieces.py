"""Parts of a convolution that fit into a processor's cache: one block of a chunk of edges, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.convolution.edges import Chunk, ConvolutionEdges
from zoo.convolution.paths import Block, TensorProductPath, coupling, sums


@dataclass(frozen=True)
class Piece:
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
        return zip(self.block.paths, self.by_path(self.matrices), self.weights, strict=True)

    def by_path(self, matrices: Tensor) -> tuple[Tensor, ...]:
        """(a, K, n(2l1+1)) -> for each path (a, 2l3+1, n(2l1+1))."""
        return matrices.split([2 * path.degree + 1 for path in self.block.paths], dim=1)


class Pieces:
    """All blocks of all chunks of a convolution.

    Args:
        features: for each block (N, 2l1+1, I, C).
        blocks: what enters, and the paths.
        edges: of the batch.
        harmonics: (E, (L+1)^2).

    Attributes:
        padded: (P, (L+1)^2) the harmonics of the padded edges.
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

    def of(self, chunk: Chunk, weights: Sequence[Tensor], which: Tensor) -> Iterator[Piece]:
        """Each block of a chunk, one at a time, so that it stays in the cache.

        Args:
            chunk: of e padded edges.
            weights: radial weights `by_block`.
            which: (e,) the row of these that each edge has.
        """
        harmonics, src = self.padded[chunk.rows], self.edges.padded_src[chunk.rows]
        for number, (x, block) in enumerate(zip(self.features, self.blocks, strict=True)):
            matrices = self.matrices(number, chunk, harmonics)
            of_paths = weights[number].index_select(0, which).view(len(src), 1, 1, -1).split(block.channels, dim=3)
            yield Piece(block, x.index_select(0, src), matrices, of_paths)

    def matrices(self, number: int, chunk: Chunk, harmonics: Tensor) -> Tensor:
        """(e, (L+1)^2) -> (a, K, n(2l1+1)): coupling matrices of a block with the harmonics of a chunk's edges."""
        constants, components = self.constants[number], 2 * self.blocks[number].degree + 1
        made = (harmonics @ constants).view(-1, chunk.degree * components, constants.shape[1] // components)
        return made.transpose(1, 2)

    def of_harmonics(self, number: int, of_matrices: Sequence[Tensor]) -> Tensor:
        """Gradient of a block's coupling matrices, path after path -> that of the harmonics, (e, (L+1)^2)."""
        merged = torch.cat(list(of_matrices), dim=1).transpose(1, 2)
        constants = self.constants[number]
        return merged.reshape(-1, constants.shape[1]) @ constants.T

    def empty_sums(self) -> tuple[Tensor, ...]:
        """For each sum (N, 2l3+1, I, channels), zero where an atom receives no edge and no chunk would fill it."""
        first, edges = self.features[0], self.edges
        new = first.new_empty if len(edges.atoms) == edges.n_atoms else first.new_zeros
        return tuple(
            new(edges.n_atoms, 2 * degree + 1, first.shape[2], channels) for degree, channels in sums(self.blocks)
        )

    def add_sums(self, out: Sequence[Tensor], chunk: Chunk, weights: Sequence[Tensor], which: Tensor) -> None:
        """Write the sums of a chunk's atoms into `out`; `weights` and `which` as for `of`."""
        atoms = self.edges.atoms[chunk.atoms]
        parts: list[list[Tensor]] = [[] for _ in out]
        for piece in self.of(chunk, weights, which):
            shape = (len(atoms), -1, piece.x.shape[2], piece.block.channels)
            for path, matrices, weight in piece.paths():
                parts[path.into].append(torch.bmm(matrices, piece.merged(piece.x * weight)).view(shape))
        for total, part in zip(out, parts, strict=True):
            total.index_copy_(0, atoms, torch.cat(part, dim=3))


@dataclass
class Gradients:
    """Gradients of a convolution's inputs from those of its sums, added up chunk by chunk.

    Attributes:
        pieces: of the convolution.
        of_features: for each block (N, 2l1+1, I, C), or None where it is not wanted.
        of_harmonics: (P, (L+1)^2) of the padded edges, or None.
        of_length: (P,) of the padded edges, or None.
    """

    pieces: Pieces
    of_features: Sequence[Tensor | None]
    of_harmonics: Tensor | None
    of_length: Tensor | None = None

    def add(
        self,
        chunk: Chunk,
        weights: Sequence[Tensor],
        which: Tensor,
        of_sums: Sequence[Tensor],
        of_weights: Tensor | None,
        tangents: Sequence[Tensor] | None = None,
    ) -> None:
        """Add what comes of one chunk.

        Args:
            chunk: of e padded edges.
            weights: radial weights `Pieces.by_block`.
            which: (e,) the row of these that each edge has.
            of_sums: gradient of each sum.
            of_weights: (u, W) where that of the radial weights is added, or None.
            tangents: derivatives of the radial weights by the length, `Pieces.by_block`, where `of_length` is wanted.
        """
        pieces = self.pieces
        atoms, src = pieces.edges.atoms[chunk.atoms], pieces.edges.padded_src[chunk.rows]
        here = [slope.index_select(0, atoms) for slope in of_sums]
        filled = [0] * len(of_sums)  # channels of each sum that earlier paths went into
        of_chunk: list[Tensor] = []  # of the radial weights, path after path
        of_harmonics: list[Tensor] = []
        of_length: list[Tensor] = []
        for number, (piece, of_x) in enumerate(zip(pieces.of(chunk, weights, which), self.of_features, strict=True)):
            channels, total = piece.block.channels, None
            of_matrices: list[Tensor] = []
            of_paths: list[Tensor] = []
            for path, matrices, weight in piece.paths():
                slope = here[path.into].narrow(3, filled[path.into], channels).flatten(2)
                filled[path.into] += channels
                of_weighted = torch.bmm(matrices.transpose(1, 2), slope).view(piece.x.shape)
                if of_weights is not None or tangents is not None:
                    of_paths.append((of_weighted * piece.x).sum((1, 2)))
                if self.of_harmonics is not None:
                    of_matrices.append(torch.bmm(slope, piece.merged(piece.x * weight).transpose(1, 2)))
                if of_x is not None:
                    total = of_weighted.mul_(weight) if total is None else total.addcmul_(of_weighted, weight)
            if of_x is not None and total is not None:
                of_x.index_add_(0, src, total)
            if tangents is not None:
                along = tangents[number].index_select(0, which)
                of_length.append((torch.cat(of_paths, dim=1) * along).sum(1))
            if of_weights is not None:
                of_chunk += of_paths
            if of_matrices:
                of_harmonics.append(pieces.of_harmonics(number, of_matrices))
        if self.of_harmonics is not None:
            self.of_harmonics[chunk.rows] = torch.stack(of_harmonics).sum(0)
        if self.of_length is not None:
            self.of_length[chunk.rows] = torch.stack(of_length).sum(0)
        if of_weights is not None:
            of_weights.index_add_(0, which, torch.cat(of_chunk, dim=1))


def unpadded(edges: ConvolutionEdges, padded: Tensor | None) -> Tensor | None:
    """(P, ...) of the padded edges -> (E, ...)."""
    if padded is None:
        return None
    out = padded.new_zeros(len(edges.src) + 1, *padded.shape[1:])  # the last: what fills up
    return out.index_copy_(0, edges.rows, padded)[:-1]
