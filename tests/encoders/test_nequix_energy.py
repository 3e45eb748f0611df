"""The energy of `nequix` against the package nequix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from converted_energy import ConvertedEnergyTests, check_energies
from golden import DATA, batch_of, build, golden
from small_crystals import quartz

from zoo.api import ConvertedEncoder, Weights
from zoo.storage.weights import save_weights
from zoo.testing import check_atomic_energies, check_hessian
from zoo_nequix import Nequix

FOLDER = DATA / "nequix"


class TestPotential(ConvertedEnergyTests):
    """A small one: readout, scale and shift, energies of isolated atoms."""

    encoder = Nequix
    answers = FOLDER / "features.safetensors"

    @staticmethod
    def convert() -> Weights:
        return Nequix.convert(FOLDER / "model.nqx")

    def build(self, weights: str, dtype: torch.dtype = torch.float64, **hypers: object) -> ConvertedEncoder:
        """Its default is layer 3, of the four of the published models."""
        return super().build(weights, dtype, **{"layer": 2, **hypers})


@pytest.mark.nequix
@pytest.mark.shared
@pytest.mark.parametrize("name", ["nequix-mp-1", "nequix-mp-1-pft", "nequix-oam-1-pft"])
def test_the_published_potentials(shared_data, tmp_path, name):
    """On rattled crystals."""
    save_weights("nequix", Nequix.convert(shared_data / "nequix" / f"{name}.nqx"), tmp_path / "m.safetensors")
    encoder = build(Nequix, weights=str(tmp_path / "m.safetensors"), layer=1)
    crystals = golden(Path(os.environ["ZOO_FOREIGN"]) / "nequix" / "published.safetensors", f"{name}:")
    assert check_energies(encoder, crystals, 1e-10) == 3
    check_hessian(encoder, batch_of(encoder, quartz()))
    check_atomic_energies(encoder, batch_of(encoder, quartz()))


@pytest.mark.nequix
@pytest.mark.parametrize("variant", ["small", "other"])
def test_models_made_just_now(tmp_path, variant):
    folder = Path(os.environ["ZOO_FOREIGN"]) / "nequix" / variant
    save_weights("nequix", Nequix.convert(folder / "model.nqx"), tmp_path / "made.safetensors")
    encoder = build(Nequix, weights=str(tmp_path / "made.safetensors"), layer=1)
    assert check_energies(encoder, golden(folder / "features.safetensors")) == 3
