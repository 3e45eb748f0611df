"""The energy of `sevennet` beside its features: it changes nothing of the encoder."""

from __future__ import annotations

import pytest
import torch
from pymatgen.core import Lattice, Structure
from sevennets import SHIPPED, batch_of, encoder, ours
from small_crystals import quartz, random_p1, rattled

from zoo.api import ZooError, forces_and_stress
from zoo.config.recipe import EncoderChoice, Plugin
from zoo.contract.target import TensorTarget
from zoo.model.tensor_model import build
from zoo.testing import check_atomic_energies, check_hessian
from zoo_sevennet import SevenNet, SevenNetScratch
from zoo_sevennet.checkpoint import CHECKPOINTS


def new(**hypers: object) -> SevenNet:
    return SevenNet(SevenNet.Hypers(**hypers))


@pytest.mark.sevennet
class TestBeside:
    def test_an_energy_changes_nothing_of_the_encoder(self):
        made, batch = new(layer=2), batch_of(rattled(quartz()))
        names, fingerprint = list(made.state_dict()), made.fingerprint()
        with torch.no_grad():
            before = made(batch).atoms.values
        drawn = torch.random.get_rng_state()
        forces_and_stress(made, batch)
        assert torch.equal(torch.random.get_rng_state(), drawn), "random numbers of a training were used up"
        assert list(made.state_dict()) == names and len(made.network.layers) == 2
        assert len(list(made.parameters())) == len(list(new(layer=2).parameters()))
        assert made.fingerprint() == fingerprint
        with torch.no_grad():
            assert torch.equal(made(batch).atoms.values, before)

    def test_nothing_of_it_is_in_the_checkpoint_of_a_fine_tuned_model(self):
        """What one writes after an energy, another reads that has never made one; and it is no parameter to learn."""
        target = TensorTarget("total")
        choice = EncoderChoice(name="sevennet", layer=3, trainable=True)
        first, second = (build(choice, Plugin(name="dtnet", width=8, blocks=1), target) for _ in range(2))
        count = sum(p.numel() for p in first.parameters() if p.requires_grad)
        first.encoder.energy(batch_of(quartz()))
        assert sum(p.numel() for p in first.parameters() if p.requires_grad) == count
        second.learned().load_state_dict(first.learned().state_dict(), strict=True)

    def test_it_is_the_energy_of_the_checkpoint_after_fine_tuning_too(self):
        """Its fingerprint names the checkpoint alone."""
        made, batch = new(layer=4), batch_of(quartz())
        before = made.energy(batch)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(1.1)
        assert torch.equal(made.energy(batch), before)

    @pytest.mark.parametrize("checkpoint", CHECKPOINTS)
    def test_second_derivatives(self, checkpoint):
        salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        batch = batch_of(quartz(), random_p1(), salt.get_primitive_structure(), dtype=torch.float64)
        check_hessian(new(layer=1, checkpoint=checkpoint).double(), batch)
        check_atomic_energies(new(layer=1, checkpoint=checkpoint).double(), batch)

    def test_it_does_not_depend_on_the_layers_that_are_exposed(self):
        batch = batch_of(quartz())
        made = [new(layer=layer, pseudotensors=pseudo) for layer, pseudo in ((1, False), (5, True))]
        assert torch.equal(*(one.energy(batch) for one in made))
        assert len({one.energy_fingerprint() for one in made}) == 1
        assert len({ours(name).energy_fingerprint() for name in SHIPPED}) == len(SHIPPED)

    def test_it_follows_the_encoder_to_another_precision(self):
        made, batch = new(layer=1), batch_of(quartz())
        assert made.energy(batch).dtype == torch.float32
        double = made.double().energy(batch_of(quartz(), dtype=torch.float64))
        assert double.dtype == torch.float64
        assert torch.equal(double, new(layer=1).double().energy(batch_of(quartz(), dtype=torch.float64)))

    def test_forces_after_an_energy_under_inference_mode(self):
        made, batch = new(layer=1), batch_of(quartz())
        with torch.inference_mode():
            made.energy(batch)
        assert forces_and_stress(made, batch).forces.isfinite().all()

    def test_energies_of_a_batch_are_those_of_its_crystals(self):
        crystals = [quartz(), rattled(quartz()), Structure(Lattice.cubic(20), ["Ar"], [[0, 0, 0]])]
        together = encoder().energy(batch_of(*crystals))
        alone = torch.cat([encoder().energy(batch_of(crystal)) for crystal in crystals])
        assert torch.allclose(together, alone, rtol=1e-6, atol=1e-5)  # eV, of atoms of some 5 eV in float32

    def test_an_element_that_it_does_not_know(self):
        polonium = Structure(Lattice.cubic(3.35), ["Po"], [[0, 0, 0]])
        with pytest.raises(ZooError, match="SevenNet-0 does not know Po"):
            encoder().energy(batch_of(polonium))


def test_from_scratch_it_has_none():
    assert not SevenNetScratch.provides(SevenNetScratch.Hypers()).energy
    assert SevenNet.provides(SevenNet.Hypers()).energy
    made = SevenNetScratch(SevenNetScratch.Hypers(layer=1))
    with pytest.raises(TypeError, match="no energy"):
        made.energy(batch_of(quartz()))
    with pytest.raises(TypeError, match="not pretrained"):
        made.energy_fingerprint()
