"""One layer: bonds are updated from their two atoms, then atoms from their bonds.

Letters: N atoms, e edges within the layer's cutoff, C channels. Atom features are (N, k, C) with the components of all
ranks one after another: k = 1, the scalar, or k = 9, then the vector (3) and the tensor (5). A symmetric traceless
tensor is kept as its five spherical components, to which the 3×3 matrix is isometric, at 5/9 of the cost; the trace of
TeaNet's matrices is a scalar, and the antisymmetric part never arises of vectors and directions alone but as a
pseudovector, which the features have no place for. Maps act on channels alone, so they are equivariant.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from zoo_teanet.bonds import Bonds
from zoo_teanet.geometry import Edges

VECTOR, TENSOR = slice(1, 4), slice(4, 9)


AFTER_SILU = 1.68  # SiLU of a normal variable has the mean square 1 / 1.68²


def linear(inputs: int, outputs: int, gain: float = 1.0, bias: bool = True) -> nn.Linear:
    """A linear map that starts with a variance of `gain`² times its input's; PyTorch's own shrinks it to a third."""
    made = nn.Linear(inputs, outputs, bias)
    nn.init.normal_(made.weight, std=gain * inputs**-0.5)
    if bias:
        nn.init.zeros_(made.bias)
    return made


class RankLinear(nn.Module):
    """A linear map of the channels of each rank, without bias: (N, k, C) -> (N, k, C)."""

    def __init__(self, channels: int, ranks: tuple[int, ...], gain: float = 1.0) -> None:
        super().__init__()
        self.ranks = ranks
        self.maps = nn.ModuleList(linear(channels, channels, gain, bias=False) for _ in ranks)

    def forward(self, x: Tensor) -> Tensor:
        """Shape unchanged."""
        parts = x.split(self.ranks, dim=1)
        return torch.cat([change(part) for change, part in zip(self.maps, parts, strict=True)], dim=1)


class BondUpdate(nn.Module):
    """Update of the bonds by a layer.

    With p = L(a_i) + L'(a_j) of the two atoms and u the direction from i to j,
    z = SiLU(R(r) ⊙ (p_s + p_v·u + u·p_t·u) + L(b_s) + L(b_v·u)); five linear maps of z are gates g:
    Δb_s = f_c g_0 and Δb_v = f_c (g_1 u + g_2 p_v + g_3 p_t·u). The fifth is for the atoms.

    Args:
        channels: C.
        num_bessel: number of radial basis functions.
        full_in: vectors, tensors and bonds are not all zero, as they are before the first layer.
        full_out: vectors and tensors are updated, not scalars alone.
    """

    def __init__(self, channels: int, num_bessel: int, full_in: bool, full_out: bool) -> None:
        super().__init__()
        self.full_in, self.full_out = full_in, full_out
        ranks = (1, 3, 5) if full_in else (1,)
        self.target = RankLinear(channels, ranks, gain=0.5**0.5)
        self.source = RankLinear(channels, ranks, gain=0.5**0.5)
        self.radial = linear(num_bessel, channels, gain=2.0)
        if full_in:
            self.bonds = linear(2 * channels, channels, bias=False)
        self.count = 1 + full_out + 3 * (full_in and full_out)
        self.gates = linear(channels, self.count * channels, AFTER_SILU)

    def forward(self, atoms: Tensor, bonds: Bonds, edges: Edges) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Δb_s (e, C), Δb_v (e, 3, C) and f_c g_4 p_t (e, 5, C), None where they are not updated."""
        pair = self.target(atoms).index_select(0, edges.dst) + self.source(atoms).index_select(0, edges.src)
        harmonics = edges.harmonics[:, : pair.shape[1]] * len(self.target.ranks) ** -0.5
        projected = torch.bmm(harmonics.unsqueeze(1), pair).squeeze(1)
        hidden = projected * self.radial(edges.radial)
        if self.full_in:
            along = torch.bmm(edges.direction.unsqueeze(1), bonds.vectors).squeeze(1)
            hidden = hidden + self.bonds(torch.cat([bonds.scalars, along], dim=1))
        gates = (self.gates(silu(hidden)) * edges.envelope).chunk(self.count, dim=1)
        if not self.full_out:
            return gates[0], None, None
        raised = gates[1].unsqueeze(1) * (3**0.5 * edges.direction).unsqueeze(-1)
        if not self.full_in:
            return gates[0], raised, None
        # One split, not two slices: the gradient of each slice would be a tensor of zeros of the size of all.
        _, directed, tensors = pair.split((1, 3, 5), dim=1)
        lowered = torch.bmm(edges.coupling * 1.8**0.5, tensors)
        vectors = raised + gates[2].unsqueeze(1) * directed + gates[3].unsqueeze(1) * lowered
        return gates[0], vectors * 3**-0.5, gates[4].unsqueeze(1) * tensors


