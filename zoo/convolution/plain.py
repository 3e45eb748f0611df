"""The sum over neighbours as a few operations on all edges: what tests and benchmarks compare the fast one with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zoo.convolution.edges import ConvolutionEdges
from zoo.convolution.paths import Block, coupling, sums


def plain(
    features: Sequence[Tensor],
    blocks: Sequence[Block],
    edges: ConvolutionEdges,
    network: Callable[[Tensor], Tensor],
    harmonics: Tensor,
    radial: Tensor,
) -> list[Tensor]:
    """Compute `convolve` in plain PyTorch from given harmonics and radial inputs, those of edges without lengths."""
    weights = network(radial)[edges.length_of]
    of_blocks = weights.split([block.weights for block in blocks], dim=1)
    parts: list[list[Tensor]] = [[] for _ in sums(blocks)]
    for x, block, w in zip(features, blocks, of_blocks, strict=True):
        constants = coupling(block, edges.filter_degree, x.dtype, x.device)
        matrices = torch.einsum("eh,hmk->ekm", harmonics, constants)
        coupled = torch.bmm(matrices, x[edges.src].flatten(2)).unflatten(2, x.shape[2:])
        made = coupled.split([2 * path.degree + 1 for path in block.paths], dim=1)
        for path, message, weight in zip(block.paths, made, w.split(block.channels, dim=1), strict=True):
            weighted = message * weight.reshape(-1, *[1] * (x.dim() - 2), block.channels)
            out = x.new_zeros(edges.n_atoms, *weighted.shape[1:])
            parts[path.into].append(out.index_add(0, edges.dst, weighted))
    return [torch.cat(part, dim=-1) for part in parts]
