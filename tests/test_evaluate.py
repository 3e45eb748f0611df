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


def test_a_dataset_and_a_file_by_their_names_alone(trained: Path, labelled) -> None:
    """A dataset, a file, {dataset, target} with either, and the same in a YAML file."""
    (trained / "other.yaml").write_text("dataset: labelled.json\ntarget: total\n")
    expected = zoo("evaluate", "run", "labelled.json", "--format", "json", cwd=trained)
    for source in ("{dataset: labelled.json, target: total}", "{dataset: labelled.json}", "other.yaml"):
        result = zoo("evaluate", "run", source, "--format", "json", cwd=trained)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["errors"] == json.loads(expected.stdout)["errors"]
    plain, settings = (
        zoo("evaluate", "run", source, "--format", "json", "--below", "5", cwd=trained)
        for source in ("petousis2017", "{dataset: {name: petousis2017}, target: total}")
    )
    assert plain.returncode == 0, plain.stderr
    assert json.loads(plain.stdout)["errors"] == json.loads(settings.stdout)["errors"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{dataset: petousis2017, targt: total}", ["'targt'", "'target'"]),
        ("{dataset: petousis2017, target: ionic}", ["the model predicts total, not 'ionic'"]),
        ("{dataset: petousis}", ["'petousis'", "'petousis2017'"]),
        ("{dataset: 3}", ["{dataset: NAME or FILE, target: NAME}"]),
        ("{target: total}", ["names no dataset"]),
        ("{dataset: {path: x}}", ["names no dataset"]),
        ("{dataset: petousis2017", ["YAML"]),
    ],
)
def test_a_source_that_is_none_is_one_line(source: str, words: list[str], trained: Path) -> None:
    refused(zoo("evaluate", "run", source, cwd=trained), *words)


def test_nothing_left_is_told(trained: Path, labelled) -> None:
    refused(zoo("evaluate", "run", "labelled.json", "--below", "0.1", cwd=trained), "no crystal")
    refused(zoo("evaluate", "run", "nowhere.json", cwd=trained), "nowhere.json")
