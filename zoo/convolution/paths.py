"""Degrees that a convolution couples, and the coupling constants."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor


@dataclass(frozen=True)
class TensorProductPath:
    """Feature of degree l1 × spherical harmonic of degree l2 -> degree l3.

    Attributes:
        harmonic: l2.
        degree: l3.
        into: the number of the sum that it goes into. In each, the channels of all its paths lie side by side.
    """

    harmonic: int
    degree: int
    into: int


@dataclass(frozen=True)
class Block:
    """Features of one degree that enter a convolution, and what is made of them.

    Attributes:
        degree: l1 of the features.
        channels: C; each has radial weights of its own.
        paths: in the order of the radial weights.
    """

    degree: int
    channels: int
    paths: tuple[TensorProductPath, ...]

    @property
    def weights(self) -> int:
        """Radial weights an edge: one for each path and channel."""
        return self.channels * len(self.paths)


def sums(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    """Degree and channels of each sum of a convolution.

    Raises:
        ValueError: paths of different degrees go into one sum, or a sum has no path.
    """
    found: dict[int, tuple[int, int]] = {}
    for block in blocks:
        for path in block.paths:
            degree, channels = found.get(path.into, (path.degree, 0))
            if degree != path.degree:
                raise ValueError(f"sum {path.into} cannot hold degree {degree} and degree {path.degree}")
            found[path.into] = degree, channels + block.channels
    if sorted(found) != list(range(len(found))):
        raise ValueError(f"the sums must be numbered from 0 on, they are {sorted(found)}")
    return [found[number] for number in range(len(found))]


@functools.lru_cache(maxsize=64)
def coupling(block: Block, filter_degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Spherical harmonics -> the matrices that couple features of degree l1 with them.

    In float64 until the end, so that a model changed to that precision is exact in it.

    Returns:
        ((L+1)^2, 2l1+1, K), K = Σ 2l3+1 over the paths: e3nn's Wigner 3j symbols, normalised such that components of
        variance one make components of variance one.
    """
    with torch.inference_mode(False):  # it is kept: a later training could not differentiate through it
        parts = []
        for path in block.paths:
            l2, l3 = path.harmonic, path.degree
            part = torch.zeros((filter_degree + 1) ** 2, 2 * block.degree + 1, 2 * l3 + 1, dtype=torch.float64)
            symbol = o3.wigner_3j(block.degree, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
            part[l2**2 : (l2 + 1) ** 2] = symbol.transpose(0, 1)
            parts.append(part)
        return torch.cat(parts, dim=2).to(dtype).to(device)
