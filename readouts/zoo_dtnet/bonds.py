"""Bonds as DTNet's blocks read them, and merging of bonds that are alike.

Letters: N atoms, E edges, K kinds of bonds, P pairs of an atom and a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from zoo.api import CrystalBatch, Features, Rows, polynomial_envelope

# Bonds of a crystal that are of one length to within this (Å) are of one kind, if their scalars are the same to within
# ALIKE of the largest. What symmetry makes equal differs by up to 3e-6 Å in float32.
LENGTH = 1e-5
ALIKE = 1e-4


@dataclass(frozen=True)
class Bonds:
    """Bonds as all blocks read them. Unmerged, each bond is a kind of its own: K = E.

    Attributes:
        envelope: (K, 1), f_c(r_ij).
        scalars: (K, C_b).
        envelope_sum: (N, 1), Σ_j f_c(r_ij).
        vector_sum: (N, 3, C_b'), Σ_j f_c(r_ij) b_v. No parameter is in it: a linear map commutes with the sum.
        sum_to_atoms: (K, C) -> (N, C), the sum over the bonds of each atom.
    """

    envelope: Tensor
    scalars: Tensor
    envelope_sum: Tensor
    vector_sum: Tensor
    sum_to_atoms: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, features: Features, batch: CrystalBatch, cutoff: float) -> Bonds:
        """From the bond features of a batch; `cutoff` in Å."""
        envelope = polynomial_envelope(batch.edge_vectors().norm(dim=-1, keepdim=True), cutoff)
        vectors = features.vectors() * envelope.unsqueeze(-1)
        sums = batch.sum_to_atoms(envelope), batch.sum_to_atoms(vectors)
        return cls(envelope, features.scalars(), *sums, batch.sum_to_atoms)

    def merged(self, batch: CrystalBatch) -> dict[str, Rows]:
        """The same with the bonds of a crystal that are alike as one kind, for `joined`: an eighth as many, usually.

        By symmetry many bonds of a crystal are of one length, those from i to j and from j to i always.
        """
        of_edge = batch.crystal[batch.dst]
        kind = self._kinds(batch, of_edge)
        crystal = _first_of_each(kind, of_edge)
        pair, counts = torch.unique(batch.dst * len(crystal) + kind, return_counts=True)
        atom, kind_at_atom = pair // len(crystal), pair % len(crystal)
        of_pair = batch.crystal[atom]
        sums = Rows(torch.cat([self.envelope_sum, self.vector_sum.flatten(1)], dim=1), batch.crystal)
        kinds = Rows(_mean_of_each(kind, torch.cat([self.envelope, self.scalars], dim=1)), crystal)
        atom = atom - Rows(atom, batch.crystal).first(batch.n_crystals)[of_pair]
        kind_at_atom = kind_at_atom - kinds.first(batch.n_crystals)[of_pair]
        pairs = torch.stack([atom, kind_at_atom, counts], dim=1).int()
        return {"sums": sums, "kinds": kinds, "pairs": Rows(pairs, of_pair)}

    def _kinds(self, batch: CrystalBatch, of_edge: Tensor) -> Tensor:
        """(E,) int64: the kind of each bond, ascending with the crystal."""
        if not len(of_edge):
            return of_edge
        length = (batch.edge_vectors().norm(dim=-1) / LENGTH).round().long()
        kind = torch.unique(of_edge * int(length.max() + 1) + length, return_inverse=True)[1]
        of_first = _first_of_each(kind, self.scalars)[kind]
        differs = ((self.scalars - of_first).abs() > ALIKE * self.scalars.abs().max()).any(dim=1)
        alone = torch.where(differs, torch.arange(1, len(kind) + 1, device=kind.device), 0)
        return torch.unique(kind * (len(kind) + 1) + alone, return_inverse=True)[1]

    @classmethod
    def joined(cls, rows: Mapping[str, Rows], batch: CrystalBatch) -> Bonds:
        """The bonds of a batch from what `merged` made of its crystals."""
        sums, kinds, pairs = rows["sums"], rows["kinds"], rows["pairs"]
        atoms = batch.atoms_per_crystal()
        atom = pairs.values[:, 0] + (atoms.cumsum(0) - atoms)[pairs.crystal]
        kind = pairs.values[:, 1] + kinds.first(batch.n_crystals)[pairs.crystal]
        counts = Counts.of(atom, kind, pairs.values[:, 2].to(kinds.values), batch.n_atoms, len(kinds.values))
        vectors = sums.values[:, 1:].unflatten(1, (3, -1))
        return cls(kinds.values[:, :1], kinds.values[:, 1:], sums.values[:, :1], vectors, counts.sum)


@dataclass(frozen=True)
class Counts:
    """Number of bonds of each kind at each atom: a sparse (N, K) matrix, by rows and by columns.

    Attributes:
        kind, count: (P,) int64 and of the dtype of the values, sorted by atom.
        of_atom: (N,) int64, where the pairs of each atom begin among these.
        atom, count_by_kind, of_kind: the same sorted by kind.
    """

    kind: Tensor
    count: Tensor
    of_atom: Tensor
    atom: Tensor
    count_by_kind: Tensor
    of_kind: Tensor

    @classmethod
    def of(cls, atom: Tensor, kind: Tensor, count: Tensor, n_atoms: int, n_kinds: int) -> Counts:
        """From pairs (P,) sorted by atom."""
        by_kind = torch.argsort(kind)
        return cls(kind, count, _starts(atom, n_atoms), atom[by_kind], count[by_kind], _starts(kind, n_kinds))

    def transposed(self) -> Counts:
        """(K, N)."""
        return Counts(self.atom, self.count_by_kind, self.of_kind, self.kind, self.count, self.of_atom)

    def sum(self, values: Tensor) -> Tensor:
        """(K, C) -> (N, C): the matrix times `values`; nothing of the size (P, C) is written."""
        return _Sum.apply(values, self)


class _Sum(torch.autograd.Function):
    """A sparse matrix times a dense one. `embedding_bag`'s own backward is ten times slower, and has none behind it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, counts: Counts) -> Tensor:
        ctx.counts = counts
        return embedding_bag(counts.kind, values, counts.of_atom, mode="sum", per_sample_weights=counts.count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.counts.transposed().sum(gradients[0].contiguous()), None


def _starts(index: Tensor, n: int) -> Tensor:
    """(P,) in 0 .. n - 1 -> (n,): where each begins once they are sorted."""
    counts = torch.bincount(index, minlength=n)
    return counts.cumsum(0) - counts


def _first_of_each(kind: Tensor, values: Tensor) -> Tensor:
    """(E, ...) -> (K, ...): that of the first bond of each kind."""
    where = torch.arange(len(kind), device=kind.device)
    first = where.new_full((int(kind.max()) + 1 if len(kind) else 0,), len(kind))
    return values[first.scatter_reduce(0, kind, where, "amin")]


def _mean_of_each(kind: Tensor, values: Tensor) -> Tensor:
    """(E, C) -> (K, C)."""
    counts = torch.bincount(kind).to(values).unsqueeze(1)
    return values.new_zeros(len(counts), values.shape[1]).index_add(0, kind, values) / counts
