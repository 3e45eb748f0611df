"""The two blocks of a layer of PaiNN, each giving what is added to scalars s (N, C) and vectors v (N, 3, C)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.api import CrystalBatch


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A linear map that keeps the variance of what it maps; its bias starts at zero."""
    made = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(made.weight, std=inputs**-0.5)
    if bias:
        nn.init.zeros_(made.bias)
    return made


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """One hidden layer, SiLU, behind a layer norm.

    The norm is not the paper's. The blocks multiply what comes in, scalars with vectors and vectors with vectors:
    without it the untrained features of a crystal overflow within eight layers, with it they grow little by little.
    """
    return nn.Sequential(nn.LayerNorm(inputs), linear(inputs, hidden), nn.SiLU(), linear(hidden, outputs))


def safe_norm(vectors: Tensor) -> Tensor:
    """(N, 3, C) -> (N, C): √(‖v‖² + 0.01²), rounded off at zero, where the vectors of many sites are by symmetry.

    The gradient there is zero, not NaN, and a force or stress does not depend on the rounding of such a zero.
    """
    return torch.sqrt(vectors.square().sum(dim=1) + 1e-4)


class Message(nn.Module):
    """Message of the neighbours: Schütt, Unke, Gastegger, ICML 2021, eqs. (7) and (8).

    Δs_i = Σ_j φ_s(s_j) ∘ W_s(r_ij) and Δv_i = Σ_j v_j ∘ φ_vv(s_j) ∘ W_vv(r_ij) + φ_vs(s_j) ∘ W_vs(r_ij) r_ij/‖r_ij‖,
    with r_ij from i to j. The filters W are linear in the radial basis × envelope, without a bias, so that a message
    vanishes where its envelope does.

    Args:
        channels: C.
        num_bessel: of the radial basis.
        average_neighbours: the sums are divided by its square root; the paper does not, and crystals have many.
        vectors: there are vectors already. The first layer has none (v = 0): φ_vv and W_vv are not built.
    """

    def __init__(self, channels: int, num_bessel: int, average_neighbours: float, vectors: bool) -> None:
        super().__init__()
        parts = 3 if vectors else 2
        self.phi = mlp(channels, channels, parts * channels)
        self.filters = linear(num_bessel, parts * channels, bias=False)
        self.channels = channels
        self.scale = average_neighbours**-0.5

    def forward(
        self, s: Tensor, v: Tensor | None, radial: Tensor, directions: Tensor, batch: CrystalBatch
    ) -> tuple[Tensor, Tensor]:
        """Δs, Δv.

        Args:
            s: (N, C).
            v: (N, 3, C), None in the first layer.
            radial: (E, R), radial basis × envelope.
            directions: (E, 3), unit vectors from dst to src.
            batch: whose edges these are.
        """
        messages = self.phi(s).index_select(0, batch.src) * (self.filters(radial) * self.scale)
        to_s, from_direction, *from_vectors = messages.split(self.channels, dim=1)
        to_v = from_direction.unsqueeze(1) * directions.unsqueeze(2)
        if v is not None:
            to_v = to_v + v.index_select(0, batch.src) * from_vectors[0].unsqueeze(1)
        return batch.sum_to_atoms(to_s), batch.sum_to_atoms(to_v)


class Update(nn.Module):
    """Update of an atom by the message: the paper's eqs. (9) and (10).

    Δs = a_ss + a_sv ⟨Uv, Vv⟩ and Δv = a_vv Uv, with a = MLP([s, ‖Vv‖]) and linear maps U, V of the channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.U = linear(channels, channels, bias=False)
        self.V = linear(channels, channels, bias=False)
        self.a = mlp(2 * channels, channels, 3 * channels)

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Δs, Δv."""
        Uv, Vv = self.U(v), self.V(v)
        a_ss, a_sv, a_vv = self.a(torch.cat([s, safe_norm(Vv)], dim=1)).chunk(3, dim=1)
        return a_ss + a_sv * (Uv * Vv).sum(dim=1), a_vv.unsqueeze(1) * Uv
