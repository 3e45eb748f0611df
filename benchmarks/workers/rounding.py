"""A training step of nequip_dtnet_total on 32 crystals, by precision: rounding.py STEPS.

The model is trained for so many steps in float32 first: an untrained tensor is nearly isotropic. `about` holds, for
each part of the model that is rounded, what that does to the tensors, their equivariance and the gradients.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from unittest import mock

import numpy as np
import torch
from serve import serve
from torch import Tensor, nn

from zoo.config import plugins, recipe
from zoo.contract.batch import CrystalBatch
from zoo.contract.plugin import Record
from zoo.graphs.graph import collate, crystal_graph
from zoo.model import tensor_model as models
from zoo.training.mean_error import mae_of_components
from zoo.training.precision import DTYPES, Precision, dense_maps, rounded
from zoo.workflows.train import target_of

CPU = torch.device("cpu")
Round = Callable[[torch.dtype], AbstractContextManager[None]]

config = recipe.read("nequip_dtnet_total")
target = target_of(config)
torch.manual_seed(0)
model = models.build(config.encoder, config.readout, target)
dataset = plugins.load("dataset", "petousis2017")(plugins.hypers("dataset", "petousis2017", {}))
records = [r for r in dataset.records() if isinstance(r, Record) and abs(r.targets["total"]).max() < 100]
records = [records[i] for i in np.random.default_rng(0).permutation(len(records))[:64]]
true = torch.from_numpy(np.stack([r.targets["total"] for r in records])).float()
graphs = [crystal_graph(record.structure, model.encoder.cutoff) for record in records]
exact = collate(graphs[32:], torch.float64)
turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
turned = dataclasses.replace(exact, positions=exact.positions @ turn.T, cell=exact.cell @ turn.T)
here, there = exact.to(dtype=torch.float32), turned.to(dtype=torch.float32)


def step(batch: CrystalBatch, wanted: Tensor) -> Tensor:
    """The tensors; leaves gradients."""
    model.zero_grad()
    predicted = model(batch)
    mae_of_components(predicted, wanted, target).backward()
    return predicted.detach()


def train(steps: int) -> None:
    """In float32, on the other 32 crystals."""
    model.fit_normaliser(true)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = collate(graphs[:32])
    for _ in range(steps):
        step(batch, true[:32])
        optimizer.step()


@contextmanager
def rounded_vectors(dtype: torch.dtype) -> Iterator[None]:
    """The rounding that the zoo never does."""
    own = CrystalBatch.edge_vectors
    with mock.patch.object(CrystalBatch, "edge_vectors", lambda batch: own(batch).to(dtype).float()):
        yield


def only(maps: list[nn.Module]) -> Round:
    return lambda dtype: rounded(maps, dtype, CPU)


def gradient() -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def effect(rounding: AbstractContextManager[None], tensors: Tensor, slope: Tensor) -> dict[str, float]:
    """Relative to the norms of float32's tensors and gradient."""
    with rounding:
        found = step(here, true[32:])
        with torch.no_grad():
            back = turn.T.float() @ model(there) @ turn.float()
    size = tensors.flatten(1).norm(dim=1)
    equivariance = (back - found).flatten(1).norm(dim=1) / size
    tensor = (found - tensors).flatten(1).norm(dim=1) / size
    return {
        "equivariance": equivariance.median().item(),
        "equivariance_max": equivariance.max().item(),
        "tensor": tensor.median().item(),
        "tensor_max": tensor.max().item(),
        "gradient": ((gradient() - slope).norm() / slope.norm()).item(),
    }


def plain_autocast(dtype: torch.dtype) -> str:
    """Describe the effect of autocast around the whole model."""
    try:
        with torch.autocast("cpu", dtype):
            step(here, true[32:])
    except (RuntimeError, TypeError) as error:
        return f"it stops: {str(error).splitlines()[0]}"
    return "it runs"


train(int(sys.argv[1]))
model.eval()
readout = dense_maps(model.readout)
of_rank = [module for name, module in model.readout.named_modules() if "vector" in name or "tensor" in name]
parts: dict[str, Round] = {
    "all dense maps: `training.precision`": only(dense_maps(model)),
    "those of the encoder": only(dense_maps(model.encoder)),
    "those of the readout": only(readout),
    "of these, on invariants": only([module for module in readout if module not in of_rank]),
    "of these, on vectors and tensors": only([module for module in readout if module in of_rank]),
    "edge vectors, which the zoo never rounds": rounded_vectors,
}
tensors = step(here, true[32:])
slope = gradient()
effects = {"float32, nothing rounded": effect(nullcontext(), tensors, slope)}
for name, dtype in DTYPES.items():
    for part, rounding in parts.items():
        effects[f"{name}, {part}"] = effect(rounding(dtype), tensors, slope)


def pass_in(name: str) -> Callable[[], None]:
    precision = Precision(name, model, CPU)

    def one_pass() -> None:
        with precision():
            step(here, true[32:])

    return one_pass


about = {"items": len(graphs) - 32, "effects": effects, "plain_autocast": plain_autocast(torch.bfloat16)}
serve({name: pass_in(name) for name in ("float32", *DTYPES)}, dict.fromkeys(("float32", *DTYPES), about))
