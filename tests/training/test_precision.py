"""Steps in bfloat16 and float16: dense maps alone are rounded, for every encoder and readout there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cli import refused, zoo
from pymatgen.core import Lattice, Structure

from zoo.config import recipe
from zoo.config.recipe import EncoderChoice, Plugin
from zoo.contract.target import TensorTarget
from zoo.graphs.graph import collate, crystal_graph
from zoo.model import tensor_model as models
from zoo.storage.run_folder import RunFolder, read_history
from zoo.training.mean_error import mae_of_components
from zoo.training.precision import DTYPES, Precision, dense_maps
from zoo.workflows.train import run

CPU = torch.device("cpu")
QUARTZ = Structure.from_spacegroup(
    "P3_121", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.2144]]
)
PAIRS = [
    ({"name": "nequip", "layers": 2, "channels": 16}, {"name": "dtnet", "width": 16, "dropout": 0.0}),
    ({"name": "sevennet-scratch"}, {"name": "matten", "dropout": 0.0}),
    ({"name": "teanet"}, {"name": "dtnet-exp", "width": 16, "dropout": 0.0}),
    ({"name": "painn"}, {"name": "painn-rank1"}),
    ({"name": "m3gnet"}, {"name": "strain"}),
]


def rotated(structure: Structure, turn: np.ndarray) -> Structure:
    return Structure(structure.lattice.matrix @ turn.T, structure.species, structure.frac_coords)


@pytest.mark.parametrize("precision", sorted(DTYPES))
@pytest.mark.parametrize(("encoder", "readout"), PAIRS, ids=lambda part: part["name"])
def test_a_step_is_near_that_of_float32_and_the_tensor_nearly_equivariant(
    encoder: dict, readout: dict, precision: str
) -> None:
    torch.manual_seed(0)
    model = models.build(EncoderChoice(**encoder), Plugin(**readout), TensorTarget("total"))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    one, other = (collate([crystal_graph(s, model.encoder.cutoff)]) for s in (QUARTZ, rotated(QUARTZ, turn)))
    found = {}
    for name in ("float32", precision):
        mode = Precision(name, model, CPU)
        model.zero_grad()
        with mode():
            predicted = model(one)
            mae_of_components(predicted, torch.eye(3)[None], model.target).backward()
            turned = model(other)
        assert predicted.dtype == torch.float32
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        back = torch.from_numpy(turn.T).float() @ turned.detach() @ torch.from_numpy(turn).float()
        found[name] = predicted.detach(), gradient, back
    assert not any("forward" in vars(module) for module in model.modules()), "the model is as it was"
    (tensor, slope, _), (less, less_slope, back) = found["float32"], found[precision]
    assert not torch.equal(tensor, less), "something was rounded"
    size = max(tensor.norm(), 0.05)  # an untrained tensor may be next to nothing
    assert (tensor - less).norm() < 0.02 * size
    assert (less - back).norm() < 0.02 * size
    assert (slope - less_slope).norm() < 0.1 * slope.norm()


def test_narrow_maps_and_the_geometry_are_left_alone() -> None:
    model = models.build(
        EncoderChoice(name="nequip", layers=1, channels=16), Plugin(name="dtnet", width=16), TensorTarget("total")
    )
    names = {name for name, module in model.named_modules() if module in set(dense_maps(model))}
    assert "readout.blocks.0.vector" in names and "encoder.interactions.0.linear_1" in names
    assert not any(name in names for name in ("readout.head.vector", "readout.head.tensor", "normaliser"))


class Killed(BaseException):
    """Stands for a kill of the process: a BaseException, which no handler of the trained code catches."""


def test_float16_goes_on_with_its_scale(small: dict, tmp_path: Path) -> None:
    def train(name: str, on_epoch=None) -> dict:
        return run(recipe.parse(small, name), RunFolder(tmp_path / name), lambda line: None, on_epoch)

    def kill(seed: int, row: dict) -> None:
        if row["epoch"] == 2:
            raise Killed

    small["data"]["limit"] = 20
    small["training"]["precision"] = "float16"
    whole = train("whole")
    with pytest.raises(Killed):
        train("killed", kill)
    assert train("killed") == whole
    history = read_history(RunFolder(tmp_path / "whole").seed(0))
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_what_a_device_has_not_got_is_refused(tmp_path: Path) -> None:
    asked = ("run", "dtnet_total", "device=cpu", "training.precision=tf32")
    refused(zoo(*asked, cwd=tmp_path), "'tf32' is not to be had on cpu; there is float32, bfloat16, float16")
