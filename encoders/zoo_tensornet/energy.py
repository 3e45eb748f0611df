"""The energy of matgl's TensorNet: all layers, the readout of the atoms' energies, and the elements' references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo.api import CrystalBatch
from zoo_tensornet.network import SIZES, Network, edges_of

GATED = "final_layer.gated."
"""Prefix of matgl's names of the perceptron and its gates."""


READOUT = ("out_norm.weight", "out_norm.bias", "linear.weight", "linear.bias")


def why_none(content: Mapping[str, Any], state: Mapping[str, Tensor]) -> str | None:
    """Why matgl's files give no energy that the zoo can compute, in words; None where they do.

    Args:
        content: of `model.json`.
        state: of `state.pt`, names without `model.`.
    """
    if content.get("@class") != "Potential":
        return "it is of a bare TensorNet, not of one of matgl's potentials, which know scale and reference energies"
    settings = content["kwargs"]["model"]["init_args"]
    if settings.get("is_intensive") or settings.get("ntargets", 1) != 1:
        return "its readout is not one energy, a sum over the atoms"
    if content["kwargs"].get("calc_repuls") or content["kwargs"].get("calc_charge"):
        return "it adds the repulsion of nuclei, or charges, which the zoo does not run"
    if float(state.get("data_mean", torch.zeros(()))) != 0:
        return "it adds a constant to each crystal, of which two cells would not have twice as much"
    if not widths(state, f"{GATED}layers.") or any(name not in state for name in (*READOUT, "data_std")):
        return "its readout is not matgl's gated perceptron"
    return None


def energy_tensors(state: Mapping[str, Tensor], elements: int) -> dict[str, Tensor]:
    """Pick the tensors of `EnergyHead` from matgl's state, whose names are without `model.`."""
    tensors = {name: state[name] for name in READOUT} | {"scale": state["data_std"].reshape(())}
    tensors |= {name.removeprefix(GATED): x for name, x in state.items() if name.startswith(GATED)}
    tensors["references"] = state.get("element_refs.property_offset", torch.zeros(elements)).reshape(elements)
    return tensors


def widths(state: Mapping[str, Tensor], prefix: str) -> list[int]:
    """Sizes of a perceptron whose maps are named `prefix` 0, 2, 4, ..., without what goes in."""
    found: list[int] = []
    while (name := f"{prefix}{2 * len(found)}.weight") in state:
        found.append(state[name].shape[0])
    return found


class EnergyHead(nn.Module):
    """Energy of each atom: a perceptron on the squared norms of the parts I, A and S, which another one gates.

    Args:
        units: channels C.
        widths: of the perceptron, the last is 1.
        elements: how many are known.
    """

    scale: Tensor
    references: Tensor

    def __init__(self, units: int, widths: Sequence[int], elements: int) -> None:
        super().__init__()
        self.out_norm = nn.LayerNorm(3 * units)
        self.linear = nn.Linear(3 * units, units)
        self.layers, self.gates = (_perceptron([units, *widths]) for _ in range(2))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("references", torch.zeros(elements))

    def forward(self, parts: Tensor, species: Tensor) -> Tensor:
        """(N, 9, C) and the index of each atom's element (N,) -> (N,) eV."""
        norms = torch.cat([part.pow(2).sum(1) for part in parts.split(SIZES, dim=1)], dim=-1)
        hidden = self.linear(self.out_norm(norms))
        energy = (self.layers(hidden) * torch.sigmoid(self.gates(hidden))).squeeze(-1)
        return self.scale * energy + self.references[species]


class EnergyModel(nn.Module):
    """The potential: Simeon, De Fabritiis, NeurIPS 2023, with matgl's gated readout.

    Args:
        radial_basis: as the features have it.
        network: with all interaction layers.
        head: on what the last one gives.
        cutoff: Å.
    """

    def __init__(self, radial_basis: nn.Module, network: Network, head: EnergyHead, cutoff: float) -> None:
        super().__init__()
        self.radial_basis, self.network, self.head, self.cutoff = radial_basis, network, head, cutoff

    def forward(self, species: Tensor, batch: CrystalBatch) -> Tensor:
        """Index of each atom's element (N,) and the batch -> (N,) eV."""
        edges, directions = edges_of(batch, self.radial_basis, self.cutoff)
        parts = self.network(species, edges, directions)[-1]
        return cast(Tensor, self.head(parts, species))


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear maps with SiLU between them."""
    steps: list[nn.Module] = []
    for a, b in pairwise(widths):
        steps += [nn.Linear(a, b), nn.SiLU()]
    return nn.Sequential(*steps[:-1])
