"""The symmetric product basis: polynomials of the atomic basis A, order by order."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor, nn

# Atoms handled at a time: their monomials are large (about 1,000 numbers a channel for degree 3 and order 3).
ATOMS = {"cpu": 64, "other": 1024}


def monomials(count: int, order: int) -> Tensor:
    """(M, order): the indices i ≤ j ≤ ... of all monomials of that order in `count` variables."""
    return torch.combinations(torch.arange(count), order, with_replacement=True)


def symmetric_part(coupling: Tensor, order: int) -> Tensor:
    """Coefficients of the monomials in a multilinear form of equal arguments.

    Args:
        coupling: (2L+1, n, .., n, P), n as often as `order` says.
        order: ν.

    Returns:
        (M, 2L+1, P): Σ over the distinct orders of each monomial's indices.
    """
    variables = range(1, order + 1)
    total = torch.stack([coupling.permute(0, *p, order + 1) for p in permutations(variables)]).sum(0)
    index = monomials(coupling.shape[1], order)
    repeats = torch.tensor([math.prod(math.factorial(row.count(v)) for v in set(row)) for row in index.tolist()])
    picked = total[(slice(None), *index.T)]  # (2L+1, M, P)
    return picked.transpose(0, 1) / repeats[:, None, None]


class Contraction(nn.Module):
    """B = Σ_ν Σ_paths weight(element) × coupling · A ⊗ .. ⊗ A, for one degree L of B.

    Batatia et al., NeurIPS 2022 (MACE), eqs. (10) and (11). A occurs in all places of the product, so only the
    symmetric part of the coupling counts: coefficients of monomials rather than of all index tuples, a sixth of them
    at order 3.

    Args:
        elements: number of elements.
        channels: C.
        variables: (degree of A + 1)^2.
        degree: L.
        paths: number of paths of order 1, 2, ...; none where the symmetry allows none.
    """

    def __init__(self, elements: int, channels: int, variables: int, degree: int, paths: Sequence[int]) -> None:
        super().__init__()
        self.orders = [order for order, count in enumerate(paths, start=1) if count]
        self.weights = nn.ParameterDict()
        for order in self.orders:
            count = paths[order - 1]
            size = math.comb(variables + order - 1, order)
            self.weights[str(order)] = nn.Parameter(torch.randn(elements, count, channels) / count)
            self.register_buffer(f"coupling_{order}", torch.zeros(size, 2 * degree + 1, count))

    def forward(self, powers: Sequence[Tensor], element: int) -> Tensor:
        """Monomials of order 1, 2, ... of atoms of one element, (n, M, C) -> (n, 2L+1, C)."""
        parts = []
        for order in self.orders:
            coupling: Tensor = getattr(self, f"coupling_{order}")
            coefficients = torch.einsum("mlp,pc->cml", coupling, self.weights[str(order)][element])
            parts.append(torch.bmm(powers[order - 1].permute(2, 0, 1), coefficients))
        return functools.reduce(operator.add, parts).permute(1, 2, 0)


class Product(nn.Module):
    """All degrees of B from the atomic basis A."""

    def __init__(self, elements: int, channels: int, variables: int, paths: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.order = max(len(counts) for counts in paths)
        self.contractions = nn.ModuleList(
            Contraction(elements, channels, variables, degree, counts) for degree, counts in enumerate(paths)
        )

    def forward(self, basis: Tensor, species: Tensor) -> list[Tensor]:
        """A (N, variables, C) and the element of each atom (N,) -> (N, 2L+1, C) for each L."""
        rows, made = [], []
        chunk = ATOMS.get(basis.device.type, ATOMS["other"])
        for element in species.unique().tolist():
            for some in (species == element).nonzero().flatten().split(chunk):
                powers = self._powers(basis[some])
                made.append([contraction(powers, element) for contraction in self.contractions])
                rows.append(some)
        order = torch.cat(rows).argsort()
        return [torch.cat(parts)[order] for parts in zip(*made, strict=True)]

    def _powers(self, x: Tensor) -> list[Tensor]:
        """(n, variables, C) -> the monomials of each order, (n, M, C)."""
        out = []
        for order in range(1, self.order + 1):
            index = monomials(x.shape[1], order).to(x.device)
            out.append(functools.reduce(operator.mul, [x[:, column] for column in index.T]))
        return out
