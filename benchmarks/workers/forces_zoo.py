"""Forces of the zoo's potentials: forces_zoo.py BATCHES ENCODER HYPERS [OUT].

`sevennet` is its own potential, any other encoder one under `Potential`. OUT takes SevenNet-0's forces and gradients,
the latter as those by the parameters of the checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from force_passes import gradients, read_groups, serve_forces
from torch import Tensor, nn

from zoo.api import CrystalBatch, Potential
from zoo.config import plugins
from zoo_sevennet import SevenNet
from zoo_sevennet.checkpoint import _renamed, _weights
from zoo_sevennet.energy import EnergyModel


class SevenNetEnergy(nn.Module):
    """SevenNet-0 with all its parameters, as `Potential` has it."""

    def __init__(self) -> None:
        super().__init__()
        encoder = SevenNet(SevenNet.Hypers())
        self.model = encoder.make_energy_model()
        self.checkpoint, self.species_of = encoder.checkpoint, encoder.species_of

    def energy(self, batch: CrystalBatch) -> Tensor:
        """(B,) eV."""
        atomic = self.model(self.species_of(batch), batch)
        return batch.sum_over_atoms(atomic)

    def of_checkpoint(self, by_ours: Sequence[Tensor]) -> dict[str, Tensor]:
        """Gradients by the parameters of the checkpoint from those by ours, which are made linearly of them."""
        assert isinstance(self.model, EnergyModel)
        ours = dict(zip((name for name, _ in self.model.named_parameters()), by_ours, strict=True))
        state, rows, modality = _weights(self.checkpoint, None)
        theirs = {k: v.requires_grad_() for k, v in state.items() if k.endswith(("weight", "coeffs"))}
        made = _renamed(state, self.model.network, rows, modality)
        made = {f"network.{name}": value for name, value in made.items() if value.requires_grad}
        for n, name in (("1", "reduce_input_to_hidden"), ("2", "reduce_hidden_to_energy")):
            made[f"head.linear_{n}.weight"] = state[f"{name}.linear.weight"]
        along = [ours[name] for name in made]
        found = torch.autograd.grad(list(made.values()), list(theirs.values()), along, allow_unused=True)
        return {name: value for name, value in zip(theirs, found, strict=True) if value is not None}


def run(batch: CrystalBatch, training: bool) -> tuple[Tensor, Tensor]:
    """Energies, and forces by the derivative by the positions alone."""
    positions = batch.positions.detach().requires_grad_()
    energy = potential.energy(dataclasses.replace(batch, positions=positions))
    (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=training)
    return energy, -slope


folder, encoder, hypers, *out = sys.argv[1:]
torch.manual_seed(0)
potential: SevenNetEnergy | Potential
if encoder == "sevennet":
    potential = SevenNetEnergy()
else:
    potential = Potential(plugins.load("encoder", encoder)(plugins.hypers("encoder", encoder, json.loads(hypers))))
groups = {name: CrystalBatch(**arrays) for name, arrays in read_groups(folder).items()}
if out:
    assert isinstance(potential, SevenNetEnergy)
    batch = groups["crystals"]
    by_parameter = potential.of_checkpoint(gradients(run, list(potential.parameters()), batch, batch.crystal))
    forces = run(batch, False)[1]
    arrays: dict[str, Any] = {name: value.numpy() for name, value in by_parameter.items()}
    np.savez(Path(out[0]), forces=forces.numpy(), **arrays)
inputs = {name: (batch, batch.crystal) for name, batch in groups.items()}
serve_forces(run, potential, inputs, {"edges": {name: len(batch.src) for name, batch in groups.items()}})
