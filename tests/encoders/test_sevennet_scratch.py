"""The encoder `sevennet-scratch`: the network of a checkpoint, trained from random weights."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from sevennets import CHIRAL, batch_of, encoder
from small_crystals import error, quartz, random_p1

from zoo.convolution.paths import coupling
from zoo.testing import EncoderWithEnergy, PotentialTests
from zoo.testing.compare import orthogonal_matrices, rotate_crystal
from zoo_sevennet import SevenNet, SevenNetScratch

SCRATCH = ["SevenNet-0", "SevenNet-l3i5", "SevenNet-MF-0"]


def scratch(layer: int | tuple[int, ...] = 3, seed: int = 0, **hypers) -> SevenNetScratch:
    torch.manual_seed(seed)
    return SevenNetScratch(SevenNetScratch.Hypers(layer=layer, **hypers))


class TestScratchPotential(PotentialTests):
    model = EncoderWithEnergy("sevennet-scratch", {"layer": 2})


class TestScratch:
    @pytest.mark.sevennet
    @pytest.mark.parametrize("name", SCRATCH)
    def test_is_the_network_of_the_checkpoint(self, name):
        """With the pretrained weights put in, it is the pretrained encoder."""
        pretrained = encoder(4, False, checkpoint=name)
        made = scratch(4, checkpoint=name)
        ours, theirs = SevenNetScratch.provides(made.hypers), SevenNet.provides(pretrained.hypers)
        assert (ours.atoms, ours.bonds) == (theirs.atoms, theirs.bonds)
        assert theirs.energy and not ours.energy
        assert made.elements() == pretrained.elements()
        made.load_state_dict(pretrained.state_dict(), strict=True)
        with torch.no_grad():
            assert torch.equal(made(batch_of(quartz())).atoms.values, pretrained(batch_of(quartz())).atoms.values)

    def test_needs_no_package(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert SevenNetScratch.missing(SevenNetScratch.Hypers()) is None
        with torch.no_grad():
            assert scratch()(batch_of(quartz())).atoms.values.isfinite().all()

    def test_starts_at_random(self):
        with torch.no_grad():
            first, second = (scratch(1, seed=seed)(batch_of(quartz())).atoms.values for seed in (0, 1))
        assert error(first, second) > 0.5

    @pytest.mark.parametrize("name", SCRATCH)
    @pytest.mark.parametrize("seed", [0, 1])
    def test_features_start_neither_small_nor_large(self, name, seed):
        """In all layers; those of the checkpoints grow from 0.05 (vectors, first layer) to 1.2 (fourth)."""
        dense = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        with torch.no_grad():
            layers = scratch(5, seed=seed, checkpoint=name).raw_features(batch_of(*(crystal() for crystal in CHIRAL)))
            dense_layers = scratch(5, seed=seed, checkpoint=name).raw_features(batch_of(dense))
        sizes = [[float(x.square().mean().sqrt()) for x in features] for features in layers]
        assert all(0.5 < scalars < 3 for scalars, *_ in sizes), sizes
        assert all(0.02 < size < 3 for _, *others in sizes for size in others), sizes
        assert all(x.square().mean().sqrt() < 10 for features in dense_layers for x in features)

    @pytest.mark.parametrize("name", SCRATCH)
    def test_every_weight_gets_a_gradient(self, name):
        """Path by path and channel by channel, the frequencies of the radial basis included."""
        model = scratch(3, checkpoint=name).double()
        features = model(batch_of(quartz(), random_p1(), dtype=torch.float64)).atoms.values
        weights = torch.randn(features.shape, dtype=features.dtype, generator=torch.Generator().manual_seed(1))
        names, parameters = zip(*model.named_parameters(), strict=True)
        for name, gradient in zip(names, torch.autograd.grad((features * weights).sum(), parameters), strict=True):
            rows = gradient if name == "network.embedding" else gradient.flatten()
            known = model.species[batch_of(quartz(), random_p1()).numbers].unique()
            alive = rows[known] if name == "network.embedding" else rows
            assert (alive != 0).all(), name

    @pytest.mark.parametrize("name", SCRATCH)
    def test_features_are_true_tensors(self, rotate_block, name):
        matrix = orthogonal_matrices(2)[1]
        model = scratch(3, checkpoint=name, pseudotensors=True).double()
        with torch.no_grad():
            before = model(batch_of(quartz(), random_p1(), dtype=torch.float64)).atoms
            turned = [rotate_crystal(c(), matrix) for c in (quartz, random_p1)]
            after = model(batch_of(*turned, dtype=torch.float64)).atoms
        for _, irrep in before.irreps:
            assert before.block(irrep).norm() > 0
            assert error(after.block(irrep), rotate_block(before.block(irrep), irrep, matrix)) < 1e-10, irrep

    def test_is_not_pretrained(self):
        assert not SevenNetScratch.pretrained
        assert all(parameter.requires_grad for parameter in scratch(1).parameters())
        with pytest.raises(TypeError, match="not pretrained"):
            scratch(1).fingerprint()

    def test_has_no_modality(self):
        with pytest.raises(ValidationError, match="modality"):
            SevenNetScratch.Hypers(checkpoint="SevenNet-MF-0", modality="PBE")

    def test_can_be_trained_after_an_inference(self):
        """Coupling coefficients that were cached under inference_mode must not break a later backward pass."""
        coupling.cache_clear()
        model, batch = scratch(2), batch_of(quartz())
        with torch.inference_mode():
            model(batch)
        model(batch).atoms.values.sum().backward()
