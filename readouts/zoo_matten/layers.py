"""Layers that act on the channels of each irrep.

Letters: N atoms, C channels. Features are a dict from the name of an irrep ("1o") to (N, 2l+1, C): components before
channels, so a linear map without bias acts on channels alone and is equivariant. Irreps in e3nn's real basis.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

import torch
from e3nn import o3
from torch import Tensor, nn

from zoo_matten.paths import Path, paths

Channels = dict[str, int]
ByIrrep = dict[str, Tensor]


@functools.lru_cache(maxsize=256)
def _coupling(left: int, right: int, made: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2l1+1, 2l2+1, 2l3+1) such that components of variance one make components of variance one."""
    # Made outside of inference mode, for it is kept: a later training could not differentiate through it.
    with torch.inference_mode(False):
        basis = o3.wigner_3j(left, right, made, dtype=torch.float64) * (2 * made + 1) ** 0.5
        return basis.to(dtype=dtype, device=device)


class Mix(nn.Module):
    """A linear map of the channels of each irrep; with bias where it is invariant."""

    def __init__(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        super().__init__()
        shared = [irrep for irrep in outputs if irrep in inputs]
        self.maps = nn.ModuleDict({i: nn.Linear(inputs[i], outputs[i], bias=i == "0e") for i in shared})

    def forward(self, x: ByIrrep) -> ByIrrep:
        """The irreps that inputs and outputs share."""
        return {irrep: linear(x[irrep]) for irrep, linear in self.maps.items()}


class Product(nn.Module):
    """Two mixtures of the features multiplied channel by channel, along every path to a wanted irrep.

    The two differ, so that an antisymmetric product (1o × 1o -> 1e) does not vanish. A linear map behind it makes it
    as general as a fully connected product of bounded rank.
    """

    def __init__(self, inputs: Mapping[str, int], wanted: Collection[str], width: int) -> None:
        super().__init__()
        self.paths: list[Path] = paths(map(o3.Irrep, inputs), map(o3.Irrep, wanted))
        self.left = Mix(inputs, {str(path[0]): width for path in self.paths})
        self.right = Mix(inputs, {str(path[1]): width for path in self.paths})
        self.channels: Channels = {}
        for *_, made in self.paths:
            self.channels[str(made)] = self.channels.get(str(made), 0) + width

    def forward(self, x: ByIrrep) -> ByIrrep:
        """(N, 2l+1, paths × width) for each irrep that some path leads to."""
        left, right = self.left(x), self.right(x)
        made: dict[str, list[Tensor]] = {}
        for a, b, c in self.paths:
            u, v = left[str(a)], right[str(b)]
            coupling = _coupling(a.l, b.l, c.l, u.dtype, u.device)
            made.setdefault(str(c), []).append(torch.einsum("nic,njc,ijk->nkc", u, v, coupling))
        return {irrep: torch.cat(parts, dim=-1) for irrep, parts in made.items()}


class Multiply(nn.Module):
    """Features to features: a linear map of them, plus one of their products with themselves."""

    def __init__(self, inputs: Mapping[str, int], outputs: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.product = Product(inputs, outputs, width)
        self.handed_on = Mix(inputs, outputs)
        self.made = Mix(self.product.channels, outputs)

    def forward(self, x: ByIrrep) -> ByIrrep:
        """Map to the numbers of channels of each irrep that the outputs have."""
        handed_on, made = self.handed_on(x), self.made(self.product(x))
        return {i: handed_on[i] + made[i] if i in handed_on and i in made else {**handed_on, **made}[i]
                for i in {**handed_on, **made}}  # fmt: skip


class Gate(nn.Module):
    """SiLU of the invariants; every channel of the others times a sigmoid of an invariant of its own.

    Args:
        channels: of each irrep behind the gate.
        dropout: share of the invariants dropped in training.
    """

    def __init__(self, channels: Mapping[str, int], dropout: float) -> None:
        super().__init__()
        self.channels = dict(channels)
        self.gated = [irrep for irrep in channels if irrep != "0e"]
        self.dropout = nn.Dropout(dropout)

    @property
    def inputs(self) -> Channels:
        """Channels of each irrep before the gate: the gates are among the invariants."""
        return self.channels | {"0e": sum(self.channels.values())}

    def forward(self, x: ByIrrep) -> ByIrrep:
        """From `inputs` to `channels`."""
        kept, *gates = x["0e"].split([self.channels[i] for i in ["0e", *self.gated]], dim=-1)
        out = {"0e": self.dropout(nn.functional.silu(kept))}
        return out | {i: x[i] * torch.sigmoid(gate) for i, gate in zip(self.gated, gates, strict=True)}
