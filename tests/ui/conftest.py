"""Two small models for the page: an ensemble in a run folder, and `trained`'s champion in its registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli import zoo

from zoo.model.checkpoint import Card, read_card


@pytest.fixture(scope="session")
def ensemble(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, an ensemble with calibrated intervals; not in any registry."""
    folder = tmp_path_factory.mktemp("ensemble")
    options = ("split.seed=0", "split.val=0.3", "seeds=[0,1]", "training.max_epochs=1", "tracking.enabled=false")
    result = zoo("run", str(trained / "small.yaml"), *options, "--out", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def ensemble_card() -> Card:
    """The card of a model that was saved long ago: the page describes any model by its own."""
    return read_card(Path(__file__).parents[1] / "checkpoints" / "format_3")
