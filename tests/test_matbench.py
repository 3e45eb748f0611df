"""`zoo matbench`: trained by refractive indices alone, five folds, gone on with, and what Matbench's package gets."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from cli import accept, refused, zoo

from zoo.data.petousis2017 import Petousis2017
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json, read_rows
from zoo.workflows import matbench, matbench_folds

QUICK = (
    "encoder={name: nequip, cutoff: 3.0, layers: 1, channels: 4}",
    "readout={name: dtnet, width: 8, blocks: 1}",
    "training={max_epochs: 2, batch_size: 16, learning_rate: 0.01}",
    "device=cpu",
)


def isotropic(*constants: float) -> torch.Tensor:
    return torch.tensor(constants)[:, None, None] * torch.eye(3)


def test_the_index_of_a_tensor() -> None:
    assert torch.allclose(matbench.refractive_index(isotropic(4.0, 2.25)), torch.tensor([2.0, 1.5]))
    assert matbench.refractive_index(isotropic(0.3, -5.0)).tolist() == [1.0, 1.0]
    assert matbench.refractive_index(torch.diag(torch.tensor([2.0, 4.0, 6.0]))[None]).item() == pytest.approx(2.0)


def test_the_error_is_that_of_the_index_and_can_be_learned_from_below_one() -> None:
    tensors = isotropic(4.0, 0.3).requires_grad_()
    error = matbench.index_errors(tensors, torch.tensor([1.5, 1.2])).mean()
    assert error.item() == pytest.approx((0.5 + 0.2) / 2)
    error.backward()
    slopes = tensors.grad.diagonal(dim1=1, dim2=2)
    assert (slopes[0] > 0).all(), "too large: the trace must fall"
    assert (slopes[1] < 0).all(), "below the vacuum's: the trace must rise"


def test_folds_of_petousis() -> None:
    folds = matbench_folds.open_folds("petousis2017")
    count = len(folds.crystals.keys)
    assert folds.submit is None and len(folds.folds) == 5
    assert sorted(np.concatenate([test for _, test in folds.folds]).tolist()) == list(range(count))
    for train, test in folds.folds:
        assert not set(train) & set(test) and len(train) + len(test) == count
    records = {record.key: record for record in Petousis2017(Petousis2017.Hypers()).records()}
    tensor = records[folds.crystals.keys[7]].targets["electronic"]
    assert folds.crystals.indices[7] == pytest.approx((np.trace(tensor) / 3) ** 0.5)
    again = matbench_folds.open_folds("petousis2017")
    assert all((a[1] == b[1]).all() for a, b in zip(folds.folds, again.folds, strict=True))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matbench")
    arguments = (*QUICK, "data.limit=60", "--data", "petousis2017", "--out", "run")
    result = zoo("matbench", "best_electronic", *arguments, cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "stdout").write_text(result.stdout)
    return folder


def test_its_numbers_are_those_of_the_predictions(done: Path) -> None:
    content = read_json(done / "run" / "metrics.json")
    assert [fold["fold"] for fold in content["folds"]] == [0, 1, 2, 3, 4]
    maes = []
    for fold in content["folds"]:
        rows = read_rows(done / "run" / f"fold_{fold['fold']}" / "predictions.csv")
        error = np.array([float(row["predicted_n"]) - float(row["true_n"]) for row in rows])
        assert len(rows) == fold["n_test"] and fold["n_train"] + fold["n_val"] + fold["n_test"] == 60
        assert fold["mae"] == pytest.approx(np.abs(error).mean())
        assert fold["rmse"] == pytest.approx((error**2).mean() ** 0.5)
        assert all(float(row["predicted_n"]) >= 1 for row in rows)
        maes.append(fold["mae"])
    assert content["mae"] == {"mean": pytest.approx(np.mean(maes)), "std": pytest.approx(np.std(maes, ddof=1))}
    said = (done / "stdout").read_text()
    assert f"{content['mae']['mean']:.4f} ± {content['mae']['std']:.4f}" in said
    assert "leaderboard" in said


def test_it_is_in_mlflow(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run with the means, a child for each fold with its epochs; sent once."""
    from mlflow import MlflowClient

    monkeypatch.chdir(done)
    client = MlflowClient(tracking_uri=f"sqlite:///{done}/mlflow.db")
    content = read_json(done / "run" / "metrics.json")
    (state,) = read_json(done / "run" / "mlflow.json").values()
    runs = state["runs"]
    parent = client.get_run(runs["parent"])
    assert parent.info.run_name == "best_electronic_matbench" and parent.info.status == "FINISHED"
    assert parent.data.metrics["test_mae_n"] == content["mae"]["mean"]
    assert parent.data.metrics["test_mae_n_std"] == content["mae"]["std"]
    assert f"{content['mae']['mean']:.4f}" in parent.data.tags["mlflow.note.content"]
    assert parent.data.params["encoder.name"] == "nequip" and parent.data.tags["zoo.folds"] == "petousis2017"
    assert "metrics.json" in {file.path for file in client.list_artifacts(runs["parent"])}
    assert sorted(runs) == ["parent", "seed 0", "seed 1", "seed 2", "seed 3", "seed 4"]
    child = client.get_run(runs["seed 3"])
    assert child.info.run_name == "best_electronic_matbench fold 3"
    assert child.data.metrics["test_mae_n"] == content["folds"][3]["mae"]
    assert len(child.inputs.dataset_inputs) == 3 and child.data.tags["zoo.encoder"] == "nequip"
    assert [point.step for point in client.get_metric_history(child.info.run_id, "train_loss")] == [1, 2]
    count = len(client.search_runs([parent.info.experiment_id]))
    assert client.get_metric_history(child.info.run_id, "val_mae_n"), "the error of an index is not called MAE_ten"
    assert not client.get_metric_history(child.info.run_id, "val_mae_ten")
    assert "val_mae_n" in (done / "run/fold_3/history.csv").read_text().splitlines()[0].split(",")
    again = zoo("track", "run", cwd=done)
    assert again.returncode == 0
    assert runs["parent"] in again.stdout and runs["parent"] in (done / "stdout").read_text()
    assert len(client.search_runs([parent.info.experiment_id])) == count == 6


