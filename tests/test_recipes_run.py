"""Every recipe that ships trains, on a slice of the data and with its own encoder and readout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli import zoo

from zoo import recipe

SLICE = ("data.limit=24", "training.max_epochs=2", "tracking.enabled=false", "device=cpu")


@pytest.mark.sevennet
@pytest.mark.parametrize("name", sorted(recipe.shipped()))
def test_a_shipped_recipe_trains(name: str, tmp_path: Path) -> None:
    result = zoo("run", name, *SLICE, "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert content["target"] == recipe.read(name).target
    assert content["test"]["mae_ten"]["mean"] > 0
    assert content["epochs"] == [2]
