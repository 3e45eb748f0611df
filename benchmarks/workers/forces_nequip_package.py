"""Forces of a potential of the `nequip` package's own modules: forces_nequip_package.py BATCHES HYPERS.

HYPERS and model are those of nequip_package.py, with the energy of `zoo.api.Potential` on its scalars: one hidden layer
and an energy of each element. Forces are torch.autograd.grad by the positions, as in the package's force module, which
makes stresses, too.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import nequip
import torch
from e3nn import o3
from force_passes import read_groups, serve_forces
from nequip.data import AtomicDataDict
from nequip_package import ELEMENTS, FEATURES, as_package, build
from torch import Tensor, nn


class Potential(nn.Module):
    def __init__(self, hypers: dict[str, Any], width: int = 64) -> None:
        super().__init__()
        self.features = build(hypers, "eager")
        irreps = o3.Irreps(hypers["irreps"][-1])
        self.places = [
            n
            for part, (_, ir) in zip(irreps.slices(), irreps, strict=True)
            if ir == "0e"
            for n in range(part.start, part.stop)
        ]
        self.reference = nn.Embedding(len(ELEMENTS), 1)
        self.atomic_energy = nn.Sequential(nn.Linear(len(self.places), width), nn.SiLU(), nn.Linear(width, 1))
        self.float()  # building the features has made float64 the default

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """(B,) eV."""
        scalars = self.features(batch)[FEATURES][:, self.places]
        atomic = self.atomic_energy(scalars) + self.reference(batch[AtomicDataDict.ATOM_TYPE_KEY])
        count = len(batch[AtomicDataDict.NUM_NODES_KEY])
        return atomic.new_zeros(count).index_add(0, batch[AtomicDataDict.BATCH_KEY], atomic.squeeze(-1))


def run(batch: dict[str, Tensor], training: bool) -> tuple[Tensor, Tensor]:
    """Energies, and forces by the derivative by the positions alone."""
    positions = batch[AtomicDataDict.POSITIONS_KEY].detach().requires_grad_()
    energy = potential({**batch, AtomicDataDict.POSITIONS_KEY: positions})
    (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=training)
    return energy, -slope


folder, text = sys.argv[1:]
potential = Potential(json.loads(text))
batches = {name: as_package(arrays) for name, arrays in read_groups(folder).items()}
inputs = {name: (batch, batch[AtomicDataDict.BATCH_KEY]) for name, batch in batches.items()}
serve_forces(run, potential, inputs, {"nequip": nequip.__version__})
