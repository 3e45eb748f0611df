"""Readouts that are told the level of theory, and force constants that are not to be corrected."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from zoo.api import LevelOfTheory
from zoo.contract.level_of_theory import LEVELS, level_of
from zoo.testing.pair import Pair
from zoo.testing.prototypes import varied

NEQUIP = {"cutoff": 4.0, "layers": 1, "channels": 4}


def test_names() -> None:
    assert [level_of(name) for name in (*LEVELS, "r2SCAN")] == [0, 1, 2, 3, 3]


@pytest.mark.parametrize("shift", [True, False])
def test_pbe_stays_as_it_is_and_others_are_learned(shift: bool) -> None:
    batch = Pair("nequip", "born", NEQUIP, {"width": 8}).batch(varied())
    hidden = torch.randn(batch.n_atoms, 3, dtype=torch.float64)
    layer = LevelOfTheory(3, shift).double()
    assert torch.equal(layer(hidden, batch), hidden)
    told = dataclasses.replace(batch, level=torch.arange(batch.n_crystals) % len(LEVELS))
    assert torch.equal(layer(hidden, told), hidden)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    (layer(hidden, told) - 2.0).square().sum().backward()
    optimizer.step()
    changed = (layer(hidden, told) != hidden).all(dim=1)
    assert torch.equal(changed, (told.level % len(LEVELS) > 0)[told.crystal])


@pytest.mark.parametrize("readout", ["born", "susceptibility"])
def test_a_readout_depends_on_the_level(readout: str) -> None:
    pair = Pair("nequip", readout, NEQUIP, {"width": 8, "level_of_theory": True})
    model, batch = pair.model.double().eval(), pair.batch(varied())
    before = model(batch)
    for module in model.modules():
        if isinstance(module, LevelOfTheory):
            nn.init.constant_(module.scale.weight[2], 0.3)
    told = dataclasses.replace(batch, level=torch.full((batch.n_crystals,), 2))
    assert torch.equal(model(batch), before)
    assert (model(told) - before).abs().amax() > 1e-3


def test_exact_force_constants_are_taken_as_they_are() -> None:
    """A crystal whose force constants are its record's own: ε0 by the learned charges, and by nothing else."""
    pair = Pair("nequip", "born", NEQUIP, {"width": 8})
    model, batch = pair.model.double().eval(), pair.batch(varied())
    given = batch.force_constants
    assert given is not None
    exact = torch.arange(batch.n_crystals) % 2 == 0
    marked = dataclasses.replace(batch, force_constants=dataclasses.replace(given, exact=exact))
    plain = Pair("nequip", "born", NEQUIP, {"width": 8, "scale": "none", "stiffness": "none", "softest": 1e-12})
    bare = plain.model.double().eval()
    learned = {name: value for name, value in model.state_dict().items() if "soft_modes" not in name}
    bare.load_state_dict(learned, strict=False)
    torch.testing.assert_close(model(marked)[exact], bare(batch)[exact], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(model(marked)[~exact], model(batch)[~exact])
    assert not torch.allclose(model(marked)[exact], model(batch)[exact])
