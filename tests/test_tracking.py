"""What MLflow holds after a run, and the model that it serves."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml
from cli import refused, zoo
from mlflow import MlflowClient
from mlflow.entities import Dataset, Run
from mlflow.exceptions import MlflowException
from pymatgen.core import Structure

from zoo.config import recipe
from zoo.errors import ZooError
from zoo.registry.connect import without_password
from zoo.storage.run_folder import RunFolder, read_history, read_json, write_json, write_text
from zoo.tracking import send
from zoo.tracking.epoch_logger import EpochLogger
from zoo.tracking.run_inputs import CONTEXTS
from zoo.tracking.seed_runs import SeedRuns

pytestmark = pytest.mark.extended


@pytest.fixture
def client(trained: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{trained / 'mlflow.db'}")


def runs_of(client: MlflowClient, trained: Path):
    state = next(iter(read_json(RunFolder(trained / "run").tracked).values()))
    runs = state["runs"]
    return client.get_run(runs["parent"]), [client.get_run(runs[name]) for name in ("seed 0", "seed 1")]


def test_the_parent_holds_the_recipe_the_versions_and_the_result(client: MlflowClient, trained: Path) -> None:
    parent, children = runs_of(client, trained)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["readout.name"] == "dtnet"
    assert parent.data.params["training.max_epochs"] == "2"
    content = read_json(trained / "run" / "metrics.json")
    assert parent.data.metrics["test_mae_ten"] == pytest.approx(content["test"]["mae_ten"]["mean"])
    assert parent.data.metrics["test_mae_ten_std"] == pytest.approx(content["test"]["mae_ten"]["std"])
    for seed, child in enumerate(children):
        assert child.data.metrics["test_mae_ten"] == pytest.approx(content["test"]["mae_ten"]["each"][seed])
    with contextlib.chdir(trained):
        names = {item.path for item in client.list_artifacts(parent.info.run_id)}
        figures = {item.path for item in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"recipe.yaml", "run.json", "data_report.json", "metrics.json", "errors_per_crystal_system.json"} <= names
    assert "card.html" in names
    assert {"figures/parity_components.png", "figures/parity_polycrystalline.png"} <= figures
    assert len(children) == 2
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children)


def test_a_run_says_what_it_is_and_how_wrong(client: MlflowClient, trained: Path) -> None:
    parent, children = runs_of(client, trained)
    told = {"zoo.recipe": "small_total", "zoo.target": "total", "zoo.encoder": "nequip", "zoo.readout": "dtnet"}
    for run in (parent, *children):
        assert told.items() <= run.data.tags.items() and run.data.tags["zoo.device"] == "cpu"
        assert run.data.tags["mlflow.source.name"] == "zoo run"
        assert "zoo.opened" not in run.data.tags
    about = parent.data.tags["mlflow.note.content"]
    errors = table_of(about)
    mean = read_json(trained / "run" / "metrics.json")["test"]["mae_ten"]["mean"]
    assert errors["all"]["MAE_ten"].startswith(f"{mean:.3f}") and "predicting the mean" in errors
    assert "cubic" not in errors
    assert f"runs/{parent.info.run_id}/artifacts/card.html" in about and "small.yaml" in about


def table_of(markdown: str) -> dict[str, dict[str, str]]:
    """Row -> column -> cell of the table in a description."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def test_the_parts_of_the_split_are_inputs(client: MlflowClient, trained: Path) -> None:
    """Each seed with a split of its own has its three parts, the whole of them all crystals."""
    parent, children = runs_of(client, trained)
    digests = set()
    for seed, child in enumerate(children):
        split = read_json(trained / "run" / f"seed_{seed}" / "split.json")
        found = inputs_of(child)
        assert {context: len(split[part]) for part, context in CONTEXTS.items()} == {
            context: json.loads(one.profile)["num_rows"] for context, one in found.items()
        }
        assert {one.name for one in found.values()} == {"petousis2017"}
        digests |= {one.digest for one in found.values()}
    assert len(digests) == 6
    whole = inputs_of(parent)
    assert list(whole) == ["all"] and json.loads(whole["all"].profile)["num_rows"] == 40


def inputs_of(run: Run) -> dict[str, Dataset]:
    """Context -> dataset of a run."""
    found = run.inputs.dataset_inputs
    return {tag.value: one.dataset for one in found for tag in one.tags if tag.key == "mlflow.data.context"}


