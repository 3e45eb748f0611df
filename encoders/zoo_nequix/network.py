"""The interaction layers of Nequix: Koker, Kotak, Smidt, arXiv:2508.16067.

A simplified NequIP (Batzner et al., Nat. Commun. 13, 2453 (2022)) with true tensors alone: 0e, 1o, 2e, ... The maps of
an atom's own features are the same for all elements, and a layer is normalised before its gates.

Features are lists over the degree l of tensors (N, 2l+1, C), channels last, as `convolve` takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from e3nn import o3
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

from zoo.api import Block, ConvolutionEdges, TensorProductPath, bessel_basis, convolve, polynomial_envelope

SILU_GAIN = 1.6765620560798848
"""Makes SiLU of a normal variable one of variance 1, as e3nn-jax does it; e3nn draws a sample, and is off by 0.2 %."""

EPSILON = 1e-12
"""Added to the square of the size by which features are divided."""


class Outline(BaseModel):
    """The part of an architecture that tells what features there are.

    Attributes:
        channels: of degree 0, 1, 2, ... after each layer but the last, which has the scalars alone.
        layers: how many there are.
        radial: sizes of the radial networks: basis functions, hidden neurons.
    """

    model_config = ConfigDict(frozen=True)

    channels: tuple[int, ...]
    layers: int
    radial: tuple[int, ...]

    def after(self, layer: int) -> tuple[int, ...]:
        """Channels of degree 0, 1, ... after the layer, counted from 1."""
        return self.channels if layer < self.layers else self.channels[:1]


class Architecture(Outline):
    """All that fixes the network but its weights.

    Attributes:
        elements: atomic numbers, in the order of the weights.
        cutoff: Å.
        harmonics: highest degree of the spherical harmonics.
        envelope: power p of the polynomial envelope.
        neighbours: a typical number of neighbours; sums over them are divided by its root.
    """

    elements: tuple[int, ...]
    cutoff: float
    harmonics: int
    envelope: int
    neighbours: float

    def blocks(self, layer: int) -> list[Block]:
        """The convolution of a layer, counted from 1: all paths of even l1 + l2 + l3 to the degrees that it gives."""
        before = self.after(layer - 1) if layer > 1 else (len(self.elements),)
        highest = len(self.after(layer)) - 1
        return [
            Block(
                l1,
                channels,
                tuple(
                    TensorProductPath(l2, l3, into=l3)
                    for l2 in range(self.harmonics + 1)
                    for l3 in range(abs(l1 - l2), min(l1 + l2, highest) + 1)
                    if (l1 + l2 + l3) % 2 == 0
                ),
            )
            for l1, channels in enumerate(before)
        ]


class Linear(nn.Module):
    """Channels mixed within each degree.

    Args:
        channels_in: of degree 0, 1, ...
        channels_out: the same; degrees that only one of them has are left out.
    """

    def __init__(self, channels_in: Sequence[int], channels_out: Sequence[int]) -> None:
        super().__init__()
        shapes = zip(channels_in, channels_out, strict=False)
        self.weights = nn.ParameterList(torch.randn(shape) for shape in shapes)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(N, 2l+1, C_in) for each l -> (N, 2l+1, C_out)."""
        return [x @ w / len(w) ** 0.5 for x, w in zip(features, self.weights, strict=False)]


class Normalise(nn.Module):
    """The features of an atom divided by their size, the root of the mean over l of Σ x² / (2l+1)²; × weights.

    The paper speaks of the root mean square. The package sums over the channels instead, and divides by 2l+1 twice, and
    so were the published weights trained.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.ones(count) for count in channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(N, 2l+1, C) for each l -> the same."""
        squares = torch.stack([x.square().sum(dim=(1, 2)) / x.shape[1] ** 2 for x in features], dim=1)
        scale = (squares.mean(dim=1) + EPSILON).rsqrt()[:, None, None]
        return [x * scale * w for x, w in zip(features, self.weights, strict=True)]


class Interaction(nn.Module):
    """One layer, counted from 1: linear, convolution, linear, plus the atom's own features, normalised; then a gate."""

    def __init__(self, architecture: Architecture, layer: int) -> None:
        super().__init__()
        self.blocks = architecture.blocks(layer)
        self.scale = architecture.neighbours**-0.5
        self.scalars, *self.gated = channels = architecture.after(layer)
        before = [block.channels for block in self.blocks]
        summed = [0] * len(channels)
        for block in self.blocks:
            for path in block.paths:
                summed[path.into] += block.channels
        ungated = [sum(channels), *self.gated]  # one gate for each channel that is no scalar
        # In the order in which a published file has them, by which they are known when it is read.
        self.radial = _perceptron([*architecture.radial, sum(block.weights for block in self.blocks)])
        self.linear_1 = Linear(before, before)
        self.linear_2 = Linear(summed, ungated)
        self.skip = Linear(before, ungated)
        self.normalise = Normalise(ungated)

    def forward(self, features: Sequence[Tensor], edges: ConvolutionEdges) -> list[Tensor]:
        """(N, 2l+1, C_in) for each l -> (N, 2l+1, C_out)."""
        own = self.skip(features)
        received = self.linear_2(convolve(self.linear_1(features), self.blocks, edges, self.radial))
        made = [
            x * self.scale + own[degree] if degree < len(own) else x * self.scale for degree, x in enumerate(received)
        ]
        gates, *others = self.normalise(made)
        scalars, *gates = (SILU_GAIN * silu(gates)).split([self.scalars, *self.gated], dim=-1)
        return [scalars, *(gate * x for gate, x in zip(gates, others, strict=True))]


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear maps without bias, so that no radial basis gives no weight; SiLU between them."""
    steps: list[nn.Module] = []
    for a, b in pairwise(widths):
        steps += [nn.Linear(a, b, bias=False), nn.SiLU()]
    return nn.Sequential(*steps[:-1])


class Network(nn.Module):
    """The first interaction layers.

    Args:
        architecture: of all layers.
        layers: how many are built.
    """

    def __init__(self, architecture: Architecture, layers: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.layers = nn.ModuleList(Interaction(architecture, n) for n in range(1, layers + 1))

    def radial_basis(self, distance: Tensor) -> Tensor:
        """(E,) Å -> (E, R): 2/r_c sin(kπ r/r_c) / r × an envelope that is 0 from the cutoff r_c on."""
        cutoff = self.architecture.cutoff
        envelope = (2 / cutoff) ** 0.5 * polynomial_envelope(distance, cutoff, self.architecture.envelope)
        return bessel_basis(distance, cutoff, self.architecture.radial[0]) * envelope.unsqueeze(-1)

    def forward(self, species: Tensor, src: Tensor, dst: Tensor, vectors: Tensor) -> list[list[Tensor]]:
        """Features after each layer.

        Args:
            species: (N,) int64, the place of each atom's element.
            src: (E,) int64.
            dst: (E,) int64.
            vectors: (E, 3) Å, from dst to src.
        """
        degrees = list(range(self.architecture.harmonics + 1))
        harmonics = o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")
        length = vectors.norm(dim=-1)
        edges = ConvolutionEdges(src, dst, harmonics, self.radial_basis(length), len(species), length)
        features = [one_hot(species, len(self.architecture.elements)).to(vectors.dtype).unsqueeze(1)]
        out = []
        for layer in self.layers:
            features = layer(features, edges)
            out.append(features)
        return out
