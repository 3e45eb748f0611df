"""Forces of the `sevenn` package's own SevenNet-0, by its own force module: forces_sevenn_package.py BATCHES [OUT].

OUT takes the forces, and the gradients by the parameters of the checkpoint. The module differentiates by the edge
vectors, makes stresses beside the forces, and in training keeps the graph.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import sevenn
import sevenn._keys as KEY
import torch
from force_passes import gradients, read_groups, serve_forces
from sevenn_package import as_package, model
from torch import Tensor
from torch.nn.functional import normalize

from zoo_sevennet.checkpoint import CHECKPOINTS, _weights


def run(batch: dict[str, Tensor], training: bool) -> tuple[Tensor, Tensor]:
    """Whether the graph is kept is for the mode of the module to say."""
    assert model.training == training
    found = model({**batch, KEY.EDGE_VEC: batch[KEY.EDGE_VEC].detach()})
    return found[KEY.PRED_TOTAL_ENERGY], found[KEY.PRED_FORCE]


def of_checkpoint(name: str, gradient: Tensor) -> Tensor:
    """Undo what the package does on reading: it sorts the columns of the last radial weights and changes some signs."""
    now = model.get_parameter(name).detach()
    if torch.equal(now, state[name]):
        return gradient
    overlap = normalize(now, dim=0).T @ normalize(state[name], dim=0)
    place = overlap.abs().argmax(0)
    sign = overlap[place, torch.arange(len(place))].sign()
    assert torch.equal(sign * now[:, place], state[name])
    return sign * gradient[:, place]


folder, *out = sys.argv[1:]
groups = {name: as_package(arrays) for name, arrays in read_groups(folder).items()}
fixed = ("denominator", "shift", "scale")  # the package does not train them
names = [name for name, p in model.named_parameters() if not name.endswith(fixed)]
for name in names:
    model.get_parameter(name).requires_grad_()
if out:
    batch = groups["crystals"]
    forces = run(batch, False)[1].detach().numpy()
    state = _weights(CHECKPOINTS["SevenNet-0"], None)[0]
    model.train()
    found = gradients(run, [model.get_parameter(name) for name in names], batch, batch[KEY.BATCH])
    by_parameter = {name: of_checkpoint(name, one).numpy() for name, one in zip(names, found, strict=True)}
    np.savez(Path(out[0]), forces=forces, **by_parameter)
inputs = {name: (batch, batch[KEY.BATCH]) for name, batch in groups.items()}
serve_forces(run, model, inputs, {"sevenn": sevenn.__version__})
