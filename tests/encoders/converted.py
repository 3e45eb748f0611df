"""What holds of every encoder on converted weights, beside what its own package says of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from golden import batch_of, build, golden
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from safetensors import safe_open
from safetensors.torch import save_file

from zoo.api import ConvertedEncoder, ZooError
from zoo.contract import features
from zoo.testing.compare import orthogonal_matrices, rotate_crystal

INVERSION = -torch.eye(3, dtype=torch.float64)


class ConvertedTests:
    """Subclass it and name the encoder, a file of weights with two layers, and crystals; `most`: all that it gives."""

    encoder: ClassVar[type[ConvertedEncoder]]
    weights: ClassVar[str]
    crystals: ClassVar[Path]
    most: ClassVar[dict[str, object]] = {"layer": (1, 2)}

    def build(self, **hypers: object) -> ConvertedEncoder:
        return build(self.encoder, weights=self.weights, **hypers)

    @pytest.mark.parametrize("matrix", [*orthogonal_matrices(2), INVERSION], ids=["proper", "improper", "inversion"])
    def test_equivariance(self, rotate_block, matrix):
        encoder = self.build(**self.most)
        for crystal in golden(self.crystals):
            before = encoder(batch_of(encoder, crystal.structure)).atoms
            after = encoder(batch_of(encoder, rotate_crystal(crystal.structure, matrix))).atoms
            for _, irrep in before.irreps:
                wanted = rotate_block(before.block(irrep), irrep, matrix)
                assert (after.block(irrep) - wanted).norm() < 1e-10 * before.values.norm()

    def test_an_atom_without_neighbours(self):
        encoder = self.build()
        made = encoder(batch_of(encoder, Structure(Lattice.cubic(20), ["Si"], [[0, 0, 0]])))
        assert made.atoms.values.isfinite().all()
        assert made.atoms.vectors().norm() == 0

    def test_bonds_vanish_at_the_cutoff(self):
        encoder = self.build()
        near = Structure(Lattice.cubic(encoder.cutoff - 1e-4), ["Si"], [[0, 0, 0]])
        assert encoder(batch_of(encoder, near)).bonds.values.abs().max() < 1e-6

    def test_can_be_trained_and_strained_after_an_inference(self):
        """What is kept from pass to pass must not have been made under inference_mode."""
        features._coupling.cache_clear()
        encoder = self.build()
        batch = batch_of(encoder, next(golden(self.crystals)).structure)
        with torch.inference_mode():
            encoder(batch)
        strain = torch.zeros_like(batch.cell, requires_grad=True)
        encoder(dataclasses.replace(batch, strain=strain)).atoms.values.sum().backward()
        assert strain.grad.norm() > 0
        assert next(encoder.network.parameters()).grad.norm() > 0

    def test_unknown_element(self):
        encoder = self.build()
        with pytest.raises(ZooError, match="does not know Cm"):
            encoder(batch_of(encoder, Structure(Lattice.cubic(3), ["Cm"], [[0, 0, 0]])))
        assert {1, 8, 14} <= encoder.elements()
        assert 96 not in encoder.elements()

    @pytest.mark.parametrize("layer", [0, 3, (), (1, 1)])
    def test_layers_that_do_not_exist(self, layer):
        with pytest.raises(ZooError, match="layer is a number from 1 to 2"):
            self.encoder.provides(self.encoder.Hypers(weights=self.weights, layer=layer))

    @pytest.mark.parametrize("layer", [True, 1.0, [True]])
    def test_a_layer_is_a_whole_number(self, layer):
        with pytest.raises(ValidationError, match="valid integer"):
            self.encoder.Hypers(weights=self.weights, layer=layer)

    def test_the_fingerprint_tells_choices_apart(self):
        made = [self.build(**choice).fingerprint() for choice in ({"layer": 2}, {"layer": 1}, self.most)]
        assert len(set(made)) == 3
        assert made[0] == self.build(layer=(2,)).fingerprint()

    def test_what_to_do_without_the_file(self, monkeypatch, tmp_path):
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
        name, default = self.encoder.Hypers.encoder, self.encoder.Hypers()
        file = self.encoder.public_weights[default.weights].file
        with pytest.raises(
            ZooError, match=f"are not here yet: get {file} from .* zoo convert {name} {file} .*not needed"
        ):
            self.encoder(default)
        assert self.encoder.missing(default).startswith("the weights")
        assert self.encoder.missing(self.encoder.Hypers(weights=self.weights)) is None

    def test_a_header_that_says_something_else(self, tmp_path):
        with safe_open(self.weights, framework="pt") as file:
            header = file.metadata()
        damaged = tmp_path / "damaged.safetensors"
        save_file({"a": torch.zeros(1)}, damaged, header | {"metadata": '{"cutoff": "five"}'})
        with pytest.raises(ZooError, match=r"damaged\.safetensors: .* convert it anew"):
            self.encoder.provides(self.encoder.Hypers(weights=str(damaged)))
