"""A small ensemble, and crystals to screen: shared by the tests of discovery."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import yaml
from pymatgen.core import Lattice, Structure

MODEL = Path(__file__).parent / "checkpoints" / "format_3"
METALS, NONMETALS = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Zn", "Al"), ("F", "Cl", "Br", "O", "S", "Se")


def crystal(number: int) -> Structure:
    """Of its own: a decorated, distorted rock salt."""
    random = np.random.default_rng(number)
    species = [METALS[number % len(METALS)], NONMETALS[number % len(NONMETALS)]]
    cell = random.uniform(3.6, 4.6) * np.array([[0, 0.7, 0.7], [0.7, 0, 0.7], [0.7, 0.7, 0]])
    return Structure(Lattice(cell @ (np.eye(3) + 0.04 * random.normal(size=(3, 3)))), species, [[0, 0, 0], [0.5] * 3])


def write_json(path: Path, count: int) -> Path:
    """`count` crystals, of which every fifth has no band gap."""
    gaps = [{} if i % 5 == 4 else {"band_gap": 0.5 + i % 7} for i in range(count)]
    content = {f"c-{i:04d}": {"structure": crystal(i).as_dict(), **gaps[i]} for i in range(count)}
    path.write_text(json.dumps(content))
    return path


def save(recipe: dict, folder: Path) -> Path:
    """As mine.yaml."""
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def chosen(folder: Path) -> list[dict[str, str]]:
    """Rows of the chosen candidates."""
    with (folder / "top.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
