"""The equivariant convolution as encoders call it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from zoo.convolution.edges import ConvolutionEdges
from zoo.convolution.paths import Block
from zoo.convolution.segments import segments


def convolve(
    features: Sequence[Tensor], blocks: Sequence[Block], edges: ConvolutionEdges, network: nn.Module
) -> list[Tensor]:
    """Σ_j R(r_ij) (x_j ⊗ Y(r_ij)) at every atom i, with a radial weight R for every path and channel.

    Batzner et al., Nat. Commun. 13, 2453 (2022), eq. (7); the same as e3nn's `TensorProduct` with "uvu" instructions
    and a sum over edges, component normalisation and no path normalisation. Differentiable twice.

    Args:
        features: x, for each block (N, 2l1+1, C), or (N, 2l1+1, .., C) with images that share the weights.
        blocks: what enters, and the paths.
        edges: of the batch.
        network: (U, R) radial inputs -> (U, Σ block.weights), blocks and in them paths one after another.

    Returns:
        For each sum that the paths go into (N, 2l3+1, .., channels of all its paths).
    """
    images = [x.reshape(*x.shape[:2], -1, x.shape[-1]) for x in features]
    sums = segments(images, blocks, edges, network)
    return [out.reshape(*out.shape[:2], *features[0].shape[2:-1], out.shape[-1]) for out in sums]
