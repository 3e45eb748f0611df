"""A model of all three tensors whose readouts were never trained, as a model folder: what explains needs no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from zoo.config import recipe
from zoo.inference.novelty import Novelty
from zoo.model import checkpoint
from zoo.model.tensor_model import build
from zoo.phonons import potentials
from zoo.workflows.train import target_of


def untrained(folder: Path, name: str = "dielectric", members: int = 2) -> Path:
    """Save an ensemble with the readouts of a recipe, small and at random, on SevenNet's features and its energy."""
    settings = {
        "dielectric": (
            "readouts.electronic.width=8",
            "readouts.ionic.width=8",
            "encoder.layer=1",
            "force_constants.potential=null",
        ),
        "born_ionic": ("readout.width=8", "encoder.layer=1"),
    }[name]
    config = recipe.read(name, settings)
    target = target_of(config)
    models = []
    for seed in range(members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = build(config.encoder, config.readout, target)
            with torch.no_grad():
                for parameter in model.readout.parameters():
                    parameter += 0.05 * torch.randn_like(parameter)
            models.append(model)
    card = checkpoint.Card(
        recipe=config,
        target=target,
        members=tuple(checkpoint.Member(seed, 0, 1.0) for seed in range(members)),
        elements=tuple(range(1, 90)),
        seen=(),
        encoder_fingerprint=models[0].encoder.fingerprint(),
        versions={},
        metrics={"parts": {"electronic": {}, "ionic": {}}},
        potential_fingerprint=potentials.fingerprint([potentials.build(one) for one in potentials.chosen(config)]),
    )
    checkpoint.save(folder, card, [model.learned().state_dict() for model in models])
    width = sum(mul for mul, _ in models[0].encoder.provides(models[0].encoder.hypers).atoms)
    names = [{"key": "x", "formula": "X", "crystal_system": "cubic"}]
    Novelty(names, np.eye(3)[None], np.zeros((1, width)), np.ones(width), 1e9).save(folder)
    return folder
