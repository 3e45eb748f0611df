"""MACE: Batatia et al., NeurIPS 2022, as the published universal potentials use it.

Every irrep has its natural parity, (-1)^l, so the degree names it. Features are lists over the degree of tensors
(N, 2l+1, C). Parameters are named and laid out as in mace's own files.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo_mace.architecture import Architecture
from zoo_mace.product import Product
from zoo_mace.radial import RadialBasis

# Edges whose messages are made at a time on a CPU: few enough to stay in its cache.
CHUNK = 256

Path = tuple[int, int, int]


def paths(degree_in: int, degree: int) -> tuple[Path, ...]:
    """All (l1, l2, l3) of feature, harmonic and message with natural parity, in the order of mace's weights."""
    found = [
        (l1, l2, l3)
        for l1 in range(degree_in + 1)
        for l2 in range(degree + 1)
        for l3 in range(abs(l1 - l2), min(l1 + l2, degree) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]
    return tuple(sorted(found, key=lambda path: path[2]))


@functools.lru_cache(maxsize=32)
def _coupling(degree_in: int, degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Spherical harmonics -> the matrices that couple features with them, ((L+1)^2, K (l+1)^2), K = Σ 2l3+1."""
    with torch.inference_mode(False):  # it is kept: a later training could not differentiate through it
        blocks = []
        for l1, l2, l3 in paths(degree_in, degree):
            block = torch.zeros((degree + 1) ** 2, 2 * l3 + 1, (degree_in + 1) ** 2, dtype=torch.float64)
            symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5
            block[l2**2 : (l2 + 1) ** 2, :, l1**2 : (l1 + 1) ** 2] = symbol.permute(1, 2, 0)
            blocks.append(block)
        return torch.cat(blocks, dim=1).flatten(1).to(dtype).to(device)


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
        self.paths = paths(self.degree_in, self.degree)
        found = [sum(l3 == degree for *_, l3 in self.paths) for degree in range(self.degree + 1)]
        self.linear_up = Linear([channels] * (self.degree_in + 1), channels)
        self.conv_tp_weights = FullyConnectedNet([*architecture.radial, len(self.paths) * channels], silu)
        self.linear = Linear([count * channels for count in found], channels)
        mapped = min(self.degree_in, layer.degree) if layer.residual else self.degree
        self.skip_tp = ElementLinear(mapped, channels, elements)
        self.density_fn = FullyConnectedNet([architecture.radial[0], 1], silu) if layer.density else None

    def forward(
        self,
        features: Sequence[Tensor],
        species: Tensor,
        src: Tensor,
        dst: Tensor,
        harmonics: Tensor,
        radial: Tensor,
        envelope: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Features (N, 2l+1, C) for each l -> A likewise, and what is to be added after the product.

        Args:
            features: of the layer before.
            species: (N,) element of each atom, its index.
            src: (E,) messages come from these atoms
            dst: (E,) and go to these.
            harmonics: (E, (L+1)^2).
            radial: (E, R).
            envelope: (E, 1) to multiply the radial weights with, or None where `radial` has it.
        """
        own = self.skip_tp(features[: self.skip_tp.shape[0]], species) if self.residual else []
        sent = torch.cat(self.linear_up(features), dim=1)
        total = self._messages(sent, src, dst, harmonics, radial, envelope)
        basis = self.linear(self._by_degree(total))
        if self.density_fn is None:
            basis = [x / self.neighbours for x in basis]
        else:
            density = torch.tanh(self.density_fn(radial) ** 2)
            density = density if envelope is None else density * envelope
            around = density.new_zeros(len(sent), 1).index_add(0, dst, density)
            basis = [x / (around + 1).unsqueeze(-1) for x in basis]
        return (basis, own) if self.residual else (self.skip_tp(basis, species), [])

    def _messages(
        self, sent: Tensor, src: Tensor, dst: Tensor, harmonics: Tensor, radial: Tensor, envelope: Tensor | None
    ) -> Tensor:
        """Σ over the neighbours of radial weight × (feature ⊗ harmonic), (N, K, C), path after path."""
        sizes = [2 * l3 + 1 for *_, l3 in self.paths]
        coupling = _coupling(self.degree_in, self.degree, sent.dtype, sent.device)
        each = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(sent.device)
        total = sent.new_zeros(len(sent), sum(sizes), self.channels)
        chunk = CHUNK if src.device.type == "cpu" else max(len(src), 1)
        for some in torch.arange(len(src), device=src.device).split(chunk):
            weights = self.conv_tp_weights(radial[some])
            weights = weights if envelope is None else weights * envelope[some]
            matrices = (harmonics[some] @ coupling).view(len(some), sum(sizes), sent.shape[1])
            messages = torch.bmm(matrices, sent[src[some]])
            messages = messages * weights.view(len(some), len(sizes), self.channels)[:, each]
            total.index_add_(0, dst[some], messages)
        return total

    def _by_degree(self, total: Tensor) -> list[Tensor]:
        """(N, K, C) -> for each degree (N, 2l+1, paths · C)."""
        out = []
        counts = [sum(l3 == degree for *_, l3 in self.paths) for degree in range(self.degree + 1)]
        blocks = total.split([count * (2 * degree + 1) for degree, count in enumerate(counts)], dim=1)
        for degree, (count, block) in enumerate(zip(counts, blocks, strict=True)):
            block = block.unflatten(1, (count, 2 * degree + 1))
            out.append(block.transpose(1, 2).flatten(2))
        return out


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
        envelope: Tensor | None = self.radial_basis.envelope(distance)
        if self.envelope_on == "basis":
            radial, envelope = radial * envelope, None
        features = [self.node_embedding[species].unsqueeze(1) / len(self.node_embedding) ** 0.5]
        out, bases = [], []
        for interaction, product in zip(self.interactions, self.products, strict=True):
            basis, own = interaction(features, species, src, dst, harmonics, radial, envelope)
            features = product(basis, species, own)
            out.append(features)
            bases.append(basis)
        return out, bases
