"""MACE: Batatia et al., NeurIPS 2022, as the published universal potentials use it.

Every irrep has its natural parity, (-1)^l, so the degree names it. Features are lists over the degree of tensors
(N, 2l+1, C). Parameters are named and laid out as in mace's own files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo.api import Block, ConvolutionEdges, TensorProductPath, convolve
from zoo_mace.architecture import Architecture
from zoo_mace.product import Product
from zoo_mace.radial import RadialBasis


def paths(degree_in: int, degree: int) -> list[tuple[int, int, int]]:
    """All (l1, l2, l3) of feature, harmonic and message with natural parity, in the order of mace's weights."""
    found = [
        (l1, l2, l3)
        for l1 in range(degree_in + 1)
        for l2 in range(degree + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, degree) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]
    return sorted(found, key=lambda path: path[2])


class RadialNetwork(FullyConnectedNet):
    """The radial network of mace, its weights multiplied by the envelope and in the order of the zoo's convolution.

    Args:
        radial: sizes up to the last hidden layer.
        paths: in mace's order, sorted by what is made; the convolution takes what enters one after another.
        channels: C.
    """

    def __init__(self, radial: Sequence[int], paths: Sequence[tuple[int, int, int]], channels: int) -> None:
        super().__init__([*radial, len(paths) * channels], silu)
        self.order = sorted(range(len(paths)), key=lambda number: paths[number][0])

    def forward(self, radial: Tensor) -> Tensor:
        """(u, R + 1), the last the envelope -> (u, paths · C)."""
        weights = super().forward(radial[:, :-1]).unflatten(1, (len(self.order), -1))[:, self.order]
        return weights.flatten(1) * radial[:, -1:]


class Linear(nn.Module):
    """Channels mixed within each degree, by one flat parameter; no bias."""

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.inputs = list(inputs)
        self.channels = channels
        self.weight = nn.Parameter(torch.randn(sum(inputs) * channels))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(N, 2l+1, inputs[l]) for each l -> (N, 2l+1, C)."""
        weights = self.weight.split([count * self.channels for count in self.inputs])
        return [x @ w.view(x.shape[-1], -1) / x.shape[-1] ** 0.5 for x, w in zip(features, weights, strict=True)]


class ElementLinear(nn.Module):
    """Channels mixed within each degree by a matrix of the atom's element."""

    def __init__(self, degree: int, channels: int, elements: int) -> None:
        super().__init__()
        self.shape = (degree + 1, channels, elements, channels)
        self.weight = nn.Parameter(torch.randn((degree + 1) * channels * elements * channels))

    def forward(self, features: Sequence[Tensor], species: Tensor) -> list[Tensor]:
        """(N, 2l+1, C) for each l -> the same."""
        _, channels, elements, _ = self.shape
        matrices = self.weight.view(self.shape).permute(0, 2, 1, 3) / (channels * elements) ** 0.5
        out = [torch.zeros_like(x) for x in features]
        for element in species.unique().tolist():
            rows = (species == element).nonzero().flatten()
            out = [y.index_add(0, rows, x[rows] @ m[element]) for y, x, m in zip(out, features, matrices, strict=False)]
        return out


