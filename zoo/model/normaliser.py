"""From a readout's numbers of order one to physical units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.contract.target import TensorTarget


class Normaliser(nn.Module):
    """Equivariant affine map from a readout's numbers of order one to physical units.

    In the irreps of the target: one scale for each of them (for an elasticity's 2x0e+2x2e+1x4e five), and a shift of
    the invariant ones (0e) alone. An element-wise mean and scale would depend on the frame. A tensor that grows with
    the crystal is not shifted: a supercell would get the shift once.
    """

    def __init__(self, target: TensorTarget) -> None:
        super().__init__()
        self.target = target
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(target.irreps.dim))
        self.register_buffer("scale", torch.ones(target.irreps.dim))

    @torch.no_grad()
    def fit(self, tensors: Tensor) -> None:
        """Take mean and root mean square of the training tensors, (n, *target.shape)."""
        values = self.target.to_irreps(tensors.double())
        start = 0
        for irrep in (irrep for mul, irrep in self.target.irreps for _ in range(mul)):
            where = slice(start, start + irrep.dim)
            start += irrep.dim
            part = values[:, where]
            if irrep.is_scalar() and (self.target.intensive or self.target.per_atom):
                self.shift[where] = part.mean(0).to(self.shift)
                part = part - part.mean(0)
            rms = part.pow(2).mean().sqrt()
            # A set without any anisotropy, or of one crystal, leaves nothing to scale by.
            self.scale[where] = rms.to(self.scale) if rms > 1e-8 else 1.0

    def forward(self, raw: Tensor) -> Tensor:
        """Map (n, *target.shape) to physical units, in the same shape."""
        return self.target.from_irreps(self.target.to_irreps(raw) * self.scale + self.shift)
