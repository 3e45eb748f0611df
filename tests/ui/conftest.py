"""Two small models for the page: an ensemble in a run folder, and `trained`'s champion in its registry."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli import zoo


@pytest.fixture(scope="session")
def ensemble(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, an ensemble with calibrated intervals; not in any registry."""
    folder = tmp_path_factory.mktemp("ensemble")
    options = ("split.seed=0", "split.val=0.3", "seeds=[0,1]", "training.max_epochs=1", "tracking.enabled=false")
    result = zoo("run", str(trained / "small.yaml"), *options, "--out", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder
