"""Bond features, kept only on the edges where they can differ from zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bonds:
    """Features of the edges within some cutoff; those of all other edges of the batch are zero.

    Layers have cutoffs of their own, so of the edges of any two `Bonds` of a batch one's are among the other's.

    Attributes:
        index: (e,) int64, ascending: the places of the edges among the E of the batch.
        scalars: (e, C).
        vectors: (e, 3, C).
    """

    index: Tensor
    scalars: Tensor
    vectors: Tensor

    @classmethod
    def none(cls, index: Tensor, channels: int, dtype: torch.dtype) -> Bonds:
        """Zero on all edges, as before the first layer; `index` tells the device."""
        scalars = torch.zeros(0, channels, dtype=dtype, device=index.device)
        return cls(index[:0], scalars, scalars.new_zeros(0, 3, channels))

    def on(self, index: Tensor) -> Bonds:
        """The same features on more edges, where the new ones are zero, or on fewer."""
        if len(index) == len(self.index):
            return self
        if len(index) < len(self.index):
            kept = torch.searchsorted(self.index, index)
            return Bonds(index, self.scalars[kept], self.vectors[kept])
        places = torch.searchsorted(index, self.index)
        scalars, vectors = (
            values.new_zeros(len(index), *values.shape[1:]).index_copy(0, places, values)
            for values in (self.scalars, self.vectors)
        )
        return Bonds(index, scalars, vectors)

    def replaced_by(self, new: Bonds) -> Bonds:
        """Replace the bonds on the edges of `new`, and keep all others."""
        if len(new.index) >= len(self.index):
            return new
        places = torch.searchsorted(self.index, new.index)
        scalars = self.scalars.index_copy(0, places, new.scalars)
        return Bonds(self.index, scalars, self.vectors.index_copy(0, places, new.vectors))