def test_what_is_known_at_the_start_is_there_from_the_first_epoch(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped after its first epoch has parameters, tags and inputs; its resumption doubles nothing."""
    epoch = EpochLogger.epoch

    def stopping(self: EpochLogger, seed: int, row: dict[str, float]) -> None:
        epoch(self, seed, row)
        raise KeyboardInterrupt

    monkeypatch.setattr(EpochLogger, "epoch", stopping)
    changes = ("name=begun", "training.max_epochs=2", "tracking.register_model=false")
    assert zoo("run", "small.yaml", *changes, "--out", "begun", cwd=trained).returncode == 130
    monkeypatch.undo()
    client = MlflowClient(tracking_uri=f"sqlite:///{trained / 'mlflow.db'}")
    (state,) = read_json(RunFolder(trained / "begun").tracked).values()
    run = client.get_run(state["runs"]["parent"])
    assert list(run.data.params)[:2] == ["target", "encoder.name"]
    assert run.data.tags["zoo.encoder"] == "nequip" and "zoo run recipe.yaml" in run.data.tags["mlflow.note.content"]
    assert sorted(inputs_of(run)) == sorted(CONTEXTS.values())
    assert zoo("run", "--resume", "begun", cwd=trained).returncode == 0
    assert len(client.get_run(run.info.run_id).inputs.dataset_inputs) == 3
    assert [len(client.get_metric_history(run.info.run_id, name)) for name in ("test_mae_ten", "train_loss")] == [1, 2]


def test_a_child_holds_every_epoch_once_and_the_split(client: MlflowClient, trained: Path) -> None:
    _, children = runs_of(client, trained)
    for seed, child in enumerate(children):
        history = client.get_metric_history(child.info.run_id, "val_mae_ten")
        assert sorted(point.step for point in history) == [1, 2]
        with contextlib.chdir(trained):
            names = {Path(item.path).name for item in client.list_artifacts(child.info.run_id, f"seed_{seed}")}
        assert {"history.csv", "split.json", "predictions.csv", "last.pt", "best.pt"} <= names


def test_the_registered_version_has_signature_example_and_aliases(client: MlflowClient, trained: Path) -> None:
    version = client.get_model_version_by_alias("small-total", "champion")
    with contextlib.chdir(trained):
        mlflow.set_tracking_uri(f"sqlite:///{trained / 'mlflow.db'}")
        info = mlflow.models.get_model_info(f"models:/small-total/{version.version}")
    assert info.signature is not None
    assert "cif" in str(info.signature.inputs)
    assert info.saved_input_example_info is not None


def test_the_registered_model_and_its_version_are_described(client: MlflowClient, trained: Path) -> None:
    version, model = client.get_model_version("small-total", "1"), client.get_registered_model("small-total")
    assert "zoo predict small-total" in model.description and model.tags["zoo.target"] == "total"
    assert version.tags["zoo.readout"] == "dtnet" and "all" in table_of(version.description)
    assert f"runs/{version.run_id}/artifacts/card.html" in version.description
    with contextlib.chdir(trained):
        page = mlflow.artifacts.download_artifacts(version.tags["zoo.card"], tracking_uri=client.tracking_uri)
    assert Path(page).read_text().startswith("<!DOCTYPE html>")


def test_what_somebody_wrote_about_a_model_stays(trained: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{trained / 'mlflow.db'}")
    client.create_registered_model("described", description="by hand")
    result = zoo("run", "small.yaml", "name=described", "training.max_epochs=1", "--out", "described", cwd=trained)
    assert result.returncode == 0, result.stderr
    assert client.get_registered_model("described").description == "by hand"


def test_the_served_model_answers_as_the_command_line(client: MlflowClient, trained: Path) -> None:
    with contextlib.chdir(trained):
        mlflow.set_tracking_uri(f"sqlite:///{trained / 'mlflow.db'}")
        model = mlflow.pyfunc.load_model("models:/small-total@champion")
    path = trained / "NaCl.cif"
    shown = json.loads(zoo("predict", "run", "NaCl.cif", "--format", "json", cwd=trained).stdout)[0]
    shown.pop("file")
    assert model.predict([{"cif": path.read_text()}]) == [shown]
    by_dict = model.predict([{"structure": json.dumps(Structure.from_file(path).as_dict())}])[0]
    np.testing.assert_allclose(by_dict["tensor"], shown["tensor"], rtol=1e-5, atol=1e-5)
    for bad in ({"cif": "nonsense"}, {"structure": "{}"}, {}, {"cif": "x", "structure": "{}"}):
        with pytest.raises(MlflowException) as caught:
            model.predict([bad])
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
        assert "\n" not in caught.value.message.strip()


def test_what_speaks_against_a_champion_by_default() -> None:
    def content(crystals: int, error: float) -> dict[str, Any]:
        test, mean = ({"n": {"mean": 9}, "mae_ten": {"mean": value}} for value in (error, 2.0))
        return {"n_train": crystals, "test": test, "test_mean_baseline": mean}

    assert send._against_it(content(100, 1.9)) == ""
    assert "99" in send._against_it(content(99, 1.9))
    assert "2.5" in send._against_it(content(100, 2.5))


def test_a_second_version_is_the_challenger_and_the_champion_stays(trained: Path, client: MlflowClient) -> None:
    before = client.get_model_version_by_alias("small-total", "champion").version
    result = zoo("run", "small.yaml", "training.max_epochs=1", "--out", "second", cwd=trained)
    assert result.returncode == 0, result.stderr
    assert client.get_model_version_by_alias("small-total", "champion").version == before
    assert client.get_model_version_by_alias("small-total", "challenger").version != before


def test_what_a_server_missed_is_sent_later(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server fails for one epoch: the next one brings both, and the retried sending doubles nothing."""
    from zoo.tracking.seed_runs import SeedRuns

    log, calls = SeedRuns.log_epochs, []

    def failing(self, seed, rows):
        calls.append(seed)
        if len(calls) == 2:
            raise ZooError("down")
        log(self, seed, rows)

    monkeypatch.setattr(SeedRuns, "log_epochs", failing)
    result = zoo("run", "small.yaml", "name=missed", "training.max_epochs=3", "--out", "missed", cwd=trained)
    assert result.returncode == 0, result.stderr
    assert "warning: down" in result.stderr
    state = next(iter(read_json(RunFolder(trained / "missed").tracked).values()))
    client = MlflowClient(tracking_uri=f"sqlite:///{trained / 'mlflow.db'}")
    history = client.get_metric_history(state["runs"]["parent"], "val_mae_ten")
    assert [point.step for point in sorted(history, key=lambda p: p.step)] == [1, 2, 3]


def test_a_sending_that_failed_midway_goes_on(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alias = MlflowClient.set_registered_model_alias

    def failing(*arguments, **more):
        raise RuntimeError

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", failing)
    result = zoo("run", "small.yaml", "name=midway", "training.max_epochs=1", "--out", "midway", cwd=trained)
    refused(result, "RuntimeError", "zoo track midway")
    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", alias)
    again = zoo("track", "midway", cwd=trained)
    assert "models:/midway/1 (champion)" in again.stdout
    client = MlflowClient(tracking_uri=f"sqlite:///{trained / 'mlflow.db'}")
    assert len(client.search_model_versions("name='midway'")) == 1


def test_epochs_that_a_kill_kept_from_being_noted_are_not_sent_twice(trained: Path) -> None:
    """The store has them, mlflow.json does not know it."""
    folder = RunFolder(trained / "run")
    text = folder.tracked.read_text()
    servers = read_json(folder.tracked)
    (state,) = servers.values()
    state["logged"] = {}
    write_json(folder.tracked, servers)
    config = recipe.read(str(folder.recipe))
    runs = SeedRuns(config.tracking.model_copy(update={"uri": f"sqlite:///{trained}/mlflow.db"}), config, folder)
    before = len(runs.client.get_metric_history(runs.seed_run(0), "train_loss"))
    runs.log_epochs(0, read_history(folder.seed(0)))
    assert len(runs.client.get_metric_history(runs.seed_run(0), "train_loss")) == before == 2
    write_text(folder.tracked, text)


def test_a_run_killed_before_it_was_registered_is_registered_by_its_resumption(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is there, the runs say RUNNING; the resumption sends the rest, and a further one has nothing to do."""
    from zoo.tracking import send

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    register = send.register
    monkeypatch.setattr(send, "register", killed)
    assert zoo("run", "small.yaml", "name=cut", "training.max_epochs=1", "--out", "cut", cwd=trained).returncode == 130
    monkeypatch.setattr(send, "register", register)
    client = MlflowClient(tracking_uri=f"sqlite:///{trained / 'mlflow.db'}")
    (state,) = read_json(RunFolder(trained / "cut").tracked).values()
    assert client.get_run(state["runs"]["parent"]).info.status == "RUNNING"
    again = zoo("run", "--resume", "cut", cwd=trained)
    assert again.returncode == 0 and "models:/cut/1 (champion)" in again.stdout
    assert client.get_run(state["runs"]["parent"]).info.status == "FINISHED"
    refused(zoo("run", "--resume", "cut", cwd=trained), "cut is finished")


def test_a_database_that_cannot_be_made_does_not_stop_the_training(trained: Path) -> None:
    uri = "tracking.uri=sqlite:////proc/no/mlflow.db"
    result = zoo("run", "small.yaml", uri, "training.max_epochs=1", "--out", "proc", cwd=trained)
    refused(result, "zoo track proc")
    assert "MAE_ten" in result.stdout


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:s3/cr@et@127.0.0.1:9",
        "postgresql+psycopg2://me:s3cr@et@127.0.0.1:9/mlflow",
        "postgresql+psycopg2://127.0.0.1:9/mlflow?user=me&password=s3cret",
    ],
)
def test_no_password_is_shown(uri: str) -> None:
    shown = without_password(f"cannot reach {uri} now")
    assert "cr" not in shown.removeprefix("cannot reach") and "et" not in shown
    assert "127.0.0.1:9" in shown and shown.endswith(" now")


def test_a_single_seed_is_a_single_run(trained: Path) -> None:
    result = zoo("run", "small.yaml", "name=single", "training.max_epochs=1", "--out", "single", cwd=trained)
    assert result.returncode == 0, result.stderr
    state = next(iter(read_json(RunFolder(trained / "single").tracked).values()))
    assert list(state["runs"]) == ["parent"]


def test_the_uri_of_the_environment_is_used(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    made = yaml.safe_load((trained / "small.yaml").read_text()) | {"name": "elsewhere", "training": {"max_epochs": 1}}
    (trained / "elsewhere.yaml").write_text(yaml.safe_dump(made))
    result = zoo("run", "elsewhere.yaml", "--out", "elsewhere", cwd=trained)
    assert result.returncode == 0, result.stderr
    assert (trained / "elsewhere.db").is_file()
