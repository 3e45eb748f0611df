"""Passes over a potential: energies and forces, and a training step on both.

Nothing of the zoo is needed here, so that workers in the environments of other packages use it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from passes import read_batches
from serve import serve
from torch import Tensor, nn

Input = TypeVar("Input")
Run = Callable[[Input, bool], tuple[Tensor, Tensor]]
ORDERS = ("energy and forces", "step")


def loss_of(energy: Tensor, forces: Tensor, crystal: Tensor) -> Tensor:
    """Mean squares of the energies an atom (eV) and of the components of the forces (eV/Å).

    What a step costs does not depend on the labels: they are zero.
    """
    return (energy / torch.bincount(crystal)).square().mean() + forces.square().mean()


def gradients(run: Run[Input], parameters: Sequence[nn.Parameter], batch: Input, crystal: Tensor) -> list[Tensor]:
    """Return the gradient of the loss by each of the parameters."""
    loss = loss_of(*run(batch, True), crystal)
    return list(torch.autograd.grad(loss, parameters, materialize_grads=True))


def read_groups(folder: str) -> dict[str, dict[str, Any]]:
    """The batch in each of the folders of `folder`, by their names."""
    return {path.name: read_batches(str(path))[0] for path in sorted(Path(folder).iterdir())}


def serve_forces(
    run: Run[Input],
    module: nn.Module,
    groups: Mapping[str, tuple[Input, Tensor]],
    about: dict[str, Any],
) -> None:
    """Serve "GROUP, energy and forces", with the parameters frozen as in a calculator, and "GROUP, step".

    Args:
        run: energies (B,) and forces (N, 3) of a batch; the second argument says that they will be differentiated.
        module: its parameters that want a gradient are trained in a step.
        groups: a batch, and the crystal of each of its atoms (N,).
        about: what is said of the passes.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]

    def trained(whether: bool) -> None:
        module.train(whether)
        for p in parameters:
            p.requires_grad_(whether)

    def evaluate(batch: Input, crystal: Tensor) -> None:
        trained(False)
        run(batch, False)

    def step(batch: Input, crystal: Tensor) -> None:
        trained(True)
        gradients(run, parameters, batch, crystal)

    passes, said = {}, {}
    for name, (batch, crystal) in groups.items():
        for order, act in zip(ORDERS, (evaluate, step), strict=True):
            passes[f"{name}, {order}"] = partial(act, batch, crystal)
            said[f"{name}, {order}"] = {
                **about,
                "items": len(crystal),
                "parameters": sum(p.numel() for p in parameters),
            }
    serve(passes, said)