def test_a_stopped_one_is_gone_on_with(done: Path) -> None:
    run = done / "run"
    before = read_json(run / "metrics.json")
    untouched = (run / "fold_0" / "best.pt").stat().st_mtime_ns
    (run / "metrics.json").unlink()
    (run / "fold_3" / "result.json").unlink()
    arguments = (*QUICK, "data.limit=60", "--data", "petousis2017", "--out", "run")
    assert zoo("matbench", "best_electronic", *arguments, cwd=done).returncode == 0
    assert read_json(run / "metrics.json") == before
    assert (run / "fold_0" / "best.pt").stat().st_mtime_ns == untouched
    origin = read_json(run / "run.json")
    assert origin["data"] == "petousis2017"
    (run / "run.json").write_text(json.dumps(origin | {"folds": "of other crystals"}))
    accept(run / "run.json")
    refused(zoo("matbench", "best_electronic", *arguments, cwd=done), "folds of petousis2017", "others")
    (run / "run.json").write_text(json.dumps(origin))
    other = (*QUICK, "data.limit=61", "--data", "petousis2017", "--out", "run")
    refused(zoo("matbench", "best_electronic", *other, cwd=done), "another recipe", "--out")


def test_a_recipe_that_was_refused_can_be_mended(tmp_path: Path) -> None:
    """Nothing was begun, so the folder is free."""
    arguments = (*QUICK, "tracking.enabled=false", "data.limit=100", "--data", "petousis2017", "--out", "run")
    wrong = "readout={name: born}"
    refused(zoo("matbench", "best_electronic", *arguments, wrong, cwd=tmp_path), "born", "force constants")
    result = zoo("matbench", "best_electronic", *arguments, "training.max_epochs=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matbench", None)
    monkeypatch.setattr(matbench_folds.importlib.util, "find_spec", lambda name: None)
    refused(zoo("matbench", "--data", "matbench", cwd=tmp_path), "matbench is", "pip install --no-deps")
    few = zoo("matbench", "best_electronic", "data.limit=12", "--data", "petousis2017", cwd=tmp_path)
    refused(few, "data.limit 12")
    assert matbench_folds.open_folds("auto").name == "petousis2017"


