"""Born charges and force constants that an ionic dielectric tensor is made of."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LatticeResponse:
    """Born charges and force constants at Γ from which the ionic tensors of B crystals with N atoms in all follow.

    ε0 = (4πk/V) Z* Φ⁻¹ Z*ᵀ at fixed cell, with k = e²/(4π ε_vacuum), in the space orthogonal to rigid translations
    (Gonze and Lee, Phys. Rev. B 55, 10355 (1997), eq. (54)).

    Attributes:
        born: Z*, (N, 3, 3), e: polarisation along the first axis by displacement along the second; their sum over each
            cell is zero.
        force_constants: Φ of each crystal of n atoms, B matrices (3n, 3n), eV/Å², row and column 3κ+α; they obey the
            acoustic sum rule, and all modes but the rigid translations are stable.
    """

    born: Tensor
    force_constants: tuple[Tensor, ...]
