"""One served model for all: the small ensemble of `trained`, by `zoo serve` from the registry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Structure
from scoring import Server, free_port, running

from zoo.data.petousis2017 import Petousis2017
from zoo.inference.predictor import Predictor
from zoo.tracking.served_model import EXAMPLE

SALT: dict[str, Any] = EXAMPLE[0]


@pytest.fixture(scope="session")
def served(trained: Path) -> Iterator[Server]:
    port = free_port()
    argv = [sys.executable, "-m", "zoo", "serve", "small-total"]
    # An allocator that gives back what is freed: what the tests measure is then what the server keeps.
    allocator = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_TRIM_THRESHOLD_": "1000000"}
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{trained}/mlflow.db", **allocator}
    with running([*argv, "--port", str(port)], port, trained, env) as server:
        yield server


@pytest.fixture(scope="session")
def predictor(trained: Path) -> Predictor:
    return Predictor.load(trained / "run" / "model")


@pytest.fixture(scope="session")
def salt() -> dict[str, Any]:
    """NaCl as a crystal of a request."""
    return SALT


@pytest.fixture(scope="session")
def crystals() -> list[Structure]:
    """Twelve of the real ones, of several crystal systems."""
    records = list(Petousis2017(Petousis2017.Hypers()).records())
    return [record.structure for record in records[::90]][:12]
