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

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from e3nn import o3
from e3nn.math import normalize2mom
from e3nn.nn import FullyConnectedNet
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo.api import Block, ConvolutionEdges, TensorProductPath, convolve, polynomial_envelope


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


def paths(l1: int, filter_degree: int, degree_out: int) -> tuple[TensorProductPath, ...]:
    """All with l2 ≤ filter_degree, l3 ≤ degree_out and |l1 - l2| ≤ l3 ≤ l1 + l2, in the checkpoints' order."""
    return tuple(
        TensorProductPath(l2, l3, into=l3)
        for l2 in range(filter_degree + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, degree_out) + 1)
    )


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

    def forward(self, features: Sequence[Tensor], scales: Sequence[Tensor] | None = None) -> list[Tensor]:
        """(N, 2l+1, I, C_in) for each l -> (N, 2l+1, I, C_out).

        `scales`, (I, C_in) for each l, multiply what comes in; they are put into the weights, which are far fewer.
        """
        weights = self.weight.split([a * b for a, b in self.shapes])
        out = []
        for degree, (x, w, (a, b)) in enumerate(zip(features, weights, self.shapes, strict=False)):
            matrix = w.view(a, b) / a**0.5
            if scales is None:
                out.append(x @ matrix)
            else:
                scaled = scales[degree].unsqueeze(-1) * matrix
                images = x.expand(-1, -1, len(scaled), -1).unbind(2)
                out.append(torch.stack([i @ m for i, m in zip(images, scaled, strict=True)], dim=2))
        if self.bias is not None:
            out[0] = out[0] + self.bias
        return out


class Convolution(nn.Module):
    """Sum over the neighbours of radial weight × (feature ⊗ spherical harmonic), channel by channel.

    Attributes:
        channels_out: of each degree.
        odd: for each degree, which of these are made along odd paths.
    """

    denominator: Tensor

    def __init__(
        self, channels: Sequence[int], filter_degree: int, degree_out: int, architecture: Architecture
    ) -> None:
        super().__init__()
        self.blocks = [Block(l1, c, paths(l1, filter_degree, degree_out)) for l1, c in enumerate(channels)]
        self.images = 1 if len(channels) == 1 else 2  # a scalar has no odd path
        self.odd = [
            [
                (block.degree + path.harmonic + path.degree) % 2 == 1
                for block in self.blocks
                for path in block.paths
                if path.degree == degree
                for _ in range(block.channels)
            ]
            for degree in range(degree_out + 1)
        ]
        self.channels_out = tuple(len(channels) for channels in self.odd)
        self.weights = FullyConnectedNet([*architecture.radial, sum(block.weights for block in self.blocks)], silu)
        self.register_buffer("denominator", torch.full((1,), architecture.neighbours))

    def forward(self, features: Sequence[Tensor], edges: ConvolutionEdges) -> list[Tensor]:
        """(N, 2l+1, I, C) for each l -> the same with all paths to l side by side in the channels.

        Odd paths still want their sign in the mirror image, and all sums their denominator: see `scale`.
        """
        return convolve(features, self.blocks, edges, self.weights)

    def scale(self, degree: int, mirror: bool) -> Tensor:
        """(I, C): what the sums of one degree are to be multiplied with; I = 1 without the mirror image."""
        even = self.denominator.reciprocal().expand(self.channels_out[degree])
        if not mirror or self.images == 1:
            return even.unsqueeze(0)
        odd = torch.tensor(self.odd[degree], device=even.device)
        return torch.stack([even, torch.where(odd, -even, even)])


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

    def forward(self, features: Sequence[Tensor], edges: ConvolutionEdges, mirror: bool = True) -> list[Tensor]:
        """(N, 2l+1, I, C_in) for each l -> (N, 2l+1, I, C_out)."""
        own = self.self_connection(features)
        scales = [self.convolution.scale(degree, mirror) for degree in range(len(self.convolution.channels_out))]
        x = self.linear_2(self.convolution(self.linear_1(features), edges), scales)
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

    def forward(
        self,
        species: Tensor,
        src: Tensor,
        dst: Tensor,
        vectors: Tensor,
        mirror: bool = True,
    ) -> list[list[Tensor]]:
        """Features after each layer; image 0 is the crystal's, image 1 (where it differs) the mirror image's.

        Args:
            species: (N,) int64, index of the species of each atom.
            src: (E,) int64.
            dst: (E,) int64.
            vectors: (E, 3) Å, from dst to src.
            mirror: compute the mirror image too.
        """
        length = vectors.norm(dim=-1)
        radial = self.radial_basis(length)
        edges = ConvolutionEdges(src, dst, self.harmonics(vectors), radial, len(species), length)
        features = [self.embedding[species][:, None, None, :]]
        out = []
        for layer in self.layers:
            features = layer(features, edges, mirror)
            out.append(features)
        return out
