"""Equivariant features: what encoders give and readouts read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor


@functools.lru_cache(maxsize=64)
def _coupling(degree: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(3, 3, 2l+1): orthonormal basis of the degree-l part of 3×3 matrices, l = 0, 1, 2.

    e3nn's Wigner 3j is normalised to norm 1 over all its entries, hence sqrt(2l+1).
    """
    # Made outside of inference mode, for it is kept: a later training could not differentiate through it.
    with torch.inference_mode(False):
        basis = o3.wigner_3j(1, 1, degree, dtype=torch.float64) * (2 * degree + 1) ** 0.5
        return basis.to(dtype=dtype, device=device)


def spherical_to_matrix(values: Tensor, degree: int) -> Tensor:
    """(..., 2l+1) -> (..., 3, 3), an isometry: a multiple of 1, antisymmetric, symmetric traceless for l = 0, 1, 2."""
    return torch.einsum("...m,ijm->...ij", values, _coupling(degree, values.dtype, values.device))


def matrix_to_spherical(matrices: Tensor, degree: int) -> Tensor:
    """(..., 3, 3) -> (..., 2l+1): the degree-l part; the inverse of `spherical_to_matrix` on that part."""
    return torch.einsum("...ij,ijm->...m", matrices, _coupling(degree, matrices.dtype, matrices.device))


@dataclass(frozen=True)
class Features:
    """Equivariant features of n atoms or n bonds.

    Attributes:
        irreps: e3nn irreps, O(3) with true parities, e.g. `128x0e+64x1o+32x2e`.
        values: (n, irreps.dim) in e3nn's layout (each block is (multiplicity, 2l+1), row by row).
    """

    irreps: o3.Irreps
    values: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "irreps", o3.Irreps(self.irreps))
        if self.values.dim() != 2 or self.values.shape[1] != self.irreps.dim:
            raise ValueError(
                f"features of irreps {self.irreps} need shape (n, {self.irreps.dim}), got {tuple(self.values.shape)}"
            )

    def block(self, irrep: str | o3.Irrep) -> Tensor:
        """(n, C, 2l+1): all channels of one irrep, such as "1o", in order of appearance; C = 0 if there are none."""
        irrep = o3.Irrep(irrep)
        parts = [
            self.values[:, where].reshape(-1, mul, ir.dim)
            for (mul, ir), where in zip(self.irreps, self.irreps.slices(), strict=True)
            if ir == irrep
        ]
        return torch.cat(parts, dim=1) if parts else self.values.new_zeros((len(self.values), 0, irrep.dim))

    def scalars(self) -> Tensor:
        """(n, C): the 0e channels."""
        return self.block("0e").squeeze(-1)

    def vectors(self) -> Tensor:
        """(n, 3, C): the 1o channels, components x, y, z."""
        return self.block("1o").transpose(1, 2)

    def tensors(self) -> Tensor:
        """(n, 3, 3, C): the 2e channels as symmetric traceless matrices."""
        return torch.einsum("ncm,ijm->nijc", self.block("2e"), _coupling(2, self.values.dtype, self.values.device))

    @classmethod
    def from_cartesian(
        cls, scalars: Tensor | None = None, vectors: Tensor | None = None, tensors: Tensor | None = None
    ) -> Features:
        """The inverse of `scalars`, `vectors` and `tensors`: (n, C), (n, 3, C), (n, 3, 3, C) symmetric traceless."""
        parts: list[tuple[int, str]] = []
        values: list[Tensor] = []
        if scalars is not None:
            parts.append((scalars.shape[-1], "0e"))
            values.append(scalars)
        if vectors is not None:
            parts.append((vectors.shape[-1], "1o"))
            values.append(vectors.transpose(1, 2).flatten(1))
        if tensors is not None:
            parts.append((tensors.shape[-1], "2e"))
            values.append(matrix_to_spherical(tensors.permute(0, 3, 1, 2), 2).flatten(1))
        return cls(o3.Irreps(parts), torch.cat(values, dim=1))

    @classmethod
    def from_matrices(cls, matrices: Tensor) -> Features:
        """General (n, 3, 3, C) -> C×0e + C×1e + C×2e, without loss (trace, antisymmetric part, the rest)."""
        channels_first = matrices.permute(0, 3, 1, 2)
        values = [matrix_to_spherical(channels_first, degree).flatten(1) for degree in (0, 1, 2)]
        count = matrices.shape[-1]
        return cls(o3.Irreps([(count, "0e"), (count, "1e"), (count, "2e")]), torch.cat(values, dim=1))

    def matrices(self) -> Tensor:
        """The inverse of `from_matrices`: (n, 3, 3, C) from C×0e + C×1e + C×2e."""
        parts = [spherical_to_matrix(self.block(irrep), d) for d, irrep in enumerate(("0e", "1e", "2e"))]
        return (parts[0] + parts[1] + parts[2]).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class Rows:
    """Rows of numbers that belong to crystals: those of the first crystal, then those of the second, ...

    Attributes:
        values: (n, ...) numbers or indices. An index counts from the first atom (or edge, or row) of its own crystal,
            so that it holds whatever else is in the batch.
        crystal: (n,) int64, the crystal of each row, ascending.
    """

    values: Tensor
    crystal: Tensor

    def first(self, n_crystals: int) -> Tensor:
        """(B,) int64: the first row of each crystal, to be added to indices that count from it."""
        counts = torch.bincount(self.crystal, minlength=n_crystals)
        return counts.cumsum(0) - counts


@dataclass(frozen=True)
class Embedding:
    """Output of an encoder for a batch.

    Attributes:
        atoms: features of the N atoms.
        bonds: features of the E edges, in the order of the batch's edges, or None.
        precomputed: what `Readout.precompute` made of it, which then takes the place of `bonds`; None where it was not
            asked.
    """

    atoms: Features
    bonds: Features | None = None
    precomputed: Mapping[str, Rows] | None = None

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None, non_blocking: bool = False
    ) -> Embedding:
        """Move all to `device`; `dtype` is for the floating-point tensors alone; `non_blocking` as torch's."""
        return self._each(
            lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None, non_blocking=non_blocking)
        )

    def pin_memory(self) -> Embedding:
        """All where a GPU fetches it from while the processor goes on."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Embedding:
        def of(features: Features) -> Features:
            return Features(features.irreps, change(features.values))

        rows = self.precomputed
        return Embedding(
            of(self.atoms),
            None if self.bonds is None else of(self.bonds),
            None if rows is None else {k: Rows(change(r.values), change(r.crystal)) for k, r in rows.items()},
        )