class StandIn:
    """The part of Matbench's task that is used, over 40 crystals in its own kind of frame."""

    def __init__(self) -> None:
        pandas = pytest.importorskip("pandas")
        records = list(Petousis2017(Petousis2017.Hypers()).records())[:40]
        names = [f"mb-dielectric-{i:04d}" for i in range(1, 41)]
        index = [float(np.sqrt(np.trace(record.targets["electronic"]) / 3)) for record in records]
        self.df = pandas.DataFrame({"structure": [r.structure for r in records], "n": index}, index=names)
        self.folds = [0, 1, 2, 3, 4]
        self.recorded: dict[int, np.ndarray] = {}
        self.matbench_dielectric = self

    def load(self) -> None:
        pass

    def _test(self, fold: int) -> np.ndarray:
        return np.arange(40) % 5 == fold

    def get_train_and_val_data(self, fold: int):
        part = self.df[~self._test(fold)]
        return part["structure"], part["n"]

    def get_test_data(self, fold: int, include_target: bool):
        assert not include_target, "the labels of the test part are not for training"
        return self.df[self._test(fold)]["structure"]

    def record(self, fold: int, predictions: np.ndarray, params: dict) -> None:
        assert len(predictions) == self._test(fold).sum() and params
        self.recorded[fold] = predictions

    def add_metadata(self, metadata: dict) -> None:
        self.metadata = metadata

    def to_file(self, path: str) -> None:
        Path(path).write_text(json.dumps(self.metadata))


def test_matbenchs_own_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package: its data cannot be had here. scripts/test_foreign.sh takes the real package."""
    task = StandIn()
    module = types.ModuleType("matbench.bench")
    module.MatbenchBenchmark = lambda autoload, subset: task
    monkeypatch.setitem(sys.modules, "matbench", types.ModuleType("matbench"))
    monkeypatch.setitem(sys.modules, "matbench.bench", module)
    monkeypatch.setattr(matbench_folds.importlib.util, "find_spec", lambda name: True)
    result = zoo("matbench", "best_electronic", *QUICK, "tracking.enabled=false", "--out", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "run/results.json.gz" in result.stdout
    assert sorted(task.recorded) == task.folds
    rows = read_rows(tmp_path / "run" / "fold_2" / "predictions.csv")
    assert [row["key"] for row in rows] == list(task.get_test_data(2, include_target=False).index)
    np.testing.assert_allclose([float(row["predicted_n"]) for row in rows], task.recorded[2])
    assert "nequip + dtnet" in (tmp_path / "run" / "results.json.gz").read_text()


def test_the_real_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its 4,764 keys, folds, scores and file; for its crystals, which cannot be had, strained ones of petousis2017."""
    pytest.importorskip("matbench", reason="needs pip install --no-deps matbench matminer")
    import pandas
    from matbench.bench import MatbenchBenchmark
    from matbench.task import MatbenchTask

    records = [r for r in Petousis2017(Petousis2017.Hypers()).records() if len(r.structure) <= 3]
    names = [f"mb-dielectric-{i:04d}" for i in range(1, 4765)]
    chosen = [records[i % len(records)] for i in range(len(names))]
    structures = [r.structure.copy().apply_strain(1e-5 * i) for i, r in enumerate(chosen)]
    index = [float(np.sqrt(np.trace(record.targets["electronic"]) / 3)) for record in chosen]
    frame = pandas.DataFrame({"structure": structures, "n": index}, index=names)
    monkeypatch.setattr(MatbenchTask, "load", lambda task: setattr(task, "df", frame))
    one_epoch = "training={max_epochs: 1, batch_size: 64, learning_rate: 0.01}"
    arguments = (*QUICK[:2], one_epoch, "device=cpu", "--data", "matbench", "--out", "run")
    result = zoo("matbench", "best_electronic", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    read = MatbenchBenchmark.from_file(str(tmp_path / "run" / "results.json.gz"))
    assert read.is_valid and read.matbench_dielectric.all_folds_recorded
    scores = read.matbench_dielectric.scores
    content = read_json(tmp_path / "run" / "metrics.json")
    assert scores.mae.mean == pytest.approx(content["mae"]["mean"])
    assert scores.rmse.mean == pytest.approx(content["rmse"]["mean"])


def test_data_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(autoload, subset):
        raise ConnectionError("no route\nto host")

    module = types.ModuleType("matbench.bench")
    module.MatbenchBenchmark = broken
    monkeypatch.setitem(sys.modules, "matbench", types.ModuleType("matbench"))
    monkeypatch.setitem(sys.modules, "matbench.bench", module)
    monkeypatch.setattr(matbench_folds.importlib.util, "find_spec", lambda name: True)
    with pytest.raises(ZooError, match=r"no route .*MATMINER_DATA"):
        matbench_folds.open_folds("matbench")
    assert matbench_folds.open_folds("auto").name == "petousis2017"
