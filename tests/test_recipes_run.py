"""Every recipe that ships trains, on a slice of the data and with its own encoder and readout."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cli import zoo

from zoo.config import recipe
from zoo.sweep import sweep_config

pytestmark = pytest.mark.extended

TRAININGS = list(recipe.for_command("run"))  # tests/discovery
SWEEPS = sorted(name for name in TRAININGS if isinstance(sweep_config.read(name), sweep_config.Plan))
SHARED = Path(__file__).parents[2] / "shared" / "data"
SLICE = ("data.limit=24", "training.max_epochs=2", "tracking.enabled=false", "device=cpu")


def unlike() -> list[str]:
    """Of recipes that are the same but for their target one, of each three another; tests/test_recipe.py reads all."""
    alike: dict[str, list[str]] = {}
    for name in sorted(set(TRAININGS) - set(SWEEPS)):
        alike.setdefault(recipe.read(name).model_dump_json(exclude={"name", "target", "description"}), []).append(name)
    return [names[number % len(names)] for number, names in enumerate(alike.values())]


@pytest.mark.sevennet
@pytest.mark.parametrize("name", unlike())
def test_a_shipped_recipe_trains(name: str, tmp_path: Path) -> None:
    sources = recipe.read(name).auxiliary
    if sources and not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here: {name} trains on {' and '.join(one.name for one in sources)}, too")
    files = {"dtnet-mp": "mp_dielectric_614.json.gz"}
    placed = json.dumps([{"name": one.name, "path": str(SHARED / files.get(one.name, ""))} for one in sources])
    result = zoo("run", name, *SLICE, *([f"auxiliary={placed}"] if sources else []), "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert content["target"] == recipe.read(name).target
    assert content["test"]["mae_ten"]["mean"] > 0
    assert content["epochs"] == [2]


@pytest.mark.sevennet
@pytest.mark.parametrize("name", SWEEPS)
def test_a_shipped_sweep_runs(name: str, tmp_path: Path) -> None:
    """On one target and one seed, three of the layers; the training sizes are shares of the slice."""
    fewer = {
        "ablation_size": "sweep.grid.size={few: {split.train: 4}, more: {split.train: 16}}",
        "ablation_layers": "sweep.grid.encoder.layer=[1, 4, 5]",
    }
    one = "sweep.grid.target=[total]"
    more = [fewer[name]] if name in fewer else [one] if "target" in sweep_config.read(name).sweep.grid else []
    result = zoo("run", name, *SLICE, "seeds=[0]", *more, "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [row for row in csv.DictReader((tmp_path / "run" / "table.csv").open()) if row["crystal_system"] == "all"]
    assert rows and {row["status"] for row in rows} == {"done"}, [row["reason"] for row in rows]
    assert all(float(row["mae_ten_mean"]) > 0 for row in rows)
    assert (tmp_path / "run" / "figure.png").is_file()
