"""Every recipe that ships trains, on a slice of the data and with its own encoder and readout."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cli import zoo

from zoo import recipe
from zoo.sweep import section

TRAININGS = [name for name, path in recipe.shipped().items() if not recipe.is_screening(path)]  # tests/discovery
SWEEPS = sorted(name for name in TRAININGS if isinstance(section.read(name), section.Plan))
SLICE = ("data.limit=24", "training.max_epochs=2", "tracking.enabled=false", "device=cpu")


@pytest.mark.sevennet
@pytest.mark.parametrize("name", sorted(set(TRAININGS) - set(SWEEPS)))
def test_a_shipped_recipe_trains(name: str, tmp_path: Path) -> None:
    result = zoo("run", name, *SLICE, "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert content["target"] == recipe.read(name).target
    assert content["test"]["mae_ten"]["mean"] > 0
    assert content["epochs"] == [2]


@pytest.mark.sevennet
@pytest.mark.parametrize("name", SWEEPS)
def test_a_shipped_sweep_runs(name: str, tmp_path: Path) -> None:
    """On one target and one seed; the training sizes are shares of the slice."""
    fewer = {"ablation_size": "sweep.grid.split.train=[4, 8, 16]"}
    one = "sweep.grid.target=[total]"
    more = [fewer[name]] if name in fewer else [one] if "target" in section.read(name).sweep.grid else []
    result = zoo("run", name, *SLICE, "seeds=[0]", *more, "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [row for row in csv.DictReader((tmp_path / "run" / "table.csv").open()) if row["crystal_system"] == "all"]
    assert rows and {row["status"] for row in rows} == {"done"}, [row["reason"] for row in rows]
    assert all(float(row["mae_ten_mean"]) > 0 for row in rows)
    assert (tmp_path / "run" / "figure.png").is_file()
