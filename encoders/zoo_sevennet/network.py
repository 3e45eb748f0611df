"""The interaction layers of SevenNet, run on a crystal and on its mirror image at once.

SevenNet is NequIP's architecture (Batzner et al., Nat. Commun. 13, 2453 (2022)) with SO(3) features: Park et al.,
J. Chem. Theory Comput. 20, 4857 (2024). A path (l1, l2 -> l3) of the convolution with l1 + l2 + l3 odd makes a
pseudotensor of tensors; this is all that tells a crystal from its inverted image. With f_l(x) the features of a
crystal, the *mirror features* (-1)^l f_l(-x) therefore follow from the same edges and the same weights when the odd
paths change sign, and one pass gives both. Until the first odd path the two are equal, and only one is computed.

Features are lists over the degree l of tensors (N, 2l+1, I, C): I = 1 or 2 images, C channels. Channels last makes
every linear map one matrix product, and a message one small matrix product an edge.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from e3nn import o3
from e3nn.math import normalize2mom
from e3nn.nn import FullyConnectedNet
from torch import Tensor, nn
from torch.nn.functional import silu

# Edges whose messages are made at a time on a CPU: few enough to stay in its cache, twice as fast as all at once.
CHUNK = 256

Path = tuple[int, int]


def paths(l1: int, filter_degree: int, degree_out: int) -> list[Path]:
    """All (l2, l3) with l2 ≤ filter_degree, l3 ≤ degree_out and |l1 - l2| ≤ l3 ≤ l1 + l2, in the checkpoints' order."""
    return [(l2, l3) for l2 in range(filter_degree + 1) for l3 in range(abs(l1 - l2), min(l1 + l2, degree_out) + 1)]


