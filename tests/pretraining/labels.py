"""A few small crystals, displaced, with energies, forces and stress of a pair potential, and recipes for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from zoo.contract.plugin import Record
from zoo.contract.potential import forces_and_stress
from zoo.data.petousis2017 import Petousis2017
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graph
from zoo.pretraining import pretraining_config
from zoo.pretraining.pretrain import pretrain
from zoo.pretraining.pretraining_config import Pretraining
from zoo.pretraining.pretraining_folder import PretrainingFolder
from zoo.testing.pair_potential import PairPotential

SALTS = {"MgO": 4.25, "CaO": 4.84, "MgS": 5.2, "CaS": 5.69, "NaCl": 5.69, "KCl": 6.39, "NaF": 4.7, "KF": 5.4}
ELEMENTS = frozenset({"Mg", "Ca", "O", "S", "Na", "K", "Cl", "F"})
PAIRS = PairPotential(PairPotential.Hypers())

SMALL: dict[str, Any] = {
    "name": "small_potential",
    "encoder": {"name": "nequip", "cutoff": 4.0, "layers": 2, "channels": 4},
    "width": 8,
    "sources": [{"name": "file", "path": "labelled.extxyz"}],
    "validation": 0.2,
    "loss": {"energy": 1.0, "forces": 1.0, "stress": 10.0},
    "training": {"max_epochs": 3, "batch_size": 6, "learning_rate": 0.01},
    "device": "cpu",
    "tracking": {"enabled": False},
}


def displaced(copies: int = 3) -> list[Atoms]:
    """Crystals of two atoms, strained and displaced, with labels in ASE's places."""
    random, found = np.random.default_rng(0), []
    for name, a in SALTS.items():
        for _ in range(copies):
            atoms = bulk(name, "rocksalt", a=a)
            atoms.set_cell(atoms.cell * (1 + 0.02 * random.normal()), scale_atoms=True)
            atoms.positions += 0.1 * random.normal(size=(2, 3))
            crystal = Crystal(atoms.positions, atoms.numbers, np.array(atoms.cell))
            out = forces_and_stress(PAIRS, collate([crystal_graph(crystal, PAIRS.cutoff)], torch.float64))
            stress = out.stress[0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            results = {"energy": float(out.energy), "forces": out.forces.numpy(), "stress": stress}
            results["energies"] = out.atomic_energies.numpy()
            atoms.calc = SinglePointCalculator(atoms, **results)
            found.append(atoms)
    return found


def write_labelled(folder: Path) -> Path:
    """`labelled.extxyz` in a folder."""
    ase.io.write(folder / "labelled.extxyz", displaced())
    return folder / "labelled.extxyz"


def write_salts(folder: Path, elements: frozenset[str] = ELEMENTS) -> Path:
    """`salts.json` in a folder: crystals of petousis2017 of these elements, with total and ionic tensors."""
    content = [
        {"key": one.key, "structure": one.structure.as_dict()}
        | {name: one.targets[name].tolist() for name in ("total", "ionic")}
        for one in Petousis2017(Petousis2017.Hypers()).records()
        if isinstance(one, Record) and {element.symbol for element in one.structure.elements} <= elements
    ]
    (folder / "salts.json").write_text(json.dumps(content[:20]))
    return folder / "salts.json"


def config_of(folder: Path, **changed: Any) -> Pretraining:
    """The small recipe with a file in the folder; sections that are given replace its own."""
    sources = [{"name": "file", "path": str(folder / "labelled.extxyz")}]
    return pretraining_config.parse(SMALL | {"sources": sources} | changed, "small.yaml")


def trained(config: Pretraining, folder: Path, on_epoch: Any = None) -> dict[str, Any]:
    """metrics.json of a pretraining in a folder."""
    return pretrain(config, PretrainingFolder(folder), lambda line: None, on_epoch)
