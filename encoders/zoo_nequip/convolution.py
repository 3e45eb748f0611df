"""The equivariant convolution over neighbours, between irreps."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo.api import Block, ConvolutionEdges, TensorProductPath, convolve


class Convolution(nn.Module):
    """Σ_j R(r_ij) (x_j ⊗ Y(r_ij)), each channel by itself, with a radial weight R for every path and channel.

    Batzner et al., Nat. Commun. 13, 2453 (2022), eq. (7).

    Args:
        irreps_in: of the features x.
        irreps_out: the irreps that are wanted; paths to others are not made.
        l_max: highest degree of the spherical harmonics.
        radial: sizes of the radial network up to its last hidden layer; it has no bias, so where its input, the radial
            basis × envelope, vanishes, the message does too.

    Attributes:
        irreps_out: what comes out, all paths to an irrep side by side.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: Collection[o3.Irrep], l_max: int, radial: Sequence[int]
    ) -> None:
        super().__init__()
        self.irreps_in = irreps_in
        products = [
            [(l2, out) for l2 in range(l_max + 1) for out in ir * o3.Irrep(l2, (-1) ** l2) if out in irreps_out]
            for _, ir in irreps_in
        ]
        found = [(mul, out) for (mul, _), paths in zip(irreps_in, products, strict=True) for _, out in paths]
        self.irreps_out = o3.Irreps(found).sort().irreps.simplify()
        number = {irrep: n for n, (_, irrep) in enumerate(self.irreps_out)}
        self.blocks = [
            Block(ir.l, mul, tuple(TensorProductPath(l2, out.l, into=number[out]) for l2, out in paths))
            for (mul, ir), paths in zip(irreps_in, products, strict=True)
        ]
        self.weights = FullyConnectedNet([*radial, sum(block.weights for block in self.blocks)], silu)

    def forward(self, features: Tensor, edges: ConvolutionEdges) -> Tensor:
        """(N, irreps_in.dim) -> (N, irreps_out.dim), both in e3nn's layout."""
        blocks = [
            features[:, where].unflatten(1, (mul, ir.dim)).transpose(1, 2).contiguous()
            for (mul, ir), where in zip(self.irreps_in, self.irreps_in.slices(), strict=True)
        ]
        sums = convolve(blocks, self.blocks, edges, self.weights)
        return torch.cat([made.transpose(1, 2).flatten(1) for made in sums], dim=1)
