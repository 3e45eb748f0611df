"""`zoo run` of a real sweep: stopped, resumed, with a cell that cannot work; and what MLflow holds of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cli import refused, zoo
from mlflow import MlflowClient
from PIL import Image

from zoo.storage.run_folder import read_json
from zoo.training.trainer import Trainer

pytestmark = pytest.mark.extended

SWEEP = {
    "grid": {"encoder": [{"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4}, {"name": "no-such"}],
             "readout.name": ["dtnet", "dtnet-simple"]},
    "compare": {"readout.name": "dtnet-simple"},
}  # fmt: skip


@pytest.fixture
def place(small: dict, tmp_path: Path) -> Iterator[Path]:
    made = {**small, "training": {**small["training"], "max_epochs": 2}, "sweep": SWEEP, "tracking": {"enabled": True}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(made, sort_keys=False))
    yield tmp_path


def test_a_sweep_from_beginning_to_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ctrl-C in the second cell that can work.
    run, calls = Trainer.run, []

    def stopping(self: Trainer) -> None:
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        run(self)

    monkeypatch.setattr(Trainer, "run", stopping)
    stopped = zoo("run", "mine.yaml", "--out", "out", cwd=place)
    assert stopped.returncode == 130
    assert "--resume out" in stopped.stderr
    before = (place / "out/cells/nequip-cutoff-3-layers-1-channels-4-dtnet/metrics.json").read_text()

    result = zoo("run", "--resume", "out", cwd=place)
    assert result.returncode == 0, result.stderr
    assert len(calls) == 3, "a finished cell is trained again"
    assert (place / "out/cells/nequip-cutoff-3-layers-1-channels-4-dtnet/metrics.json").read_text() == before
    assert "2 of 4" in result.stdout
    assert len(re.findall("failed: .*'no-such'", result.stdout)) == 2
    rows = [row for row in csv.DictReader((place / "out/table.csv").open()) if row["crystal_system"] == "all"]
    assert [row["status"] for row in rows] == ["done", "done", "failed", "failed"]
    cells = [read_json(path) for path in sorted((place / "out/cells").glob("nequip*/metrics.json"))]
    for row, content in zip(rows, cells, strict=False):
        assert float(row["mae_ten_mean"]) == pytest.approx(content["test"]["mae_ten"]["mean"], rel=1e-5)
    paired = cells[0]["test"]["mae_ten"]["mean"] - cells[1]["test"]["mae_ten"]["mean"]
    assert float(rows[0]["difference_mae_ten_mean"]) == pytest.approx(paired, rel=1e-4)
    assert Image.open(place / "out/figure.png").width > 500
    assert float(rows[0]["seconds"]) >= 0

    client = MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("zoo").experiment_id])
    parent = next(run for run in runs if run.info.run_name == "small")
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {run.data.params["readout.name"] for run in children} == {"dtnet", "dtnet-simple"}
    assert len(runs) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert parent.data.metrics["cells_failed"] == 2
    best = min((cell["val"]["mae_ten"]["mean"], cell["test"]["mae_ten"]["mean"]) for cell in cells)
    assert (parent.data.metrics["best_val_mae_ten"], parent.data.metrics["test_mae_ten"]) == pytest.approx(best)
    assert "| dtnet-simple " in parent.data.tags["mlflow.note.content"]
    monkeypatch.chdir(place)
    names = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"sweep.yaml", "table.csv", "seeds.csv", "table.md", "figure.png"} <= names
    assert not client.search_registered_models()

    assert zoo("track", "out", cwd=place).returncode == 0
    assert len(client.search_runs([parent.info.experiment_id])) == 3, "sent twice"


def test_a_server_that_is_down_loses_nothing(place: Path) -> None:
    uri = "tracking.uri=sqlite:////proc/no/mlflow.db"
    result = zoo("run", "mine.yaml", uri, "sweep.grid.encoder=null", "training.max_epochs=1", "--out", "out", cwd=place)
    refused(result, "zoo track out")
    assert "| dtnet " in result.stdout
    assert (place / "out/figure.png").is_file()
