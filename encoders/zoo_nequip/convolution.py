"""The equivariant convolution over neighbours."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from torch import Tensor, nn
from torch.nn.functional import silu

# Edges whose messages are made at a time on a CPU: few enough to stay in its cache, many enough to keep it busy.
CHUNK = 1024


@functools.lru_cache(maxsize=64)
def _coupling(
    l1: int, paths: tuple[tuple[int, int], ...], l_max: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Spherical harmonics -> the matrices that couple degree l1 with them, ((l_max+1)^2, K (2l1+1)), K = Σ 2l3+1.

    In float64 until the end, so that a model changed to that precision is exact in it.
    """
    blocks = []
    with torch.inference_mode(False):  # it is kept: a later training could not differentiate through it
        for l2, l3 in paths:
            block = torch.zeros((l_max + 1) ** 2, 2 * l3 + 1, 2 * l1 + 1, dtype=torch.float64)
            symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
            block[l2**2 : (l2 + 1) ** 2] = symbol.permute(1, 2, 0)
            blocks.append(block)
        return torch.cat(blocks, dim=1).flatten(1).to(dtype).to(device)


class Convolution(nn.Module):
    """Σ_j R(r_ij) (x_j ⊗ Y(r_ij)), each channel by itself, with a radial weight R for every path and channel.

    Batzner et al., Nat. Commun. 13, 2453 (2022), eq. (7). The same as e3nn's `TensorProduct` with "uvu" instructions,
    several times faster here: all paths from one irrep are one small matrix product an edge, with the channels last.

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
        self.l_max = l_max
        self.paths = [
            [(l2, out) for l2 in range(l_max + 1) for out in ir * o3.Irrep(l2, (-1) ** l2) if out in irreps_out]
            for _, ir in irreps_in
        ]
        found = [(mul, out) for (mul, _), paths in zip(irreps_in, self.paths, strict=True) for _, out in paths]
        self.irreps_out = o3.Irreps(found).sort().irreps.simplify()
        self.sizes = [mul * len(paths) for (mul, _), paths in zip(irreps_in, self.paths, strict=True)]
        self.weights = FullyConnectedNet([*radial, sum(self.sizes)], silu)

    def _messages(self, x: Tensor, block: int, harmonics: Tensor, weights: Tensor) -> Tensor:
        """What flows along e edges from one block of irreps: (e, 2l+1, C) -> (e, K, C), its paths one after another."""
        edges, components, channels = x.shape
        degrees = tuple((l2, out.l) for l2, out in self.paths[block])
        sizes = [2 * l3 + 1 for _, l3 in degrees]
        coupling = _coupling(self.irreps_in[block].ir.l, degrees, self.l_max, x.dtype, x.device)
        coupled = torch.bmm((harmonics @ coupling).view(edges, sum(sizes), components), x)
        weights = weights.reshape(edges, len(sizes), 1, channels)
        return torch.cat([part * weights[:, p] for p, part in enumerate(coupled.split(sizes, dim=1))], dim=1)

    def forward(self, features: Tensor, src: Tensor, dst: Tensor, harmonics: Tensor, radial: Tensor) -> Tensor:
        """(N, irreps_in.dim) -> (N, irreps_out.dim).

        Args:
            features: in e3nn's layout.
            src: (E,) int64.
            dst: (E,) int64.
            harmonics: (E, (l_max+1)^2), component-normalised.
            radial: (E, R), radial basis × envelope.
        """
        blocks = [
            features[:, where].unflatten(1, (mul, ir.dim)).transpose(1, 2).contiguous()
            for (mul, ir), where in zip(self.irreps_in, self.irreps_in.slices(), strict=True)
        ]
        sums = [
            x.new_zeros(len(x), sum(out.dim for _, out in paths), x.shape[2])
            for x, paths in zip(blocks, self.paths, strict=True)
        ]
        chunk = CHUNK if features.device.type == "cpu" else max(len(src), 1)
        chunks = zip(*(t.split(chunk) for t in (src, dst, harmonics, radial)), strict=True)
        for chunk_src, chunk_dst, chunk_harmonics, chunk_radial in chunks:
            weights = self.weights(chunk_radial).split(self.sizes, dim=1)
            for block, (x, w) in enumerate(zip(blocks, weights, strict=True)):
                messages = self._messages(x.index_select(0, chunk_src), block, chunk_harmonics, w)
                sums[block].index_add_(0, chunk_dst, messages)
        return self._by_irrep(sums)

    def _by_irrep(self, sums: Sequence[Tensor]) -> Tensor:
        """Sort what came along the paths by irrep, back into e3nn's layout."""
        parts: dict[o3.Irrep, list[Tensor]] = {ir: [] for _, ir in self.irreps_out}
        for total, paths in zip(sums, self.paths, strict=True):
            for (_, out), part in zip(paths, total.split([out.dim for _, out in paths], dim=1), strict=True):
                parts[out].append(part)
        return torch.cat([torch.cat(p, dim=2).transpose(1, 2).flatten(1) for p in parts.values()], dim=1)