class Interaction(nn.Module):
    """Messages from the neighbours: the atomic basis A."""

    def __init__(self, architecture: Architecture, number: int) -> None:
        super().__init__()
        layer, channels = architecture.layers[number], architecture.channels
        elements = len(architecture.elements)
        self.degree_in, self.degree = architecture.degree_into(number), architecture.degree
        self.channels = channels
        self.residual = layer.residual
        self.neighbours = layer.neighbours
        found = paths(self.degree_in, self.degree)
        self.blocks = [
            Block(degree, channels, tuple(TensorProductPath(l2, l3, into=l3) for l1, l2, l3 in found if l1 == degree))
            for degree in range(self.degree_in + 1)
        ]
        self.conv_tp_weights = RadialNetwork(architecture.radial, found, channels)
        self.linear_up = Linear([channels] * (self.degree_in + 1), channels)
        counts = [sum(l3 == degree for *_, l3 in found) for degree in range(self.degree + 1)]
        self.linear = Linear([count * channels for count in counts], channels)
        mapped = min(self.degree_in, layer.degree) if layer.residual else self.degree
        self.skip_tp = ElementLinear(mapped, channels, elements)
        self.density_fn = FullyConnectedNet([architecture.radial[0], 1], silu) if layer.density else None

    def forward(
        self,
        features: Sequence[Tensor],
        species: Tensor,
        edges: ConvolutionEdges,
        dst: Tensor,
        around: Tensor,
        envelope: Tensor,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Features (N, 2l+1, C) for each l -> A likewise, and what is to be added after the product.

        Args:
            features: of the layer before.
            species: (N,) element of each atom, its index.
            edges: their radial inputs are (U, R + 1), see `RadialNetwork`.
            dst: (E,) the atom that each edge goes to.
            around: (E, R), the radial basis of each edge.
            envelope: (E, 1) that multiplies the density, one where `around` has it.
        """
        own = self.skip_tp(features[: self.skip_tp.shape[0]], species) if self.residual else []
        basis = self.linear(convolve(self.linear_up(features), self.blocks, edges, self.conv_tp_weights))
        if self.density_fn is None:
            basis = [x / self.neighbours for x in basis]
        else:
            density = torch.tanh(self.density_fn(around) ** 2) * envelope
            total = density.new_zeros(len(species), 1).index_add(0, dst, density)
            basis = [x / (total + 1).unsqueeze(-1) for x in basis]
        return (basis, own) if self.residual else (self.skip_tp(basis, species), [])


class EquivariantProduct(nn.Module):
    """Products of the atomic basis, mixed."""

    def __init__(self, architecture: Architecture, number: int) -> None:
        super().__init__()
        layer, channels = architecture.layers[number], architecture.channels
        variables = (architecture.degree + 1) ** 2
        self.symmetric_contractions = Product(len(architecture.elements), channels, variables, layer.paths)
        self.linear = Linear([channels] * (layer.degree + 1), channels)

    def forward(self, basis: Sequence[Tensor], species: Tensor, own: Sequence[Tensor]) -> list[Tensor]:
        """A -> the features of the layer."""
        made = self.linear(self.symmetric_contractions(torch.cat(list(basis), dim=1), species))
        return [x + own[degree] if degree < len(own) else x for degree, x in enumerate(made)]


class Network(nn.Module):
    """Element embedding and the first layers."""

    def __init__(self, architecture: Architecture, layers: int) -> None:
        super().__init__()
        self.degree = architecture.degree
        self.envelope_on = architecture.envelope_on
        elements = len(architecture.elements)
        self.node_embedding = nn.Parameter(torch.randn(elements, architecture.channels))
        self.radial_basis = RadialBasis(architecture)
        self.interactions = nn.ModuleList(Interaction(architecture, t) for t in range(layers))
        self.products = nn.ModuleList(EquivariantProduct(architecture, t) for t in range(layers))

    def forward(
        self, numbers: Tensor, species: Tensor, src: Tensor, dst: Tensor, vectors: Tensor
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Features h and atomic basis A after each layer: lists over l of (N, 2l+1, C).

        Args:
            numbers: (N,) atomic numbers.
            species: (N,) the index of each atom's element.
            src: (E,) int64.
            dst: (E,) int64.
            vectors: (E, 3) Å, from src to dst: mace's direction.
        """
        degrees = list(range(self.degree + 1))
        harmonics = o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")
        distance = vectors.norm(dim=-1)
        radial = self.radial_basis(distance, numbers[src], numbers[dst])
        envelope = self.radial_basis.envelope(distance)
        if self.envelope_on == "basis":
            radial, envelope = radial * envelope, torch.ones_like(envelope)
        # The basis may depend on the elements too.
        kinds = numbers[src] * 119 + numbers[dst]
        inputs = torch.cat([radial, envelope], dim=1)
        edges = ConvolutionEdges(src, dst, harmonics, inputs, len(numbers), distance, kinds)
        features = [self.node_embedding[species].unsqueeze(1) / len(self.node_embedding) ** 0.5]
        out, bases = [], []
        for interaction, product in zip(self.interactions, self.products, strict=True):
            basis, own = interaction(features, species, edges, dst, radial, envelope)
            features = product(basis, species, own)
            out.append(features)
            bases.append(basis)
        return out, bases
