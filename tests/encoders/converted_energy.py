"""What holds of the energy of every encoder on converted weights: it is that of the package that they come from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from golden import Golden, batch_of, build, golden
from pymatgen.core import Lattice, Structure
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_crystals import quartz

from zoo.api import ConvertedEncoder, ZooError, forces_and_stress
from zoo.storage.weights import identity, save_weights
from zoo.testing import check_atomic_energies, check_hessian
from zoo.testing.compare import orthogonal_matrices, rotate_crystal


def check_energies(encoder: ConvertedEncoder, crystals: Iterator[Golden], tolerance: float = 1e-12) -> int:
    """Energy, forces and stress are those that the package gave; how many crystals were compared."""
    seen = 0
    for crystal in crystals:
        got, wanted = forces_and_stress(encoder, batch_of(encoder, crystal.structure)), crystal.features
        assert (got.energy - wanted["energy"]).abs().max() < tolerance * len(crystal.structure)
        assert (got.forces - wanted["forces"]).abs().max() < 10 * tolerance
        assert (got.stress[0] - wanted["stress"].view(3, 3)).abs().max() < tolerance
        seen += 1
    return seen


def as_before(source: str, path: Path) -> str:
    """A file as it was converted before there were energies."""
    with safe_open(source, framework="pt") as file:
        header = file.metadata()
    metadata = {key: value for key, value in json.loads(header["metadata"]).items() if key != "energy"}
    tensors = {name: x for name, x in load_file(source).items() if not name.startswith("energy.")}
    save_file(tensors, path, {"format": "1", "encoder": header["encoder"], "metadata": json.dumps(metadata)})
    return str(path)


class ConvertedEnergyTests:
    """Subclass it and name the encoder, the package's answers, and `convert()`: weights made of the package's file."""

    encoder: ClassVar[type[ConvertedEncoder]]
    answers: ClassVar[Path]
    tolerance: ClassVar[float] = 1e-12

    @staticmethod
    def convert() -> Any:
        """The weights, as `Encoder.convert` gives them."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def weights(self, tmp_path_factory: pytest.TempPathFactory) -> str:
        path = tmp_path_factory.mktemp("weights") / "converted.safetensors"
        save_weights(self.encoder.Hypers.encoder, self.convert(), path)
        return str(path)

    def build(self, weights: str, dtype: torch.dtype = torch.float64, **hypers: object) -> ConvertedEncoder:
        return build(self.encoder, dtype, weights=weights, **hypers)

    def test_is_that_of_its_own_package(self, weights: str) -> None:
        encoder = self.build(weights, layer=1)
        assert self.encoder.provides(encoder.hypers).energy
        assert check_energies(encoder, golden(self.answers), self.tolerance) == 3

    def test_in_single_precision_too(self, weights: str) -> None:
        encoder = self.build(weights, torch.float32)
        for crystal in golden(self.answers):
            got = forces_and_stress(encoder, batch_of(encoder, crystal.structure, dtype=torch.float32))
            assert (got.energy - crystal.features["energy"]).abs().max() < 1e-5 * len(crystal.structure)
            assert (got.forces - crystal.features["forces"]).abs().max() < 1e-4

    def test_turns_with_the_crystal_and_grows_with_it(self, weights: str) -> None:
        encoder = self.build(weights)
        crystal = next(golden(self.answers)).structure
        before = forces_and_stress(encoder, batch_of(encoder, crystal))
        for matrix in (*orthogonal_matrices(2), -torch.eye(3, dtype=torch.float64)):
            after = forces_and_stress(encoder, batch_of(encoder, rotate_crystal(crystal, matrix)))
            assert torch.allclose(after.energy, before.energy, rtol=1e-12)
            assert (after.forces - before.forces @ matrix.T).abs().max() < 1e-10
            assert (after.stress - matrix @ before.stress @ matrix.T).abs().max() < 1e-10
        double = crystal.copy().make_supercell([2, 1, 1])
        assert torch.allclose(encoder.energy(batch_of(encoder, double)), 2 * before.energy, rtol=1e-12)

    def test_second_derivatives(self, weights: str) -> None:
        encoder = self.build(weights)
        check_hessian(encoder, batch_of(encoder, *(crystal.structure for crystal in golden(self.answers))))
        check_atomic_energies(encoder, batch_of(encoder, *(crystal.structure for crystal in golden(self.answers))))

    def test_it_changes_nothing_of_the_encoder(self, weights: str) -> None:
        encoder = self.build(weights, layer=1)
        batch = batch_of(encoder, quartz())
        names, fingerprint, values = list(encoder.state_dict()), encoder.fingerprint(), encoder(batch).atoms.values
        encoder.energy(batch)
        assert list(encoder.state_dict()) == names and encoder.fingerprint() == fingerprint
        assert torch.equal(encoder(batch).atoms.values, values)
        other = self.build(weights, layer=(1, 2))
        assert torch.equal(other.energy(batch), encoder.energy(batch))
        assert other.energy_fingerprint() == encoder.energy_fingerprint() != other.fingerprint()

    def test_an_element_that_it_does_not_know(self, weights: str) -> None:
        encoder = self.build(weights)
        with pytest.raises(ZooError, match="does not know Cm"):
            encoder.energy(batch_of(encoder, Structure(Lattice.cubic(3), ["Cm"], [[0, 0, 0]])))

    def test_an_atom_alone(self, weights: str) -> None:
        encoder = self.build(weights)
        alone = forces_and_stress(encoder, batch_of(encoder, Structure(Lattice.cubic(30), ["Si"], [[0, 0, 0]])))
        assert alone.energy.isfinite().all() and alone.forces.abs().max() == 0 == alone.stress.abs().max()

    def test_a_file_that_was_converted_before(self, weights: str, tmp_path: Path) -> None:
        """It gives its features as ever; an energy is refused, until it is converted anew in its place."""
        path = tmp_path / "before.safetensors"
        old = self.build(as_before(weights, path))
        batch = batch_of(old, quartz())
        assert not self.encoder.provides(old.hypers).energy
        assert torch.equal(old(batch).atoms.values, self.build(weights)(batch).atoms.values)
        with pytest.raises(ZooError, match=r"before\.safetensors was converted before .*: convert it anew") as caught:
            old.energy(batch)
        assert "\n" not in str(caught.value)
        fingerprint = old.fingerprint()
        save_weights(self.encoder.Hypers.encoder, self.convert(), path)
        new = self.build(str(path))
        assert new.fingerprint() == fingerprint, "models that were trained on it would be refused"
        assert torch.equal(new.energy(batch), self.build(weights).energy(batch))

    def test_the_fingerprint_is_that_of_the_numbers(self, weights: str, tmp_path: Path) -> None:
        """However often they are converted; safetensors writes its header in another order each time."""
        name, first = self.encoder.Hypers.encoder, self.build(weights)
        save_weights(name, self.convert(), tmp_path / "again.safetensors")
        again = self.build(str(tmp_path / "again.safetensors"))
        assert again.fingerprint() == first.fingerprint()
        assert again.energy_fingerprint() == first.energy_fingerprint()
        other = self.convert()
        changed = dict(other.tensors)
        key = next(key for key in changed if key.startswith("energy."))
        changed[key] = changed[key] + 1
        save_weights(name, dataclasses.replace(other, tensors=changed), tmp_path / "other.safetensors")
        moved = self.build(str(tmp_path / "other.safetensors"))
        assert moved.fingerprint() == first.fingerprint() and moved.energy_fingerprint() != first.energy_fingerprint()

    def test_a_file_with_other_numbers_than_were_written(self, weights: str, tmp_path: Path) -> None:
        damaged = tmp_path / "damaged.safetensors"
        tensors = load_file(weights)
        with safe_open(weights, framework="pt") as file:
            header = file.metadata()
        key = next(key for key in tensors if not key.startswith("energy.") and tensors[key].is_floating_point())
        tensors[key] = tensors[key] * 1.5
        save_file(tensors, damaged, header)
        with pytest.raises(ZooError, match=r"damaged\.safetensors is damaged"):
            identity(self.encoder.Hypers.encoder, damaged)

    def test_public_weights_that_are_not_here_have_one(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        assert self.encoder.provides(self.encoder.Hypers()).energy
