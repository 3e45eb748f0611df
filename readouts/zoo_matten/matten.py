"""MatTen's way to a tensor, on the features of any encoder."""

from __future__ import annotations

import itertools
from typing import Annotated, ClassVar

import torch
from e3nn import o3
from pydantic import Field
from torch import Tensor, nn

from zoo.api import CrystalBatch, Embedding, Hypers, Needs, Provides, Readout, TensorTarget, references
from zoo_matten.layers import ByIrrep, Channels, Gate, Mix, Multiply
from zoo_matten.paths import plan, products_to_reach
from zoo_matten.surroundings import Surroundings


class MatTenHypers(Hypers):
    """Hyperparameters of `matten`."""

    scalars: Annotated[int, Field(ge=1, le=4096)] = 64
    """Latent channels of the invariants (0e)."""

    tensors: Annotated[int, Field(ge=1, le=4096)] = 32
    """Latent channels of every other irrep, and of every path of a tensor product."""

    neighbours: Annotated[int, Field(ge=1, le=4096)] = 16
    """Channels of what is taken from the directions of the neighbours, where the encoder lacks a degree."""

    products: Annotated[int, Field(ge=1, le=4096)] = 2
    """Tensor products in a row; more are made where the degrees of the target are not reached by as many."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of latent invariants dropped in training."""


class MatTen(Readout):
    """The irreducible parts of a tensor from those of the atoms' features, then the Cartesian tensor from them.

    Wen et al., Digital Discovery 3, 869 (2024): the irreps of a tensor of any index symmetry (2x0e+2x2e+4e for
    elasticity, 2x1o+2o+3o for piezoelectricity) are read off the features of the atoms, averaged over the crystal
    and put together. Theirs come from interaction layers that reach the degree of the target. Here the encoder is
    whatever it is. Degrees of the target that it lacks are taken from the directions of the neighbours
    (`Surroundings`); then gated tensor products of an atom's features with themselves make the rest (1e, 2o, ...),
    only along paths that lead to the target. What no product reaches is refused.

    Mean over the atoms for an intensive target, sum for an extensive one, neither for one tensor an atom.
    """

    Hypers = MatTenHypers
    citation = references("wen2024matten")
    needs: ClassVar[Needs] = Needs(atoms=("0e",))

    def __init__(self, hypers: MatTenHypers, provides: Provides, cutoff: float, target: TensorTarget) -> None:
        super().__init__(hypers, provides, cutoff, target)
        given, wanted = _given(provides, target), _kinds(target.irreps)
        least = products_to_reach(given, wanted)
        assert least is not None  # unmet
        steps = plan(given, wanted, max(hypers.products, least))

        def width(irreps: set[o3.Irrep]) -> Channels:
            return {str(i): hypers.scalars if i == o3.Irrep("0e") else hypers.tensors for i in sorted(irreps)}

        counts = {str(irrep): provides.atoms.count(irrep) for irrep in sorted(steps[0])}
        self.reads = [irrep for irrep, count in counts.items() if count]
        lacking = [irrep for irrep in steps[0] if irrep not in provides.atoms]
        self.surroundings = (
            Surroundings(lacking, provides.atoms.count("0e"), hypers.neighbours, cutoff) if lacking else None
        )
        gates = [Gate(width(irreps), hypers.dropout) for irreps in steps[:-1]]
        inputs = {irrep: count or hypers.neighbours for irrep, count in counts.items()}
        self.embed = nn.Sequential(Mix(inputs, gates[0].inputs), gates[0])
        self.latent = nn.ModuleList(
            nn.Sequential(Multiply(before.channels, gate.inputs, hypers.tensors), gate)
            for before, gate in itertools.pairwise(gates)
        )
        parts = {str(irrep): target.irreps.count(irrep) for irrep in wanted}
        self.out = Multiply(gates[-1].channels, parts, hypers.tensors)

    @classmethod
    def unmet(cls, provides: Provides, target: TensorTarget) -> str | None:
        """Besides what it needs: products of the irreps that there are must reach those of the target."""
        reason = super().unmet(provides, target)
        if reason is not None:
            return reason
        given = _given(provides, target)
        beyond = sorted(irrep for irrep in _kinds(target.irreps) if products_to_reach(given, {irrep}) is None)
        if not beyond:
            return None
        missing = "+".join(map(str, beyond))
        return f"cannot make the {missing} part of {target.formula}: no product of {provides.atoms} has it"

    def forward(self, embedding: Embedding, batch: CrystalBatch) -> Tensor:
        """(B, *target.shape), or (N, *target.shape) per atom."""
        x: ByIrrep = {irrep: embedding.atoms.block(irrep).transpose(1, 2) for irrep in self.reads}
        if self.surroundings is not None:
            x |= self.surroundings(embedding.atoms.scalars(), batch)
        x = self.embed(x)
        for layer in self.latent:
            x = layer(x)
        return self.target.from_irreps(self._pool(_flat(self.out(x), self.target.irreps), batch))

    def _pool(self, atoms: Tensor, batch: CrystalBatch) -> Tensor:
        if self.target.per_atom:
            return atoms
        if self.target.intensive:
            return batch.mean_over_atoms(atoms)
        return atoms.new_zeros(batch.n_crystals, atoms.shape[1]).index_add(0, batch.crystal, atoms)


def _kinds(irreps: o3.Irreps) -> set[o3.Irrep]:
    return {irrep for _, irrep in irreps}


def _given(provides: Provides, target: TensorTarget) -> set[o3.Irrep]:
    """Return the irreps that products start from: the encoder's, and the target's spherical harmonics."""
    return _kinds(provides.atoms) | {irrep for irrep in _kinds(target.irreps) if irrep.p == (-1) ** irrep.l}


def _flat(x: ByIrrep, irreps: o3.Irreps) -> Tensor:
    """(N, irreps.dim), in the order of the irreps, an irrep that comes several times taking its channels in turn."""
    taken = dict.fromkeys(x, 0)
    parts = []
    for count, irrep in irreps:
        start = taken[str(irrep)]
        taken[str(irrep)] = start + count
        parts.append(x[str(irrep)][..., start : start + count].transpose(1, 2).flatten(1))
    return torch.cat(parts, dim=1)
