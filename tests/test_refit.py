"""`zoo refit`: the final model on all crystals, with the errors and intervals of the folds."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli import refused, zoo
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

import zoo as package
from zoo.errors import ZooError
from zoo.evaluation.predictions import read_predictions
from zoo.inference.novelty import Novelty
from zoo.model import checkpoint
from zoo.tracking.promote import contest
from zoo.workflows.refit import RefitFolder


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    small = {
        "name": "small_total",
        "dataset": {"name": "petousis2017"},
        "target": "total",
        "data": {"limit": 100},
        "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
        "readout": {"name": "dtnet", "width": 8, "blocks": 1},
        "training": {"max_epochs": 2, "batch_size": 16},
        "tracking": {"enabled": False},
        "device": "cpu",
        "seeds": [0, 1],
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    for split in (0, 1):
        result = zoo("run", "small.yaml", f"split.seed={split}", "--out", f"fold_{split}", cwd=folder)
        assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def final(folds: Path) -> Path:
    result = zoo("refit", "fold_0", "fold_1", "--members", "3", "--out", "final", cwd=folds)
    assert result.returncode == 0, result.stderr
    assert "ensembles" in result.stdout and result.stdout.strip().splitlines()[-1].startswith("next: zoo predict")
    return folds / "final"


def test_it_is_trained_on_all_crystals_and_has_the_errors_of_the_folds(final: Path) -> None:
    card = checkpoint.read_card(final / "model")
    assert len(card.seen) == 100 and len(card.members) == 3
    content = json.loads((final / "metrics.json").read_text())
    assert content["n_train"] == 100 and content["folds"] == [10, 10]
    saved = [json.loads((final.parent / f"fold_{k}" / "metrics.json").read_text()) for k in (0, 1)]
    ensembles = [one["ensemble_test"]["mae_ten"] for one in saved]
    assert content["test"]["mae_ten"]["each"] == pytest.approx(ensembles, rel=1e-4)
    members = [one["test"]["mae_ten"]["mean"] for one in saved]
    assert content["test_members"]["mae_ten"]["each"] == pytest.approx(members)


def test_intervals_are_calibrated_on_the_test_parts(final: Path) -> None:
    card = checkpoint.read_card(final / "model")
    assert card.calibration is not None and card.calibration.n == 20
    counted = card.metrics["calibration"]["test"]["polycrystalline"]
    assert counted["n"] == 20 and 0 <= counted["levels"]["0.8"]["covered"] <= 1
    answer = package.load(final, "cpu").predict(crystal(), coverage=0.8)
    low, high = answer.intervals["polycrystalline"]
    assert low < answer.polycrystalline < high


def crystal():
    from pymatgen.core import Lattice, Structure

    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_all_epochs_are_trained_and_none_is_validated(final: Path) -> None:
    for seed in range(3):
        rows = list(csv.DictReader((final / f"seed_{seed}" / "history.csv").open()))
        assert len(rows) == 2 and "val_mae_ten" not in rows[0]
    target = checkpoint.read_card(final / "model").target
    tested = read_predictions(final / "model" / "predictions.csv", "test", target)
    assert len(tested.keys) == len(set(tested.keys)) <= 20


def test_novelty_begins_where_the_folds_say(final: Path) -> None:
    reference = Novelty.load(final / "model")
    each = [Novelty.load(final.parent / f"fold_{k}" / "model") for k in (0, 1)]
    assert len(reference.names) == 100 and np.isfinite(reference.threshold)
    assert 0 < reference.threshold < 10 * max(one.threshold for one in each)


def test_the_card_says_whose_the_errors_are(final: Path) -> None:
    page = (final / "model" / "card.html").read_text()
    assert "2 ensembles" in page and "CC0" in page


def test_it_goes_on_after_a_stop_with_the_same_result(final: Path, tmp_path: Path) -> None:
    """A kill in the midst of a member: its last epoch and the other members are as without."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(final, copy)
    for gone in ("metrics.json", "seed_2/result.json"):
        (copy / gone).unlink()
    shutil.rmtree(copy / "model")
    result = zoo("refit", "--resume", str(copy), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "seed 1  is done already" in result.stdout
    for name in ("member_0.safetensors", "member_2.safetensors"):
        assert (copy / "model" / name).read_bytes() == (final / "model" / name).read_bytes()
    refused(zoo("refit", "--resume", str(copy), cwd=tmp_path), "is finished", "zoo predict")


def test_it_is_sent_and_registered_as_a_run_is(final: Path, tmp_path: Path) -> None:
    """Once, however often it is sent; the registered model answers as the folder does."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    sent = [zoo("track", str(final), "--uri", uri, cwd=tmp_path) for _ in range(2)]
    assert sent[0].returncode == 0, sent[0].stderr
    assert sent[0].stdout == sent[1].stdout and "models:/small-total-refit/1 (champion)" in sent[0].stdout
    client, content = MlflowClient(uri), json.loads((final / "metrics.json").read_text())
    (parent,) = client.search_runs(["1"], "attributes.run_name = 'small_total_refit'")
    metrics = parent.data.metrics
    assert metrics["test_mae_ten"] == pytest.approx(content["test_members"]["mae_ten"]["mean"])
    assert metrics["test_mae_ten_ensemble"] == pytest.approx(content["test"]["mae_ten"]["mean"])
    assert metrics["test_coverage_90"] == content["calibration"]["test"]["tensor"]["levels"]["0.9"]["covered"]
    assert [json.loads(one.dataset.profile)["num_rows"] for one in parent.inputs.dataset_inputs] == [100]
    members = client.search_runs(["1"], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert len(members) == 3 and all(one.info.status == "FINISHED" for one in [parent, *members])
    assert len(client.get_metric_history(members[0].info.run_id, "train_loss")) == 2
    assert {"refit.yaml", "folds.json", "card.html"} <= {one.path for one in client.list_artifacts(parent.info.run_id)}
    version = client.get_model_version("small-total-refit", "1")
    assert "2 folds" in version.description and version.tags["zoo.target"] == "total"
    crystal().to(str(tmp_path / "mgo.cif"))
    asked = [
        zoo("predict", name, "mgo.cif", "--format", "json", cwd=tmp_path) for name in ("small-total-refit", str(final))
    ]
    assert asked[0].returncode == 0, asked[0].stderr
    assert asked[0].stdout == asked[1].stdout
    with _use_tracking_uri(uri):  # where MLflow looks for the source, whatever other tests have set
        second = client.create_model_version("small-total-refit", version.source, version.run_id)
    with pytest.raises(ZooError, match="version 1 of 'small-total-refit' was trained on all crystals"):
        contest("small-total-refit", str(second.version), uri)


def test_bad_folds_are_one_line(folds: Path, final: Path) -> None:
    refused(zoo("refit", cwd=folds), "zoo refit runs/fold_*")
    refused(zoo("refit", "fold_0", cwd=folds), "two runs at least")
    refused(zoo("refit", "fold_0", "fold_0", cwd=folds), "its split.seed is the same")
    refused(zoo("refit", "fold_0", "nothing", cwd=folds), "nothing")
    refused(zoo("refit", "fold_0", "final", cwd=folds), "final is no run folder")
    other = zoo("run", "small.yaml", "split.seed=2", "training.max_epochs=1", "--out", "other", cwd=folds)
    assert other.returncode == 0
    refused(zoo("refit", "fold_0", "other", cwd=folds), "another recipe")
    refused(zoo("run", "--resume", "final", cwd=folds), "final is no run folder")
    assert not RefitFolder(folds / "nothing").path.exists()


@pytest.mark.parametrize("content", [None, "3", '{"a": 1}', "[1, 2]", "[[", ""])
def test_a_damaged_list_of_folds_is_one_line(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "refit.yaml").write_text("")
    if content is not None:
        (tmp_path / "folds.json").write_text(content)
    refused(zoo("refit", "--resume", str(tmp_path), cwd=tmp_path), "folds.json")