def bounded(x: Tensor) -> Tensor:
    """(N, k, C): each rank of an atom divided by sqrt(1 + its mean square).

    What is small stays as it is; in a dense crystal, where all neighbours say the same, nothing runs away.
    """
    ranks = x.split((1, 3, 5) if x.shape[1] > 1 else (1,), dim=1)
    return torch.cat([rank * (1 + rank.square().mean(dim=(1, 2), keepdim=True)).rsqrt() for rank in ranks], dim=1)


def soft_norm(x: Tensor) -> Tensor:
    """(N, components, C) -> (N, C): sqrt(1 + ‖x‖²) - 1, smooth at zero, where cubic sites have their vectors."""
    return torch.sqrt(1 + x.square().sum(dim=1)) - 1


class AtomUpdate(nn.Module):
    """Update of the atoms by a layer, from the sums M over their bonds.

    v' = v + M_v, t' = t + M_t; MLP([s, M_s, ‖v'‖, ‖t'‖]) is split into (Δs, g_v, g_t); s + Δs, v + σ(g_v) ⊙ L(v'),
    t + σ(g_t) ⊙ L(t').
    """

    def __init__(self, channels: int, full_out: bool) -> None:
        super().__init__()
        self.full_out = full_out
        self.mix = nn.Sequential(
            linear(4 * channels, channels),
            nn.SiLU(),
            linear(channels, 3 * channels if full_out else channels, AFTER_SILU),
        )
        if full_out:
            self.linear = RankLinear(channels, (3, 5), gain=1.5)  # the gates halve it

    def forward(self, atoms: Tensor, sums: Tensor) -> Tensor:
        """(N, 1 or 9, C) and sums of 9 or, where scalars alone are updated, 1 component -> (N, 9, C)."""
        before = nn.functional.pad(atoms, (0, 0, 0, 9 - atoms.shape[1]))
        new = before[:, 1:] + sums[:, 1:] if self.full_out else before[:, 1:]
        norms = soft_norm(new[:, :3]), soft_norm(new[:, 3:])
        mixed = self.mix(torch.cat([bounded(atoms)[:, 0], sums[:, 0], *norms], dim=1))
        if not self.full_out:
            return torch.cat([atoms[:, :1] + mixed.unsqueeze(1), atoms[:, 1:]], dim=1)
        step, gate_v, gate_t = mixed.chunk(3, dim=1)
        gates = torch.sigmoid(torch.stack([gate_v] * 3 + [gate_t] * 5, dim=1))
        return before + torch.cat([step.unsqueeze(1), gates * self.linear(new)], dim=1)


class Layer(nn.Module):
    """Bonds from atoms, then atoms from bonds: the convolution that raises and lowers ranks.

    With m = f_c b + Δb, b before and b + Δb after the layer: M_s = Σ_j m_s, M_v = Σ_j m_v and M_t = Σ_j (m_v ⊗ u +
    f_c g_4 p_t), the symmetric traceless part. Atoms and sums enter the maps bounded. The scheme is that of Takamoto,
    Izumi, Li, Comput. Mater. Sci. 207, 111280 (2022); the functions of the distance, the gates and the normalisation
    are ours.

    Args:
        channels: C.
        num_bessel: number of radial basis functions.
        full_in, full_out: as in `BondUpdate`.
        neighbours: typical Σ_j f_c² of an atom: the sums over neighbours are divided by its square root.
    """

    def __init__(self, channels: int, num_bessel: int, full_in: bool, full_out: bool, neighbours: float) -> None:
        super().__init__()
        self.scale = neighbours**-0.5
        self.bond_update = BondUpdate(channels, num_bessel, full_in, full_out)
        self.atom_update = AtomUpdate(channels, full_out)

    def forward(self, atoms: Tensor, bonds: Bonds, edges: Edges) -> tuple[Tensor, Bonds]:
        """(N, 9, C), or (N, 1, C) before the first layer, and the bonds of `edges` -> (N, 9, C) and these bonds."""
        step_s, step_v, message_t = self.bond_update(bounded(atoms), bonds, edges)
        # The steps bear the envelope already; what the bonds had before gets it here.
        messages = ((step_s + edges.envelope * bonds.scalars) * self.scale).unsqueeze(1)
        if step_v is not None:
            vectors = (step_v + edges.envelope.unsqueeze(-1) * bonds.vectors) * self.scale
            tensors = torch.bmm(edges.coupling.transpose(1, 2) * 3**0.5, vectors)
            if message_t is not None:
                tensors = (tensors + message_t * self.scale) * 0.5**0.5
            messages = torch.cat([messages, vectors, tensors], dim=1)
        sums = messages.new_zeros(len(atoms), *messages.shape[1:]).index_add(0, edges.dst, messages)
        new = Bonds(bonds.index, bonds.scalars + step_s, bonds.vectors if step_v is None else bonds.vectors + step_v)
        return self.atom_update(atoms, bounded(sums)), new
