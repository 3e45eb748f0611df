"""The layers of DTNet's decoder.

Letters: N atoms, E edges, B crystals, C channels (the latent width). Scalars s are (N, C), vectors v (N, 3, C) and
tensors t (N, 5, C): the five spherical components of a symmetric traceless matrix, to which the matrix is isometric,
at 5/9 of the cost. Components come before channels, so a linear map without bias acts on channels alone and is
equivariant.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.api import CrystalBatch, Features, Provides, spherical_to_matrix
from zoo_dtnet.bonds import Bonds

Ranks = tuple[Tensor, Tensor, Tensor]


class Dropout(nn.Dropout):
    """Dropout that draws 16 random bits an element on a CPU.

    torch draws 64 bits there, one element after another: with it a step of DTNet takes a tenth longer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero each element with probability p and scale the others, shape unchanged."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        dropped = min(round(self.p * 2**16), 2**16 - 1)  # p just below 1 would leave nothing to scale
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = bits[: x.numel()].view(x.shape) >= dropped - 2**15
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))


def safe_norm(x: Tensor) -> Tensor:
    """Norm over the components, (N, components, C) -> (N, C), up to 1e-6.

    Its gradient at zero is zero, not NaN: on cubic sites v = t = 0.
    """
    return (x.square().sum(dim=1) + 1e-12).sqrt()


def mlp(inputs: int, hidden: int, outputs: int, layers: int, dropout: float) -> nn.Sequential:
    """`layers` hidden layers (linear, SiLU, dropout), then a linear map."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(inputs, hidden), nn.SiLU(), Dropout(dropout)]
        inputs = hidden
    return nn.Sequential(*parts, nn.Linear(inputs, outputs))


class Embed(nn.Module):
    """Atom features, as many channels of each irrep as the encoder has -> latent width."""

    def __init__(self, provides: Provides, width: int) -> None:
        super().__init__()
        self.scalar = nn.Linear(provides.atoms.count("0e"), width)
        self.vector = nn.Linear(provides.atoms.count("1o"), width, bias=False)
        self.tensor = nn.Linear(provides.atoms.count("2e"), width, bias=False)

    def forward(self, atoms: Features) -> Ranks:
        """s (N, C), v (N, 3, C), t (N, 5, C)."""
        tensors = atoms.block("2e").transpose(1, 2)
        return self.scalar(atoms.scalars()), self.vector(atoms.vectors()), self.tensor(tensors)


class Block(nn.Module):
    """Mixes the channels of each rank, then lets scalars and norms gate vectors and tensors; residual.

    s1 = MLP(s), v1 = L(v), t1 = L(t); s3 = MLP([s1, ‖v1‖, ‖t1‖]) is split into (s4, g_v, g_t);
    the output is s + s4, v + σ(g_v) ⊙ L(v1), t + σ(g_t) ⊙ L(t1). The residual is the public code's.
    """

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.scalar = mlp(width, width, width, layers, dropout)
        self.vector = nn.Linear(width, width, bias=False)
        self.tensor = nn.Linear(width, width, bias=False)
        self.gates = mlp(3 * width, width, 3 * width, layers, dropout)
        self.vector_out = nn.Linear(width, width, bias=False)
        self.tensor_out = nn.Linear(width, width, bias=False)

    def forward(self, ranks: Ranks, bonds: Bonds | None = None) -> Ranks:
        """Ranks to ranks, shapes unchanged."""
        s, v, t = ranks
        s1, v1 = self.with_bonds(self.scalar(s), self.vector(v), bonds)
        t1 = self.tensor(t)
        s4, g_v, g_t = self.gates(torch.cat([s1, safe_norm(v1), safe_norm(t1)], dim=-1)).chunk(3, dim=-1)
        v4 = torch.sigmoid(g_v).unsqueeze(1) * self.vector_out(v1)
        t4 = torch.sigmoid(g_t).unsqueeze(1) * self.tensor_out(t1)
        return s + s4, v + v4, t + t4

    def with_bonds(self, s1: Tensor, v1: Tensor, bonds: Bonds | None) -> tuple[Tensor, Tensor]:
        """s2, v2: the same, for here no bond is read."""
        return s1, v1


class BondBlock(Block):
    """A block that reads bonds: s2 = s1 + Σ_j f_c(r_ij) MLP(b_s), eq. (14); v2 = v1 + Σ_j f_c(r_ij) L(b_v), eq. (17).

    The sums run over edges with dst = i, every periodic image of its own. The envelope f_c is not the paper's: the
    biases of the MLP would let a bond at the cutoff jump. The MLP has one hidden layer, and the maps behind it act
    on the sum, with which they commute: Σ f_c (W h + b) = W Σ f_c h + b Σ f_c. Edges outnumber atoms by thirty. The
    dropout of the hidden layer is on its sum for the same reason, so an atom's bonds lose the same channels.
    """

    def __init__(self, provides: Provides, width: int, layers: int, dropout: float) -> None:
        super().__init__(width, layers, dropout)
        assert provides.bonds is not None  # DTNet.needs
        self.bond_hidden = nn.Sequential(nn.Linear(provides.bonds.count("0e"), width), nn.SiLU())
        self.bond_dropout = Dropout(dropout)
        self.bond_scalar = nn.Linear(width, width)
        self.bond_vector = nn.Linear(provides.bonds.count("1o"), width, bias=False)

    def with_bonds(self, s1: Tensor, v1: Tensor, bonds: Bonds | None) -> tuple[Tensor, Tensor]:
        """s2, v2."""
        assert bonds is not None
        hidden = bonds.sum_to_atoms(bonds.envelope * self.bond_hidden(bonds.scalars))
        weighted = nn.functional.linear(self.bond_dropout(hidden), self.bond_scalar.weight)
        return s1 + weighted + bonds.envelope_sum * self.bond_scalar.bias, v1 + self.bond_vector(bonds.vector_sum)


class TensorHead(nn.Module):
    """ε = mean over atoms of (a_s' I + a_v' ⊗ a_v' + a_t'), symmetric.

    a_s' = MLP(s) σ(MLP(s)), one gated channel; a_v' = L(v) and a_t' = L(t), one channel each.
    """

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.scalar = mlp(width, width, 1, layers, dropout)
        self.gate = mlp(width, width, 1, layers, dropout)
        self.vector = nn.Linear(width, 1, bias=False)
        self.tensor = nn.Linear(width, 1, bias=False)

    def forward(self, ranks: Ranks, batch: CrystalBatch) -> Tensor:
        """(B, 3, 3)."""
        s, v, t = ranks
        a_s = self.scalar(s) * torch.sigmoid(self.gate(s))
        a_v = self.vector(v)
        a_t = spherical_to_matrix(self.tensor(t).squeeze(-1), 2)
        identity = torch.eye(3, dtype=s.dtype, device=s.device)
        atoms = a_s.unsqueeze(-1) * identity + a_v * a_v.transpose(-1, -2) + a_t
        return symmetrised(batch.mean_over_atoms(atoms))


def symmetrised(matrices: Tensor) -> Tensor:
    """(B, 3, 3): takes away the antisymmetric rounding."""
    return 0.5 * (matrices + matrices.transpose(-1, -2))
