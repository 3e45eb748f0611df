"""What MLflow holds after a run, and the model that it serves."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from cli import refused, zoo
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from pymatgen.core import Structure

from zoo.config import recipe
from zoo.errors import ZooError
from zoo.registry.connect import without_password
from zoo.storage.run_folder import RunFolder, read_history, read_json, write_json, write_text
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
    assert parent.data.metrics["test_mae_ten_mean"] == pytest.approx(content["test"]["mae_ten"]["mean"])
    with contextlib.chdir(trained):
        names = {item.path for item in client.list_artifacts(parent.info.run_id)}
        figures = {item.path for item in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"recipe.yaml", "run.json", "data_report.json", "metrics.json", "errors_per_crystal_system.json"} <= names
    assert {"figures/parity_components.png", "figures/parity_polycrystalline.png"} <= figures
    assert len(children) == 2
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children)


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

    register = send._register
    monkeypatch.setattr(send, "_register", killed)
    assert zoo("run", "small.yaml", "name=cut", "training.max_epochs=1", "--out", "cut", cwd=trained).returncode == 130
    monkeypatch.setattr(send, "_register", register)
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
