"""A recipe that screens in a second, and a discovery that is finished."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli import zoo
from discovered import write_discovery
from screened import MODEL, write_json


@pytest.fixture
def recipe(tmp_path: Path) -> dict:
    """Of 40 crystals, written by `save`."""
    write_json(tmp_path / "many.json", 40)
    return {
        "name": "mine",
        "model": str(MODEL),
        "candidates": {"path": "many.json"},
        "filters": {"min_band_gap": 0.01},
        "objective": {"name": "polycrystalline"},
        "top": 6,
        "chunk": 8,
        "device": "cpu",
    }


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished discovery."""
    folder = tmp_path_factory.mktemp("found")
    write_discovery(folder, tracking={"enabled": True, "uri": f"sqlite:///{folder}/mlflow.db"})
    result = zoo("discover", "find.yaml", "--out", "out", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "printed").write_text(result.stdout)
    return folder / "out"
