"""Labelled crystals, and a potential that was trained on them, once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretraining.labels import config_of, trained, write_labelled
from tiny_labels import phonondb_row, write_phonondb

ALKALI = ["Li", "Na", "K", "Rb", "Cs"]


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled.extxyz and, in the layout of phonondb2018, fifteen crystals of two atoms and a spring."""
    folder = tmp_path_factory.mktemp("labelled")
    write_labelled(folder)
    rows = [
        phonondb_row(f"mp-99{i}{j}", 1 + 0.3 * i, 1 + 0.02 * j, species=[alkali, halide])
        for i, alkali in enumerate(ALKALI)
        for j, halide in enumerate(["F", "Cl", "Br"])
    ]
    write_phonondb(folder, rows)
    return folder


@pytest.fixture(scope="session")
def potential(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished pretraining of a small NequIP."""
    folder = tmp_path_factory.mktemp("potential") / "run"
    trained(config_of(labelled), folder)
    return folder
