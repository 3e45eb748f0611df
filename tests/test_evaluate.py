"""`zoo evaluate`: what a model has seen is left out, and the error is that of the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli import refused, zoo

from zoo.data.petousis2017 import Petousis2017
from zoo.storage.run_folder import RunFolder, read_json, read_rows


@pytest.fixture
def labelled(trained: Path) -> tuple[Path, list[str], list[str]]:
    """A file with four crystals that the first member has seen and four that it has not."""
    seen = read_json(RunFolder(trained / "run").model / "model.json")["seen"]
    records = {record.key: record for record in Petousis2017(Petousis2017.Hypers()).records()}
    used = {*seen, *read_json(RunFolder(trained / "run").seed(0).split)["test"]}
    within = [key for key, record in records.items() if np.abs(record.targets["total"]).max() < 100]  # cleaning's range
    fresh = [key for key in within if key not in used][:4]
    content = {
        f"mine-{key}": {"structure": records[key].structure.as_dict(), "total": records[key].targets["total"].tolist()}
        for key in [*seen[:4], *fresh]
    }
    path = trained / "labelled.json"
    path.write_text(json.dumps(content))
    return path, list(seen[:4]), fresh


def test_what_the_model_has_seen_is_left_out(trained: Path, labelled) -> None:
    path, _, fresh = labelled
    result = zoo("evaluate", "run", path.name, "--format", "json", "--out", "rows.csv", cwd=trained)
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    assert [item["stage"] for item in content["left_out"]] == ["seen"] * 4
    rows = read_rows(trained / "rows.csv")
    assert sorted(row["key"] for row in rows) == sorted(f"mine-{key}" for key in fresh)
    names = ("xx", "xy", "xz", "yy", "yz", "zz")
    errors = [abs(float(row[f"true_{n}"]) - float(row[f"predicted_{n}"])) for row in rows for n in names]
    assert content["errors"]["all"]["mae_ten"] == pytest.approx(np.mean(errors), rel=1e-3)
    assert content["mean_baseline"]["all"]["mae_ten"] > 0


def test_the_table_is_for_people(trained: Path, labelled) -> None:
    shown = zoo("evaluate", "run", "labelled.json", cwd=trained)
    assert "MAE_ten" in shown.stdout
    assert "4 that the model" in shown.stdout


def test_nothing_left_is_told(trained: Path, labelled) -> None:
    refused(zoo("evaluate", "run", "labelled.json", "--below", "0.1", cwd=trained), "no crystal")
    refused(zoo("evaluate", "run", "nowhere.json", cwd=trained), "nowhere.json")
