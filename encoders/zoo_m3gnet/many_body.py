"""The many-body to bond step: what a bond learns of the other bonds of its atom, angles included."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo_m3gnet.radial import bessel_functions, cutoff_function

# Of ẽ_ij: the two envelopes leave little of it, and what it adds to a bond would not be seen beside the bond.
SCALE = 5.0


@dataclass(frozen=True)
class ShortBonds:
    """The F edges shorter than the three-body cutoff, and what all layers want of their geometry.

    Attributes:
        index: (F,) int64, their places among all edges.
        src, dst: (F,) int64, atoms k or j and i.
        envelope: (F, 1), f_c(r).
        radial: (F, l_max, n_max), f_c(r) j_l(z_ln r/r_c).
        harmonics: (F, l_max^2), Y_lm of the direction, component-normalised.
    """

    index: Tensor
    src: Tensor
    dst: Tensor
    envelope: Tensor
    radial: Tensor
    harmonics: Tensor

    @classmethod
    def of(
        cls, vectors: Tensor, distance: Tensor, src: Tensor, dst: Tensor, cutoff: float, l_max: int, n_max: int
    ) -> ShortBonds:
        """From edge vectors (E, 3) and their lengths (E,), Å; `cutoff` is the three-body one."""
        index = (distance.detach() < cutoff).nonzero().squeeze(-1)
        vectors, distance = vectors.index_select(0, index), distance.index_select(0, index)
        envelope = cutoff_function(distance, cutoff).unsqueeze(-1)
        radial = bessel_functions(distance, cutoff, l_max, n_max) * envelope.unsqueeze(-1)
        degrees = list(range(l_max))
        harmonics = o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")
        return cls(index, src.index_select(0, index), dst.index_select(0, index), envelope, radial, harmonics)


class ManyBodyToBond(nn.Module):
    """e_ij + g(W_2 ẽ_ij) ⊙ σ(W_1 ẽ_ij + b_1), M3GNet's many-body to bond interaction, with

    ẽ_ij = Σ_k j_l(z_ln r_ik/r_c) Y_l0(θ_jik) ⊙ σ(W_v v_k + b_v) f_c(r_ij) f_c(r_ik), over all other bonds ik of atom i.

    By the addition theorem, Y_l0(θ_jik) = sqrt(4π/(2l+1)) Σ_m Y_lm(ij) Y_lm(ik): the sum over k is made once an atom
    and its components m contracted with each bond, less the term k = j. No triplet is ever listed: the cost grows with
    the number of bonds, not with its square, and no angle is taken. Constants that the weights take up are ours, so
    that ẽ_ij is of order one: the j_l are normalised, Y_l0 is without its 1/sqrt(4π), and `SCALE`. W_2 has no bias,
    unlike the paper's: a bond without others beside it stays as it is, and bond features vanish at the cutoff.

    Args:
        channels: of atoms and bonds.
        l_max: degrees l = 0 .. l_max-1.
        n_max: radial functions of each.
    """

    degree_of: Tensor

    def __init__(self, channels: int, l_max: int, n_max: int) -> None:
        super().__init__()
        self.shape = (l_max, n_max)
        self.neighbour = nn.Linear(channels, l_max * n_max)
        self.value = nn.Linear(l_max * n_max, channels, bias=False)
        self.gate = nn.Linear(l_max * n_max, channels)
        self.sizes = [2 * degree + 1 for degree in range(l_max)]
        degree_of = torch.arange(l_max).repeat_interleave(torch.tensor(self.sizes))
        self.register_buffer("degree_of", degree_of, persistent=False)

    def expansion(self, atoms: Tensor, bonds: ShortBonds) -> Tensor:
        """ẽ_ij of the short bonds, (F, l_max n_max), from atom features (N, C)."""
        weights = torch.sigmoid(self.neighbour(atoms)).index_select(0, bonds.src)
        terms = bonds.radial * weights.unflatten(1, self.shape)  # (F, l, n), one for each k
        harmonics = bonds.harmonics.unsqueeze(-1)
        flows = terms.index_select(1, self.degree_of) * harmonics  # (F, lm, n)
        around = flows.new_zeros(len(atoms), *flows.shape[1:]).index_add(0, bonds.dst, flows)
        products = around.index_select(0, bonds.dst) * harmonics
        sums = torch.stack([part.sum(dim=1) for part in products.split(self.sizes, dim=1)], dim=1)
        sizes = terms.new_tensor(self.sizes).unsqueeze(-1)
        others = SCALE * (sums - sizes * terms) / sizes.sqrt()
        return (others * bonds.envelope.unsqueeze(-1)).flatten(1)

    def forward(self, atoms: Tensor, edges: Tensor, bonds: ShortBonds) -> Tensor:
        """New features of all edges, (E, C)."""
        expansion = self.expansion(atoms, bonds)
        update = silu(self.value(expansion)) * torch.sigmoid(self.gate(expansion))
        return edges.index_add(0, bonds.index, update)
