"""The graph convolution: bonds learn of their atoms, then atoms of their bonds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu


class EdgePerceptron(nn.Module):
    """φ(v_i ⊕ v_j ⊕ e_ij), M3GNet's gated multilayer perceptron, of two layers.

    The gate branches off after the first layer, as the paper writes it. That layer's part from the atoms is made once
    an atom: there are thirty times as many edges.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.atom = nn.Linear(channels, 2 * channels)
        self.edge = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, 2 * channels)

    def forward(self, atoms: Tensor, edges: Tensor, src: Tensor, dst: Tensor) -> Tensor:
        """Atoms (N, C) and edges (E, C) -> (E, C)."""
        to, of = self.atom(atoms).chunk(2, dim=-1)
        hidden = silu(self.edge(edges) + to.index_select(0, dst) + of.index_select(0, src))
        value, gate = self.out(hidden).chunk(2, dim=-1)
        return silu(value) * torch.sigmoid(gate)


class GraphConvolution(nn.Module):
    """M3GNet's updates of bonds and atoms, without the state of the crystal that the paper has as an option.

    e_ij' = e_ij + φ_e(v_i ⊕ v_j ⊕ e_ij) ⊙ W_e e0_ij, then v_i' = v_i + Σ_j φ_v(v_i ⊕ v_j ⊕ e_ij') ⊙ W_v e0_ij.

    Args:
        channels: of atoms and edges.
        radial: number of radial basis functions, of which e0 is made.
    """

    def __init__(self, channels: int, radial: int) -> None:
        super().__init__()
        self.edge_update = EdgePerceptron(channels)
        self.atom_update = EdgePerceptron(channels)
        self.edge_weight = nn.Linear(radial, channels, bias=False)
        self.atom_weight = nn.Linear(radial, channels, bias=False)

    def forward(self, atoms: Tensor, edges: Tensor, radial: Tensor, src: Tensor, dst: Tensor) -> tuple[Tensor, Tensor]:
        """Atoms (N, C), edges (E, C) and e0 (E, R) -> the new atoms and edges."""
        edges = edges + self.edge_update(atoms, edges, src, dst) * self.edge_weight(radial)
        messages = self.atom_update(atoms, edges, src, dst) * self.atom_weight(radial)
        return atoms.index_add(0, dst, messages), edges
