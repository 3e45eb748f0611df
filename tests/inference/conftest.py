"""Untrained models that can explain, and one loaded."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from explained import untrained

from zoo.inference.predictor import Predictor


@pytest.fixture(scope="session")
def joint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("sevenn") is None:
        pytest.skip('needs pip install "crystal-tensor-zoo[sevennet]"')
    return untrained(tmp_path_factory.mktemp("joint"))


@pytest.fixture(scope="session")
def predictor(joint_folder: Path) -> Predictor:
    return Predictor.load(joint_folder)


@pytest.fixture(scope="session")
def single(predictor: Predictor) -> Predictor:
    """The first member alone."""
    return Predictor(predictor.card, predictor.members[:1], predictor.device, potentials=predictor.potentials)
