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
from dataclasses import dataclass

import torch
from e3nn import o3
from e3nn.math import normalize2mom
from e3nn.nn import FullyConnectedNet
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo.api import polynomial_envelope

# Edges whose messages are made at a time on a CPU: few enough to stay in its cache, twice as fast as all at once.
CHUNK = 256

Path = tuple[int, int]


@dataclass(frozen=True)
class Architecture:
    """All that fixes the network but its weights.

    Attributes:
        channels: channels of degree 0, 1, 2, ... after each interaction layer.
        switch_on: Å, from where on the XPLOR function switches off what flows along an edge; None: the polynomial
            envelope does, from zero on.
        neighbours: a typical number of neighbours, which the trained networks divide sums over neighbours by.
        cutoff: Å.
        radial: sizes of the radial network: basis functions, hidden neurons.
        solid: spherical harmonics of edge vectors in Å, r^l Y_l, rather than of their directions.
        biased: the linear maps around the convolution have a bias of the scalars.
    """

    channels: tuple[tuple[int, ...], ...]
    switch_on: float | None
    neighbours: float
    cutoff: float = 5.0
    radial: tuple[int, ...] = (8, 64, 64)
    solid: bool = False
    biased: bool = False


def paths(l1: int, filter_degree: int, degree_out: int) -> list[Path]:
    """All (l2, l3) with l2 ≤ filter_degree, l3 ≤ degree_out and |l1 - l2| ≤ l3 ≤ l1 + l2, in the checkpoints' order."""
    return [(l2, l3) for l2 in range(filter_degree + 1) for l3 in range(abs(l1 - l2), min(l1 + l2, degree_out) + 1)]


