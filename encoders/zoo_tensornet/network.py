"""TensorNet: Simeon, De Fabritiis, NeurIPS 2023, as matgl builds it.

Every atom carries C general 3×3 matrices X = I + A + S: a multiple of the identity, an antisymmetric and a symmetric
traceless part. Here they are kept as their nine coordinates in an orthonormal basis, (N, 9, C): I, A, S in
this order, so that what acts on the parts, or on the edges, handles no redundant component. A is made of the bonds'
directions, polar vectors: under inversion X becomes its transpose. Sums MY + YM keep to that, so the parts are 0e, 1o
and 2e.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from zoo.api import CrystalBatch, matrix_to_spherical
from zoo_tensornet.radial import cosine_envelope

SIZES = (1, 3, 5)
# Edges whose messages are made at a time on a CPU: few enough to stay in its cache.
CHUNK = 512


def to_parts(matrices: Tensor) -> Tensor:
    """(N, 3, 3, C) -> (N, 9, C), an isometry."""
    return torch.einsum("nijc,ijm->nmc", matrices, _basis(matrices))


def to_matrices(parts: Tensor) -> Tensor:
    """The inverse of `to_parts`."""
    return torch.einsum("nmc,ijm->nijc", parts, _basis(parts))


def _basis(like: Tensor) -> Tensor:
    unit = torch.eye(9, dtype=like.dtype, device=like.device).reshape(3, 3, 3, 3)
    return torch.cat([matrix_to_spherical(unit, degree) for degree in (0, 1, 2)], dim=-1)


def _each_component(per_part: Tensor) -> Tensor:
    """(n, 3, C), one number a part -> (n, 9, C)."""
    return torch.repeat_interleave(per_part, torch.tensor(SIZES, device=per_part.device), dim=1, output_size=9)


def _square(parts: Tensor) -> Tensor:
    """(N, C): squared Frobenius norm of the matrices."""
    return parts.pow(2).sum(1)


def _linear(width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(count))


def _mix(layers: Sequence[nn.Module], parts: Tensor) -> Tensor:
    """Mix the channels of each part, (N, 9, C)."""
    split = parts.split(SIZES, dim=1)
    return torch.cat([layer(part) for layer, part in zip(layers, split, strict=True)], dim=1)


class Edges:
    """Edges for the layers: ends, radial basis (E, R), envelope (E,), and a sum to the atoms."""

    def __init__(self, src: Tensor, dst: Tensor, radial: Tensor, envelope: Tensor, n_atoms: int) -> None:
        self.src, self.dst, self.radial, self.envelope, self.n_atoms = src, dst, radial, envelope, n_atoms

    def sum_to_atoms(self, message: Callable[[Tensor], Tensor], channels: int) -> Tensor:
        """Σ over the edges of each atom of `message(numbers of some edges)`, (e, 9, C) -> (N, 9, C)."""
        total = self.radial.new_zeros(self.n_atoms, 9, channels)
        chunk = CHUNK if self.src.device.type == "cpu" else max(len(self.src), 1)
        for some in torch.arange(len(self.src), device=self.src.device).split(chunk):
            total.index_add_(0, self.dst[some], message(some))
        return total


def edges_of(batch: CrystalBatch, radial_basis: nn.Module, cutoff: float) -> tuple[Edges, Tensor]:
    """The edges of a batch for the layers, and their directions (E, 3), from dst to src."""
    vectors = batch.edge_vectors()
    distance = vectors.norm(dim=-1)
    envelope = cosine_envelope(distance, cutoff)
    edges = Edges(batch.src, batch.dst, radial_basis(distance), envelope, batch.n_atoms)
    return edges, vectors / distance.unsqueeze(-1)


class Embedding(nn.Module):
    """The first tensors: Σ_j of pair embedding × radial weights × (1, antisymmetric matrix of r̂, r̂r̂ᵀ - 1/3)."""

    def __init__(self, elements: int, units: int, radial: int, activation: nn.Module) -> None:
        super().__init__()
        self.units = units
        self.emb = nn.Embedding(elements, units)
        self.emb2 = nn.Linear(2 * units, units)
        self.distance_proj1 = nn.Linear(radial, units)
        self.distance_proj2 = nn.Linear(radial, units)
        self.distance_proj3 = nn.Linear(radial, units)
        self.init_norm = nn.LayerNorm(units)
        self.linears_scalar = nn.ModuleList([nn.Linear(units, 2 * units), nn.Linear(2 * units, 3 * units)])
        self.linears_tensor = _linear(units, 3)
        self.act = activation

    def forward(self, species: Tensor, edges: Edges, directions: Tensor) -> Tensor:
        """(N,), directions (E, 3) from dst to src -> (N, 9, C)."""
        own = self.emb(species)
        geometry = self._geometry(directions)

        def message(some: Tensor) -> Tensor:
            radial = edges.radial[some]
            weights = torch.stack(
                [self.distance_proj1(radial), self.distance_proj2(radial), self.distance_proj3(radial)], dim=1
            )
            pair = self.emb2(torch.cat([own[edges.dst[some]], own[edges.src[some]]], dim=-1))
            weights = weights * (pair * edges.envelope[some, None]).unsqueeze(1)
            return _each_component(weights) * geometry[some].unsqueeze(-1)

        parts = edges.sum_to_atoms(message, self.units)
        gates = self.init_norm(_square(parts))
        for layer in self.linears_scalar:
            gates = self.act(layer(gates))
        gates = gates.view(-1, self.units, 3).transpose(1, 2)
        return _mix(list(self.linears_tensor), parts) * _each_component(gates)

    @staticmethod
    def _geometry(directions: Tensor) -> Tensor:
        """(E, 9): the parts of 1 + antisymmetric matrix of r̂ + (r̂r̂ᵀ - 1/3)."""
        x, y, z = directions.unbind(-1)
        zero = torch.zeros_like(x)
        antisymmetric = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(-1, 3, 3)
        one = torch.eye(3, dtype=directions.dtype, device=directions.device)
        symmetric = directions.unsqueeze(-1) * directions.unsqueeze(-2) - one / 3
        return to_parts((one + antisymmetric + symmetric).unsqueeze(-1)).squeeze(-1)


class Interaction(nn.Module):
    """One interaction layer: neighbours' tensors weighted by distance, then matrix products with the atom's own."""

    def __init__(self, units: int, radial: int, activation: nn.Module) -> None:
        super().__init__()
        self.units = units
        sizes = [radial, units, 2 * units, 3 * units]
        self.linears_scalar = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.linears_tensor = _linear(units, 6)
        self.act = activation

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """(N, 9, C) -> (N, 9, C)."""
        linear = list(self.linears_tensor)
        x = x / (_square(x) + 1).unsqueeze(1)
        y = _mix(linear[:3], x)

        def message(some: Tensor) -> Tensor:
            weights = edges.radial[some]
            for layer in self.linears_scalar:
                weights = self.act(layer(weights))
            weights = weights * edges.envelope[some, None]
            weights = weights.view(-1, self.units, 3).transpose(1, 2)
            return _each_component(weights) * y[edges.src[some]]

        own, received = to_matrices(y), to_matrices(edges.sum_to_atoms(message, self.units))
        change = to_parts(_product(received, own) + _product(own, received))
        change = _mix(linear[3:], change / (_square(change) + 1).unsqueeze(1))
        matrix = to_matrices(change)
        return x + change + to_parts(_product(matrix, matrix))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product channel by channel, (N, 3, 3, C)."""
    return torch.einsum("nijc,njkc->nikc", a, b)


class Network(nn.Module):
    """Embedding and the first interaction layers; parameters are named as in matgl's state."""

    def __init__(self, elements: int, units: int, layers: int, radial: int, activation: nn.Module) -> None:
        super().__init__()
        self.tensor_embedding = Embedding(elements, units, radial, activation)
        self.layers = nn.ModuleList(Interaction(units, radial, activation) for _ in range(layers))

    def forward(self, species: Tensor, edges: Edges, directions: Tensor) -> list[Tensor]:
        """(N, 9, C) after each layer."""
        x = self.tensor_embedding(species, edges, directions)
        out = []
        for layer in self.layers:
            x = layer(x, edges)
            out.append(x)
        return out
