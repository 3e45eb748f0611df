"""A sweep in MLflow: one run, and each cell a child of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import __version__
from zoo.config.recipe import Tracking
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json, write_json
from zoo.sweep import table
from zoo.sweep.cells import Cell, expand
from zoo.sweep.study import Search
from zoo.sweep.sweep_config import Plan, read
from zoo.sweep.sweep_folder import SweepFolder
from zoo.tracking.connect import mlflow_errors, tracking_uri, without_password


@dataclass(frozen=True)
class SentSweep:
    """Place of a sweep in MLflow."""

    uri: str
    run_id: str
    cells: int

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.uri}, run {self.run_id}, {self.cells} cells below it"


def open_parent(plan: Plan, folder: SweepFolder, tracking: Tracking | None = None) -> str:
    """Id of the sweep's own run, the same for all processes: the first one makes it.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

    tracking = tracking or plan.base.tracking
    uri = tracking_uri(tracking.uri)
    with folder.alone(), mlflow_errors(uri):
        client = MlflowClient(tracking_uri=uri)
        servers: dict[str, str] = read_json(folder.tracked) if folder.tracked.is_file() else {}
        known = servers.get(without_password(uri))
        if known is not None:
            try:
                if client.get_run(known).info.lifecycle_stage == "active":
                    client.update_run(known, status="RUNNING")
                    return known
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        found = client.get_experiment_by_name(tracking.experiment)
        experiment = found.experiment_id if found else client.create_experiment(tracking.experiment)
        run_id: str = client.create_run(experiment, tags={MLFLOW_RUN_NAME: plan.base.name}).info.run_id
        write_json(folder.tracked, {**servers, without_password(uri): run_id})
        return run_id


def send_sweep(plan: Plan, folder: SweepFolder, tracking: Tracking | None = None) -> SentSweep:
    """Send all finished cells, and table and figure as they are now; what was sent before is not sent twice.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    from mlflow import MlflowClient

    from zoo.tracking.send import flatten, send

    tracking = tracking or plan.base.tracking
    parent = open_parent(plan, folder, tracking)
    uri = tracking_uri(tracking.uri)
    found = table.outcomes(_cells(plan, folder), folder, plan.sweep.compare)
    done = [one for one in found if one.content is not None]
    with mlflow_errors(uri):
        client = MlflowClient(tracking_uri=uri)
        for one in done:
            child = send(one.folder, tracking.model_copy(update={"register_model": False}), parent).run_id
            for name, text in one.cell.labels.items():
                client.set_tag(child, f"zoo.sweep.{name}", text)
        known = client.get_run(parent).data.params
        params = flatten(plan.base.model_dump(mode="json", exclude={"tracking", "description"}))
        params |= {f"sweep.{name}": text for name, text in _axes(plan).items()}
        for name, value in params.items():
            if name not in known:
                client.log_param(parent, name, str(value)[:6000])
        best = best_of(found)
        if best is not None and best.content is not None:
            client.log_metric(parent, f"best_val_{best.metric}_mean", best.content["val"][best.metric]["mean"])
            client.set_tag(parent, "zoo.sweep.best", best.cell.slug)
        for status in ("done", "failed"):
            client.log_metric(parent, f"cells_{status}", sum(one.status == status for one in found))
        client.set_tag(parent, "zoo.version", __version__)
        for path in (folder.plan, folder.table, folder.seeds, folder.markdown, folder.figure):
            if path.is_file():
                client.log_artifact(parent, str(path))
        client.update_run(parent, status="FINISHED")
    return SentSweep(without_password(uri), parent, len(done))


def best_of(found: list[table.Outcome]) -> table.Outcome | None:
    """The cell with the lowest validation error; None where targets or datasets differ: such errors do not compare."""
    if len({(one.cell.config.dataset.name, one.cell.config.target) for one in found}) != 1:
        return None
    done = [one for one in found if one.content is not None]
    return min(done, key=lambda one: one.content["val"][one.metric]["mean"], default=None)  # type: ignore[index]


def track(path: Path, uri: str | None) -> SentSweep:
    """`zoo track SWEEP_DIR`.

    Raises:
        ZooError: it is no sweep's folder, or MLflow cannot be reached.
    """
    plan = read(str(path / "sweep.yaml"))
    if not isinstance(plan, Plan):
        raise ZooError(f"{path}/sweep.yaml has no sweep section")
    tracking = plan.base.tracking
    if uri is not None:
        tracking = tracking.model_copy(update={"uri": uri})
    return send_sweep(plan, SweepFolder(path), tracking)


def _cells(plan: Plan, folder: SweepFolder) -> list[Cell]:
    return expand(plan) if plan.sweep.optuna is None else Search(plan, folder).cells()


def _axes(plan: Plan) -> dict[str, Any]:
    if plan.sweep.optuna is not None:
        return {key: at.model_dump() for key, at in plan.sweep.optuna.search.items()}
    return {one.name: ", ".join(choice.label for choice in one.choices) for one in plan.axes}
