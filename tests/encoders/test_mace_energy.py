"""The energy of `mace` against mace-torch, and models whose energy the zoo does not compute."""

from __future__ import annotations

import lzma
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from converted_energy import ConvertedEnergyTests, check_energies
from golden import DATA, batch_of, build, golden
from small_crystals import quartz, random_p1

from zoo.api import Weights, ZooError
from zoo.storage.weights import read_metadata, save_weights
from zoo.testing import check_atomic_energies, check_hessian
from zoo_mace import MACE, checkpoint
from zoo_mace.pickled import PickledObject, read_pickled_module

FOLDER = DATA / "mace"


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("mace") / "residual.model")


def unpacked(path: Path) -> Path:
    path.write_bytes(lzma.decompress((FOLDER / "residual.model.xz").read_bytes()))
    return path


class TestResidual(ConvertedEnergyTests):
    """The blocks of MACE-MP-0a: a linear and a non-linear readout, scale, shift and reference energies."""

    encoder = MACE
    answers = FOLDER / "residual.features.safetensors"

    @staticmethod
    def convert() -> Weights:
        return converted()


def converted() -> Weights:
    """The pickled model, converted here."""
    with tempfile.TemporaryDirectory() as folder:
        return MACE.convert(unpacked(Path(folder) / "residual.model"))


def test_with_the_repulsion_of_nuclei():
    """The blocks of MACE-MP-0b3 and MPA-0. mace rounds the screening lengths to float32: 3e-9 eV/Å."""
    encoder = build(MACE, weights=str(FOLDER / "density.safetensors"), layer=1)
    assert encoder.energy_model().head.repulsion is not None
    assert check_energies(encoder, golden(FOLDER / "density.features.safetensors"), 1e-9) == 3


def test_second_derivatives_with_the_repulsion():
    encoder = build(MACE, weights=str(FOLDER / "density.safetensors"))
    check_hessian(encoder, batch_of(encoder, quartz(), random_p1()))
    check_atomic_energies(encoder, batch_of(encoder, quartz(), random_p1()))


def test_the_repulsion_shows():
    """The test above would pass without it if the atoms were too far from each other."""
    encoder = build(MACE, weights=str(FOLDER / "density.safetensors"), layer=1)
    with_it = encoder.energy(batch_of(encoder, quartz()))
    encoder.energy_model().head.repulsion = None
    assert (with_it - encoder.energy(batch_of(encoder, quartz()))).abs() > 1e-2


@pytest.mark.mace
@pytest.mark.parametrize("variant", ["residual", "density", "third-order", "public", "agnostic"])
def test_models_made_just_now(tmp_path, variant):
    folder = Path(os.environ["ZOO_FOREIGN"]) / "mace" / variant
    save_weights("mace", MACE.convert(folder / "mace.model"), tmp_path / "made.safetensors")
    encoder = build(MACE, weights=str(tmp_path / "made.safetensors"), layer=1)
    tolerance = 1e-9 if variant == "density" else 1e-12
    assert check_energies(encoder, golden(folder / "features.safetensors"), tolerance) == 3


def two_heads(model: PickledObject) -> None:
    model.state["heads"] = ["pbe", "r2scan"]


def other_readout(model: PickledObject) -> None:
    type(next(iter(model.children()["readouts"].children().values()))).name = "NonLinearBiasReadoutBlock"


def tanh(model: PickledObject) -> None:
    last = list(model.children()["readouts"].children().values())[-1]
    act = next(iter(last.children()["non_linearity"].children()["acts"].children().values()))
    act.state["f"] = type("tanh", (PickledObject,), {"name": "tanh"})


def other_repulsion(model: PickledObject) -> None:
    model.state["pair_repulsion"] = True
    model.state["_modules"]["pair_repulsion_fn"] = model.children()["scale_shift"]


def two_energies(model: PickledObject) -> None:
    block = model.children()["atomic_energies_fn"]
    block.state["_buffers"]["atomic_energies"] = torch.zeros(2, 12)


def one_readout_too_many(model: PickledObject) -> None:
    readouts = model.children()["readouts"].state["_modules"]
    readouts["2"] = readouts["1"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (two_heads, "2 heads"),
        (other_readout, "readouts of the kind NonLinearBiasReadoutBlock"),
        (tanh, "not silu"),
        (other_repulsion, "as ScaleShiftBlock says"),
        (two_energies, "24 reference energies for 12 elements"),
        (one_readout_too_many, "3 readouts for 2 layers"),
    ],
)
def test_an_energy_that_the_zoo_does_not_compute(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pickled: Path,
    change: Callable[[PickledObject], None],
    reason: str,
) -> None:
    """The features are converted; of the energy it is said why there is none, not a part of it left out."""
    model = read_pickled_module(pickled)
    change(model)
    monkeypatch.setattr(checkpoint, "read_pickled_module", lambda _: model)
    save_weights("mace", MACE.convert(pickled), tmp_path / "made.safetensors")
    assert reason in read_metadata("mace", tmp_path / "made.safetensors")["energy"]
    encoder = build(MACE, weights=str(tmp_path / "made.safetensors"))
    assert not MACE.provides(encoder.hypers).energy
    assert encoder(batch_of(encoder, quartz())).atoms.values.isfinite().all()
    with pytest.raises(ZooError, match=rf"made\.safetensors holds no energy: .*{reason}"):
        encoder.energy(batch_of(encoder, quartz()))


def test_a_model_that_reads_charges(monkeypatch: pytest.MonkeyPatch, pickled: Path) -> None:
    model = read_pickled_module(pickled)
    model.state["_modules"]["joint_embedding"] = model.children()["scale_shift"]
    monkeypatch.setattr(checkpoint, "read_pickled_module", lambda _: model)
    with pytest.raises(ZooError, match="reads charges, spins or the like"):
        MACE.convert(pickled)
