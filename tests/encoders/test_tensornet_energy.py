"""The energy of `tensornet` against matgl, and models whose energy the zoo does not compute."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from converted_energy import ConvertedEnergyTests, check_energies
from golden import DATA, batch_of, build, golden
from pymatgen.core import Lattice, Structure
from small_crystals import quartz

from zoo.api import Weights, ZooError
from zoo.storage.weights import save_weights, sha256_of
from zoo.testing import check_atomic_energies, check_hessian
from zoo_tensornet import TensorNet

FOLDER = DATA / "tensornet"


class TestPotential(ConvertedEnergyTests):
    """A small one of matgl's potentials: readout, scale and reference energies."""

    encoder = TensorNet
    answers = FOLDER / "potential" / "features.safetensors"

    @staticmethod
    def convert() -> Weights:
        return TensorNet.convert(FOLDER / "potential" / "state.pt")


@pytest.mark.shared
@pytest.mark.parametrize("functional", ["PBE", "r2SCAN"])
def test_the_published_potentials(shared_data, tmp_path, functional):
    """MatPES, on rattled crystals, by the matgl of their time, 2.0.6, which keeps constants in float32.

    `python make_tensornet.py published matpes.safetensors ../shared/data/matgl/*`; matgl 4 takes the two elements of a
    pair in another order, and gives nonsense for these weights.
    """
    name = f"TensorNet-MatPES-{functional}-v2025.1-PES"
    save_weights("tensornet", TensorNet.convert(shared_data / "matgl" / name / "state.pt"), tmp_path / "m.safetensors")
    encoder = build(TensorNet, weights=str(tmp_path / "m.safetensors"), layer=1)
    assert check_energies(encoder, golden(FOLDER / "matpes.safetensors", f"{name}:"), tolerance=1e-7) == 3
    check_hessian(encoder, batch_of(encoder, quartz()))
    check_atomic_energies(encoder, batch_of(encoder, quartz()))


@pytest.mark.tensornet
def test_a_model_made_just_now(tmp_path):
    folder = Path(os.environ["ZOO_FOREIGN"]) / "tensornet" / "potential"
    save_weights("tensornet", TensorNet.convert(folder / "state.pt"), tmp_path / "made.safetensors")
    encoder = build(TensorNet, weights=str(tmp_path / "made.safetensors"))
    assert check_energies(encoder, golden(folder / "features.safetensors")) == 3


@pytest.mark.shared
def test_rock_salt_is_bound_at_its_size(shared_data, tmp_path):
    """MgO: a compound tells which of the two elements of a pair is which."""
    source = shared_data / "matgl" / "TensorNet-MatPES-PBE-v2025.1-PES" / "state.pt"
    save_weights("tensornet", TensorNet.convert(source), tmp_path / "m.safetensors")
    encoder = build(TensorNet, weights=str(tmp_path / "m.safetensors"))

    def energy(a: float) -> float:
        cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        return encoder.energy(batch_of(encoder, cell)).item() / len(cell)

    sizes = [4.15, 4.25, 4.35]
    energies = [energy(a) for a in sizes]
    assert min(energies) == energies[1] and -6.0 < energies[1] < -5.7


@pytest.mark.shared
def test_published_weights_that_were_converted_in_the_other_order_are_refused(shared_data, tmp_path):
    source = shared_data / "matgl" / "TensorNet-MatPES-PBE-v2025.1-PES" / "state.pt"
    made = TensorNet.convert(source)
    metadata = {key: value for key, value in made.metadata.items() if key != "pairs"}
    old = Weights(made.tensors, {**metadata, "source_sha256": sha256_of(source)})
    save_weights("tensornet", old, tmp_path / "old.safetensors")
    with pytest.raises(ZooError, match="convert it anew with zoo convert tensornet"):
        build(TensorNet, weights=str(tmp_path / "old.safetensors"))


def test_a_file_of_the_first_release():
    """It is of a bare model too, but this is not yet known of it."""
    encoder = build(TensorNet, weights=str(FOLDER / "tensornet.safetensors"))
    assert not TensorNet.provides(encoder.hypers).energy
    assert encoder.fingerprint().startswith("47411722a1cbe254")
    with pytest.raises(ZooError, match="convert it anew"):
        encoder.energy(batch_of(encoder, quartz()))


@pytest.mark.parametrize(
    ("settings", "model", "state", "reason"),
    [
        ({"calc_repuls": True}, {}, {}, "repulsion of nuclei"),
        ({}, {"is_intensive": True}, {}, "not one energy"),
        ({}, {"ntargets": 2}, {}, "not one energy"),
        ({}, {}, {"data_mean": torch.tensor(-1.0)}, "a constant to each crystal"),
        ({}, {}, {"data_std": None}, "gated perceptron"),
    ],
)
def test_an_energy_that_the_zoo_does_not_compute(tmp_path, settings, model, state, reason):
    """The features are converted; of the energy it is said why there is none, not a part of it left out."""
    content = json.loads((FOLDER / "potential" / "model.json").read_text())
    content["kwargs"] |= settings
    content["kwargs"]["model"]["init_args"] |= model
    (tmp_path / "model.json").write_text(json.dumps(content))
    kept = torch.load(FOLDER / "potential" / "state.pt", weights_only=True) | state
    torch.save({name: value for name, value in kept.items() if value is not None}, tmp_path / "state.pt")
    save_weights("tensornet", TensorNet.convert(tmp_path / "state.pt"), tmp_path / "made.safetensors")
    encoder = build(TensorNet, weights=str(tmp_path / "made.safetensors"))
    assert not TensorNet.provides(encoder.hypers).energy
    with pytest.raises(ZooError, match=rf"made\.safetensors holds no energy: .*{reason}"):
        encoder.energy(batch_of(encoder, quartz()))


def test_a_bare_model_has_none(tmp_path):
    save_weights("tensornet", TensorNet.convert(FOLDER / "state.pt"), tmp_path / "made.safetensors")
    with pytest.raises(ZooError, match="bare TensorNet"):
        build(TensorNet, weights=str(tmp_path / "made.safetensors")).energy_model()


def test_references_of_other_elements(tmp_path):
    shutil.copy(FOLDER / "potential" / "model.json", tmp_path)
    kept = torch.load(FOLDER / "potential" / "state.pt", weights_only=True)
    torch.save(kept | {"element_refs.property_offset": torch.zeros(3)}, tmp_path / "state.pt")
    with pytest.raises(ZooError, match=r"state\.pt is not of the model in"):
        TensorNet.convert(tmp_path / "state.pt")