@functools.lru_cache(maxsize=64)
def _coupling(
    l1: int, l1_paths: tuple[Path, ...], filter_degree: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Spherical harmonics -> the matrices that couple degree l1 with them, ((L+1)^2, K (2l1+1)), K = sum of 2l3+1."""
    with torch.inference_mode(False):  # it is kept: a later training could not differentiate through it
        blocks = []
        for l2, l3 in l1_paths:
            block = torch.zeros((filter_degree + 1) ** 2, 2 * l3 + 1, 2 * l1 + 1, dtype=torch.float64)
            symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
            block[l2**2 : (l2 + 1) ** 2] = symbol.permute(1, 2, 0)
            blocks.append(block)
        return torch.cat(blocks, dim=1).flatten(1).to(dtype).to(device)


class RadialBasis(nn.Module):
    """2/r_c sin(k_n r) / r, k_n trained from nπ/r_c on, × an envelope that is 0 from the cutoff r_c on (Å).

    With `switch_on`, the envelope is XPLOR's switching function, 1 up to there.
    """

    def __init__(self, count: int, cutoff: float, switch_on: float | None) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.switch_on = switch_on
        self.frequencies = nn.Parameter(torch.arange(1, count + 1) * torch.pi / cutoff)

    def forward(self, distance: Tensor) -> Tensor:
        """(E,) Å -> (E, count)."""
        r = distance.unsqueeze(-1)
        return 2 / self.cutoff * torch.sin(self.frequencies * r) / r * self.envelope(r)

    def envelope(self, r: Tensor) -> Tensor:
        """Å -> from 1 to 0, same shape."""
        if self.switch_on is None:
            return polynomial_envelope(r, self.cutoff)
        on, off, r2 = self.switch_on**2, self.cutoff**2, r * r
        switch = (off - r2) ** 2 * (off + 2 * r2 - 3 * on) / (off - on) ** 3
        envelope = torch.where(r < self.switch_on, torch.ones_like(r), switch)
        return torch.where(r < self.cutoff, envelope, torch.zeros_like(r))


class Linear(nn.Module):
    """Channels mixed within each degree, by one flat parameter as e3nn's `Linear` has it.

    Args:
        channels_in: channels of degree 0, 1, ...
        channels_out: the same.
        biased: add a bias to the scalars.
    """

    def __init__(self, channels_in: Sequence[int], channels_out: Sequence[int], biased: bool = False) -> None:
        super().__init__()
        self.shapes = list(zip(channels_in, channels_out, strict=False))  # degrees that both have
        self.weight = nn.Parameter(torch.randn(sum(a * b for a, b in self.shapes)))
        self.bias = nn.Parameter(torch.zeros(channels_out[0])) if biased else None

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(N, 2l+1, I, C_in) for each l -> (N, 2l+1, I, C_out)."""
        weights = self.weight.split([a * b for a, b in self.shapes])
        out = [x @ w.view(a, b) / a**0.5 for x, w, (a, b) in zip(features, weights, self.shapes, strict=False)]
        if self.bias is not None:
            out[0] = out[0] + self.bias
        return out


class Convolution(nn.Module):
    """Sum over the neighbours of radial weight × (feature ⊗ spherical harmonic), channel by channel."""

    denominator: Tensor

    def __init__(
        self, channels: Sequence[int], filter_degree: int, degree_out: int, architecture: Architecture
    ) -> None:
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
        self.weights = FullyConnectedNet([*architecture.radial, sum(sizes)], silu)
        self.register_buffer("denominator", torch.full((1,), architecture.neighbours))

    def _messages(self, x: Tensor, l1: int, harmonics: Tensor, weights: Tensor) -> Tensor:
        """What flows along e edges from features of degree l1, (e, 2l1+1, I, C) -> (e, K, I, C)."""
        edges, components, images, channels = x.shape
        sizes = [2 * l3 + 1 for _, l3 in self.paths[l1]]
        coupling = _coupling(l1, self.paths[l1], self.filter_degree, x.dtype, x.device)
        matrices = (harmonics @ coupling).view(edges, sum(sizes), components)
        coupled = torch.bmm(matrices, x.view(edges, components, images * channels))
        parts = coupled.view(edges, sum(sizes), images, channels).split(sizes, dim=1)
        by_path = weights.reshape(edges, len(sizes), 1, 1, channels).unbind(1)
        return torch.cat([part * weight for part, weight in zip(parts, by_path, strict=True)], dim=1)

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
        self,
        channels_in: Sequence[int],
        channels_out: Sequence[int],
        filter_degree: int,
        architecture: Architecture,
    ) -> None:
        super().__init__()
        self.scalars, *self.gated = channels_out
        before_gate = [sum(channels_out), *self.gated]  # one gate for each channel that is no scalar
        biased = architecture.biased
        self.self_connection = Linear(channels_in, before_gate)
        self.linear_1 = Linear(channels_in, channels_in, biased=biased)
        self.convolution = Convolution(channels_in, filter_degree, len(channels_out) - 1, architecture)
        self.linear_2 = Linear(self.convolution.channels_out, before_gate, biased=biased)
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
    """Species embedding and the first interaction layers, started at random.

    Linear maps and radial networks start as e3nn's do; the embedding of the species and the input of the radial
    networks are scaled up, else scalars would be of order 0.1 and vectors 1e-5, and hardly learn. As it is, on most
    crystals scalars are of order 1, vectors and tensors 0.1, in all layers: as in the first layer of the trained
    networks. Larger ones explode in dense crystals, of 80 neighbours; solid harmonics, larger by r^l, do so anyway.

    Args:
        architecture: of all layers.
        species: number of chemical species.
        layers: how many interaction layers are built.
    """

    def __init__(self, architecture: Architecture, species: int, layers: int) -> None:
        super().__init__()
        channels = architecture.channels[:layers]
        self.filter_degree = max(len(c) for c in channels) - 1
        self.solid = architecture.solid
        self.embedding = nn.Parameter(torch.randn(species, channels[0][0]))
        self.radial_basis = RadialBasis(architecture.radial[0], architecture.cutoff, architecture.switch_on)
        inputs = [channels[0][:1], *channels[:-1]]
        self.layers = nn.ModuleList(
            Interaction(a, b, self.filter_degree, architecture) for a, b in zip(inputs, channels, strict=True)
        )
        self._scale_radial_networks(architecture.cutoff)

    @torch.no_grad()
    def _scale_radial_networks(self, cutoff: float) -> None:
        """Let them see a radial basis of root mean square 0.7 where most neighbours are; that in Å is a tenth of it."""
        distances = torch.linspace(cutoff / 2, cutoff, 101)
        size = self.radial_basis(distances).square().mean().sqrt()
        for layer in self.layers:
            assert isinstance(layer, Interaction)  # for the type checker
            layer.convolution.weights[0].weight.mul_(0.7 / size)

    def harmonics(self, vectors: Tensor) -> Tensor:
        """(E, 3) Å -> (E, (L+1)^2): component-normalised real spherical harmonics."""
        degrees = list(range(self.filter_degree + 1))
        return o3.spherical_harmonics(degrees, vectors, normalize=not self.solid, normalization="component")

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
        features = [self.embedding[species][:, None, None, :]]
        out = []
        for layer in self.layers:
            features = layer(features, src, dst, harmonics, radial)
            out.append(features)
        return out