@functools.lru_cache(maxsize=64)
def _coupling(
    l1: int, l1_paths: tuple[Path, ...], filter_degree: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Spherical harmonics -> the matrices that couple degree l1 with them, ((L+1)^2, K (2l1+1)), K = sum of 2l3+1."""
    blocks = []
    for l2, l3 in l1_paths:
        block = torch.zeros((filter_degree + 1) ** 2, 2 * l3 + 1, 2 * l1 + 1, dtype=torch.float64)
        symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
        block[l2**2 : (l2 + 1) ** 2] = symbol.permute(1, 2, 0)
        blocks.append(block)
    return torch.cat(blocks, dim=1).flatten(1).to(dtype).to(device)


class RadialBasis(nn.Module):
    """sin(k_n r) / r, k_n trained, × the XPLOR switching function: 1 up to `switch_on`, 0 from the cutoff on (Å)."""

    frequencies: Tensor

    def __init__(self, count: int, cutoff: float, switch_on: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.switch_on = switch_on
        self.register_buffer("frequencies", torch.empty(count))

    def forward(self, distance: Tensor) -> Tensor:
        """(E,) Å -> (E, count)."""
        r = distance.unsqueeze(-1)
        basis = 2 / self.cutoff * torch.sin(self.frequencies * r) / r
        on, off, r2 = self.switch_on**2, self.cutoff**2, r * r
        switch = (off - r2) ** 2 * (off + 2 * r2 - 3 * on) / (off - on) ** 3
        envelope = torch.where(r < self.switch_on, torch.ones_like(r), switch)
        return basis * torch.where(r < self.cutoff, envelope, torch.zeros_like(r))


class Linear(nn.Module):
    """Channels mixed within each degree, by one flat parameter as e3nn's `Linear` has it; no bias."""

    def __init__(self, channels_in: Sequence[int], channels_out: Sequence[int]) -> None:
        super().__init__()
        self.shapes = list(zip(channels_in, channels_out, strict=False))  # degrees that both have
        self.weight = nn.Parameter(torch.randn(sum(a * b for a, b in self.shapes)))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(N, 2l+1, I, C_in) for each l -> (N, 2l+1, I, C_out)."""
        weights = self.weight.split([a * b for a, b in self.shapes])
        return [x @ w.view(a, b) / a**0.5 for x, w, (a, b) in zip(features, weights, self.shapes, strict=False)]


class Convolution(nn.Module):
    """Sum over the neighbours of radial weight × (feature ⊗ spherical harmonic), channel by channel."""

    denominator: Tensor

    def __init__(self, channels: Sequence[int], filter_degree: int, degree_out: int, radial: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.filter_degree = filter_degree
        self.paths = [tuple(paths(l1, filter_degree, degree_out)) for l1 in range(len(channels))]
        self.images = 1 if len(channels) == 1 else 2  # a scalar has no odd path
        self.channels_out = tuple(
            sum(c for c, ps in zip(channels, self.paths, strict=True) for _, l3 in ps if l3 == degree)
            for degree in range(degree_out + 1)
        )
        sizes = [c * len(ps) for c, ps in zip(channels, self.paths, strict=True)]
        self.weights = FullyConnectedNet([*radial, sum(sizes)], silu)
        self.register_buffer("denominator", torch.ones(1))

    def _messages(self, x: Tensor, l1: int, harmonics: Tensor, weights: Tensor) -> Tensor:
        """What flows along e edges from features of degree l1, (e, 2l1+1, I, C) -> (e, K, I, C)."""
        edges, components, images, channels = x.shape
        sizes = [2 * l3 + 1 for _, l3 in self.paths[l1]]
        coupling = _coupling(l1, self.paths[l1], self.filter_degree, x.dtype, x.device)
        matrices = (harmonics @ coupling).view(edges, sum(sizes), components)
        coupled = torch.bmm(matrices, x.view(edges, components, images * channels))
        parts = coupled.view(edges, sum(sizes), images, channels).split(sizes, dim=1)
        weights = weights.reshape(edges, len(sizes), 1, 1, channels)
        return torch.cat([part * weights[:, p] for p, part in enumerate(parts)], dim=1)

    def forward(
        self, features: Sequence[Tensor], src: Tensor, dst: Tensor, harmonics: Tensor, radial: Tensor
    ) -> list[Tensor]:
        """(N, 2l+1, I, C) for each l -> the same with all paths to l side by side in the channels.

        `harmonics` are (E, (L+1)^2), `radial` is (E, R).
        """
        sums = [
            x.new_zeros(len(x), sum(2 * l3 + 1 for _, l3 in ps), *x.shape[2:])
            for x, ps in zip(features, self.paths, strict=True)
        ]
        sizes = [c * len(ps) for c, ps in zip(self.channels, self.paths, strict=True)]
        chunk = CHUNK if src.device.type == "cpu" else max(len(src), 1)
        chunks = zip(*(t.split(chunk) for t in (src, dst, harmonics, radial)), strict=True)
        for chunk_src, chunk_dst, chunk_harmonics, chunk_radial in chunks:
            weights = self.weights(chunk_radial).split(sizes, dim=1)
            for l1, (x, w) in enumerate(zip(features, weights, strict=True)):
                messages = self._messages(x.index_select(0, chunk_src), l1, chunk_harmonics, w)
                sums[l1].index_add_(0, chunk_dst, messages)
        return self._by_degree(sums)

    def _by_degree(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """Sort the paths by what they make; give the odd ones their sign in the mirror image."""
        out: list[list[Tensor]] = [[] for _ in self.channels_out]
        for l1, (total, ps) in enumerate(zip(sums, self.paths, strict=True)):
            for (l2, l3), part in zip(ps, total.split([2 * l3 + 1 for _, l3 in ps], dim=1), strict=True):
                sign = part.new_tensor([1, (-1) ** (l1 + l2 + l3)][: self.images])
                out[l3].append(part * sign.unsqueeze(-1))
        return [torch.cat(parts, dim=-1) / self.denominator for parts in out]


class Interaction(nn.Module):
    """One interaction layer: linear, convolution, linear, plus self-connection, gate."""

    def __init__(
        self, channels_in: Sequence[int], channels_out: Sequence[int], filter_degree: int, radial: Sequence[int]
    ) -> None:
        super().__init__()
        self.scalars, *self.gated = channels_out
        before_gate = [sum(channels_out), *self.gated]  # one gate for each channel that is no scalar
        self.self_connection = Linear(channels_in, before_gate)
        self.linear_1 = Linear(channels_in, channels_in)
        self.convolution = Convolution(channels_in, filter_degree, len(channels_out) - 1, radial)
        self.linear_2 = Linear(self.convolution.channels_out, before_gate)
        self.activation = normalize2mom(silu)

    def forward(
        self, features: Sequence[Tensor], src: Tensor, dst: Tensor, harmonics: Tensor, radial: Tensor
    ) -> list[Tensor]:
        """(N, 2l+1, I, C_in) for each l -> (N, 2l+1, I, C_out)."""
        own = self.self_connection(features)
        x = self.linear_2(self.convolution(self.linear_1(features), src, dst, harmonics, radial))
        x = [x_l + own[degree] if degree < len(own) else x_l for degree, x_l in enumerate(x)]
        scalars, *gates = self.activation(x[0]).split([self.scalars, *self.gated], dim=-1)
        return [scalars, *(gate * x_l for gate, x_l in zip(gates, x[1:], strict=True))]


class Network(nn.Module):
    """Species embedding and the first interaction layers.

    Args:
        species: number of chemical species.
        channels: channels of degree 0, 1, ... after each layer to be built.
        radial: sizes of the radial network: basis functions, hidden neurons.
        cutoff, switch_on: Å.
    """

    def __init__(
        self,
        species: int,
        channels: Sequence[Sequence[int]],
        radial: Sequence[int],
        cutoff: float,
        switch_on: float,
    ) -> None:
        super().__init__()
        self.filter_degree = max(len(c) for c in channels) - 1
        self.embedding = nn.Parameter(torch.randn(species, channels[0][0]))
        self.radial_basis = RadialBasis(radial[0], cutoff, switch_on)
        inputs = [channels[0][:1], *channels[:-1]]
        self.layers = nn.ModuleList(
            Interaction(a, b, self.filter_degree, radial) for a, b in zip(inputs, channels, strict=True)
        )

    def harmonics(self, vectors: Tensor) -> Tensor:
        """(E, 3) Å -> (E, (L+1)^2): component-normalised real spherical harmonics of the directions."""
        degrees = list(range(self.filter_degree + 1))
        return o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")

    def forward(self, species: Tensor, src: Tensor, dst: Tensor, vectors: Tensor) -> list[list[Tensor]]:
        """Features after each layer; image 0 is the crystal's, image 1 (where it differs) the mirror image's.

        Args:
            species: (N,) int64, index of the species of each atom.
            src: (E,) int64.
            dst: (E,) int64.
            vectors: (E, 3) Å, from dst to src.
        """
        harmonics = self.harmonics(vectors)
        radial = self.radial_basis(vectors.norm(dim=-1))
        embedded = self.embedding[species] / len(self.embedding) ** 0.5
        features = [embedded[:, None, None, :]]
        out = []
        for layer in self.layers:
            features = layer(features, src, dst, harmonics, radial)
            out.append(features)
        return out
