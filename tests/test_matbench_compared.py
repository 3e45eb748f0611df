"""`zoo matbench` on a file in the published layout, as an ensemble, beside the predictions of other models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli import Result, refused, zoo
from PIL import Image

from zoo.data.matbench_file import official_folds, read_matbench
from zoo.data.petousis2017 import Petousis2017
from zoo.storage.run_folder import read_json, read_rows
from zoo.workflows import matbench_folds

INDEX = [*range(3, 4000, 97)]  # 42 crystals with gaps, in all five folds
KEYS = [f"mb-dielectric-{i + 1:04d}" for i in INDEX]
QUICK = (
    "encoder={name: nequip, cutoff: 3.0, layers: 1, channels: 4}",
    "readout={name: dtnet, width: 8, blocks: 1}",
    "training={max_epochs: 2, batch_size: 16, learning_rate: 0.01}",
    "seeds=[0, 3]",
    "device=cpu",
)
COMMAND = ("matbench", "best_electronic", *QUICK, "--data", "file.json", "--out", "run")


def make_files(folder: Path) -> np.ndarray:
    """Write crystals, predictions of two models, and sources; return the refractive indices."""
    records = sorted(Petousis2017(Petousis2017.Hypers()).records(), key=lambda record: len(record.structure))
    chosen = records[: len(INDEX)]
    indices = np.array([np.sqrt(np.trace(record.targets["electronic"]) / 3) for record in chosen])
    data = [[record.structure.as_dict(), n] for record, n in zip(chosen, indices.tolist(), strict=True)]
    folds = official_folds()[INDEX].tolist()
    files: dict[str, Any] = {
        "file": {"index": INDEX, "columns": ["structure", "n"], "data": data},
        "published": {
            "perfect": dict(zip(KEYS, indices.tolist(), strict=True)),
            "poor": dict.fromkeys(KEYS[1:], -1.0),  # lacks the first crystal
        },
        "sources": {
            key: {"how": "ambiguous(2)" if k % 7 == 1 else "unique", "n": n, "fold": fold}
            for k, (key, n, fold) in enumerate(zip(KEYS, indices.tolist(), folds, strict=True))
        },
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return indices


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, str]:
    folder = tmp_path_factory.mktemp("compared")
    indices = make_files(folder)
    result = zoo(*COMMAND, "--published", "published.json", "--sources", "sources.json", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder, indices, result.stdout


def test_the_folds_are_matbenchs_and_a_fold_is_an_ensemble(done: tuple[Path, np.ndarray, str]) -> None:
    folder, indices, said = done
    content = read_json(folder / "run" / "metrics.json")
    folds = official_folds()[INDEX]
    assert content["data"] == "matbench_dielectric" and content["members"] == 2
    for fold in content["folds"]:
        place = folder / "run" / f"fold_{fold['fold']}"
        rows = read_rows(place / "predictions.csv")
        here = np.flatnonzero(folds == fold["fold"])
        assert [row["key"] for row in rows] == [KEYS[i] for i in here]
        np.testing.assert_allclose([float(row["true_n"]) for row in rows], indices[here])
        members = [
            [float(row["predicted_n"]) for row in read_rows(place / f"seed_{seed}" / "predictions.csv")]
            for seed in (0, 3)
        ]
        assert members[0] != members[1]
        predicted = [float(row["predicted_n"]) for row in rows]
        np.testing.assert_allclose(predicted, np.mean(members, axis=0))
        assert fold["mae"] == pytest.approx(np.abs(predicted - indices[here]).mean())
        of_members = [read_json(place / f"seed_{seed}" / "result.json")["val_mae"] for seed in (0, 3)]
        assert fold["val_mae"] == pytest.approx(np.mean(of_members))
    assert "42 of its 4,764 crystals: no entry of its leaderboard" in said


def test_models_are_compared_crystal_by_crystal(done: tuple[Path, np.ndarray, str]) -> None:
    folder, _, said = done
    each = read_rows(folder / "run" / "compared_crystals.csv")
    assert [row["key"] for row in each] == KEYS[1:], "the first has no prediction of one model"
    true, ours, folds = (np.array([float(row[name]) for row in each]) for name in ("true_n", "zoo", "fold"))
    assert [float(row["poor"]) for row in each] == [-1.0] * 41
    rows = {(r["crystals"], r["model"], r["fold"]): r for r in read_rows(folder / "run" / "compared.csv")}
    assert len(rows) == 2 * 3 * 6
    sure = np.array([k % 7 != 1 for k in range(1, 42)])
    for part, kept in (("all", np.ones(41, dtype=bool)), ("unambiguous", sure)):
        error = np.abs(ours - true)
        maes = [error[kept & (folds == k)].mean() for k in range(5)]
        mean = rows[part, "zoo", "mean"]
        assert int(mean["n"]) == kept.sum() and float(mean["mae"]) == pytest.approx(np.mean(maes))
        assert float(rows[part, "zoo", "2"]["mae"]) == pytest.approx(maes[2])
        perfect = rows[part, "perfect", "mean"]
        assert float(perfect["mae"]) == 0 and float(perfect["difference"]) == pytest.approx(-np.mean(maes))
        assert float(perfect["low"]) < float(perfect["difference"]) < float(perfect["high"]) < 0
        assert float(rows[part, "poor", "mean"]["low"]) > 0
    with Image.open(folder / "run" / "compared.png") as picture:
        assert picture.format == "PNG"
    assert "all crystals (41)" in said and f"unambiguous crystals ({sure.sum()})" in said
    assert "run/compared.csv" in said


def test_a_finished_run_can_be_compared_later(done: tuple[Path, np.ndarray, str]) -> None:
    folder, _, _ = done
    before = (folder / "run" / "compared.csv").read_bytes()
    (folder / "run" / "compared.csv").unlink()
    content = read_json(folder / "run" / "metrics.json")
    result = zoo(*COMMAND, "--published", "published.json", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert read_json(folder / "run" / "metrics.json") == content
    after = (folder / "run" / "compared.csv").read_bytes()
    assert before.startswith(after), "without the sources it is not known which are ambiguous"


def test_it_is_in_mlflow(done: tuple[Path, np.ndarray, str]) -> None:
    from mlflow import MlflowClient

    folder, _, _ = done
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    (state,) = read_json(folder / "run" / "mlflow.json").values()
    parent = client.get_run(state["runs"]["parent"])
    assert parent.data.tags["zoo.folds"] == "matbench_dielectric"
    assert {"compared.csv", "compared.png"} <= {f.path for f in client.list_artifacts(parent.info.run_id)}
    child = state["runs"]["seed 2"]
    assert client.get_metric_history(child, "val_mae_n")
    paths = {file.path for file in client.list_artifacts(child, "fold_2")}
    assert {"fold_2/seed_0", "fold_2/seed_3", "fold_2/predictions.csv"} <= paths


def test_a_part_of_the_crystals_is_called_that(tmp_path: Path) -> None:
    make_files(tmp_path)
    crystals = read_matbench(tmp_path / "file.json")
    limited = matbench_folds.folds_of_file(crystals, limit=30)
    assert limited.note.startswith("A part of Matbench's crystals")
    assert sum(len(test) for _, test in limited.folds) == 30
    assert matbench_folds.open_folds("petousis2017", limit=60).note.startswith("These are not Matbench's")


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_refused_in_one_line_before_any_training(tmp_path: Path) -> None:
    make_files(tmp_path)

    def run(*arguments: str, data: str = "file.json") -> Result:
        return zoo("matbench", "best_electronic", *QUICK, "--data", data, "--out", "run", *arguments, cwd=tmp_path)

    refused(run(data="petousis"), "--data petousis: no such file", "petousis2017")
    refused(run("data.limit=9"), "data.limit 9 leaves too few crystals")
    refused(run("--published", "none.json"), "none.json: no such file")
    refused(run("--published", "published.json", data="petousis2017"), "--data matbench_dielectric.json.gz")
    refused(run("--sources", "sources.json"), "--published")
    refused(run("--published", "file.json"), "file.json", "model")
    changed(tmp_path / "published.json", lambda content: content.update(mine={"mb-dielectric-0001": 2.0}))
    refused(run("--published", "published.json"), "'mine' predicts none of the crystals")
    changed(tmp_path / "published.json", lambda content: content.update(zoo=content.pop("mine")))
    refused(run("--published", "published.json"), "has a model 'zoo'")
    changed(tmp_path / "file.json", lambda content: content.update(index=INDEX[:9], data=content["data"][:9]))
    refused(run(), "the file has 9 crystals, too few crystals for 5 folds")
    changed(tmp_path / "file.json", lambda content: content["columns"].reverse())
    refused(run(), "file.json: is not in the layout of matbench_dielectric")
    assert not (tmp_path / "run").exists()
