"""Several crystals as one graph.

Letters, here and in every docstring of the zoo: N atoms, E directed edges, B crystals, C channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.contract.padded_force_constants import PaddedForceConstants


@dataclass(frozen=True)
class CrystalBatch:
    """B periodic crystals and the edges between their atoms within a cutoff.

    Messages flow src -> dst. Edges are sorted by dst. Every periodic image within the cutoff is an edge of its
    own, self-images included. Edge vectors are never stored: `edge_vectors` computes them inside the
    differentiable graph, so that derivatives with respect to positions and strain are right.

    Attributes:
        positions: (N, 3) Å, Cartesian; atoms may lie outside the cell.
        numbers: (N,) int64, atomic numbers.
        cell: (B, 3, 3) Å, lattice vectors as ROWS.
        crystal: (N,) int64, the crystal of each atom, ascending.
        src: (E,) int64, the atom that a message comes from.
        dst: (E,) int64, the atom that it goes to, ascending.
        shift: (E, 3) int64, the image of src: its position is `positions[src] + shift @ cell`.
        strain: (B, 3, 3) dimensionless or None. Its symmetric part η deforms positions and cell together,
            r -> r (1 + η).
        force_constants: those of a potential, where the readout needs them, else None.
        level: (B,) int64, the level of theory that is asked for (`zoo.contract.level_of_theory.LEVELS`); None: PBE.
    """

    positions: Tensor
    numbers: Tensor
    cell: Tensor
    crystal: Tensor
    src: Tensor
    dst: Tensor
    shift: Tensor
    strain: Tensor | None = None
    force_constants: PaddedForceConstants | None = None
    level: Tensor | None = None

    @property
    def n_crystals(self) -> int:
        """B."""
        return self.cell.shape[0]

    @property
    def n_atoms(self) -> int:
        """N."""
        return self.positions.shape[0]

    def atoms_per_crystal(self) -> Tensor:
        """(B,) int64."""
        return torch.bincount(self.crystal, minlength=self.n_crystals)

    def edge_vectors(self) -> Tensor:
        """(E, 3) Å, from dst to the image of src, after the strain where there is one.

        No matrix product, which TF32 and autocast would round to 10 bits and fewer.
        """
        vectors = self.positions[self.src] - self.positions[self.dst]
        crystal = self.crystal[self.dst]
        shift = self.shift.to(vectors.dtype)
        vectors = vectors + (shift.unsqueeze(-1) * self.cell[crystal]).sum(dim=1)
        if self.strain is None:
            return vectors
        symmetric = 0.5 * (self.strain + self.strain.transpose(-1, -2))
        return vectors + (vectors.unsqueeze(-1) * symmetric[crystal]).sum(dim=1)

    def within(self, cutoff: float) -> CrystalBatch:
        """The same crystals with the edges no longer than `cutoff` (Å) alone, for layers of smaller cutoff."""
        keep = self.shorter_than(cutoff)
        return dataclasses.replace(self, src=self.src[keep], dst=self.dst[keep], shift=self.shift[keep])

    def shorter_than(self, cutoff: float) -> Tensor:
        """(E,) bool: which edges are no longer than `cutoff` (Å)."""
        return self.edge_vectors().detach().norm(dim=-1) <= cutoff

    def sum_to_atoms(self, messages: Tensor) -> Tensor:
        """Sum what flows along the edges, (E, ...), at the atoms that it flows to, (N, ...)."""
        out = messages.new_zeros((self.n_atoms, *messages.shape[1:]))
        return out.index_add(0, self.dst, messages)

    def sum_over_atoms(self, values: Tensor) -> Tensor:
        """(N, ...) -> (B, ...)."""
        return values.new_zeros(self.n_crystals, *values.shape[1:]).index_add(0, self.crystal, values)

    def mean_over_atoms(self, values: Tensor) -> Tensor:
        """Mean of (N, ...) over the atoms of each crystal, (B, ...): intensive, a supercell has the same."""
        total = values.new_zeros((self.n_crystals, *values.shape[1:])).index_add(0, self.crystal, values)
        count = self.atoms_per_crystal().to(values.dtype)
        return total / count.reshape(-1, *[1] * (values.dim() - 1))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None, non_blocking: bool = False
    ) -> CrystalBatch:
        """Move all to `device`; `dtype` is for the floating-point tensors alone; `non_blocking` as torch's."""
        return self._each(
            lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None, non_blocking=non_blocking)
        )

    def pin_memory(self) -> CrystalBatch:
        """All where a GPU fetches it from while the processor goes on."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> CrystalBatch:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed: dict[str, Any] = {k: change(v) for k, v in fields.items() if isinstance(v, Tensor)}
        if self.force_constants is not None:
            changed["force_constants"] = self.force_constants.each(change)
        return dataclasses.replace(self, **changed)
