"""Send a sweep to MLflow: one run for the sweep, and each cell as its child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoo import __version__
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json, write_json
from zoo.sweep import table
from zoo.sweep.search import study_of
from zoo.sweep.sweep_config import Plan, read
from zoo.sweep.sweep_folder import SweepFolder
from zoo.tracking.connect import mlflow_errors, tracking_uri, without_password


@dataclass(frozen=True)
class SentSweep:
    """The MLflow run of a sweep."""

    uri: str
    run_id: str
    cells: int

    @property
    def line(self) -> str:
        """URI, run id and number of cells in one line."""
        return f"{self.uri}, run {self.run_id}, {self.cells} cells below it"


def open_parent(plan: Plan, folder: SweepFolder) -> str:
    """Return the id of the sweep's own run, the same for all processes: the first one makes it.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

    tracking = plan.base.tracking
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
        experiment = client.get_experiment_by_name(tracking.experiment)
        number = experiment.experiment_id if experiment else client.create_experiment(tracking.experiment)
        run_id: str = client.create_run(number, tags={MLFLOW_RUN_NAME: plan.base.name}).info.run_id
        write_json(folder.tracked, {**servers, without_password(uri): run_id})
        return run_id


def send_sweep(plan: Plan, folder: SweepFolder) -> SentSweep:
    """Send all finished cells, and table and figure as they are now; nothing is sent twice.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    from zoo.tracking.send import flatten, send

    study = study_of(plan, folder)
    parent = open_parent(plan, folder)
    uri = tracking_uri(plan.base.tracking.uri)
    results = table.outcomes(study.cells(), folder, plan.sweep.compare)
    done = [result for result in results if result.content is not None]
    with mlflow_errors(uri):
        client = MlflowClient(tracking_uri=uri)
        for result in done:
            tracking = plan.base.tracking.model_copy(update={"register_model": False})
            child = send(result.folder, tracking, parent).run_id
            for name, text in result.cell.labels.items():
                client.set_tag(child, f"zoo.sweep.{name}", text)
        params = flatten(plan.base.model_dump(mode="json", exclude={"tracking", "description"}))
        params |= {f"sweep.{name}": text for name, text in plan.varied.items()}
        numbers = {f"cells_{status}": sum(r.status == status for r in results) for status in ("done", "failed")}
        tags = {"zoo.version": __version__}
        best = best_of(results)
        if best is not None and best.content is not None:
            numbers[f"best_val_{best.metric}_mean"] = best.content["val"][best.metric]["mean"]
            tags["zoo.sweep.best"] = best.cell.slug
        known = client.get_run(parent).data.params
        client.log_batch(
            parent,
            metrics=[Metric(name, value, 0, 0) for name, value in numbers.items()],
            params=[Param(name, str(value)[:6000]) for name, value in params.items() if name not in known],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        for path in (folder.recipe, folder.table, folder.seeds, folder.markdown, folder.figure):
            if path.is_file():
                client.log_artifact(parent, str(path))
        client.update_run(parent, status="FINISHED")
    return SentSweep(without_password(uri), parent, len(done))


def best_of(results: Sequence[table.Outcome]) -> table.Outcome | None:
    """The cell with the lowest validation error; None if targets or datasets differ, as their errors do not compare."""
    if len({(result.cell.recipe.dataset.name, result.cell.recipe.target) for result in results}) != 1:
        return None
    done = [result for result in results if result.content is not None]
    return min(done, key=lambda r: r.content["val"][r.metric]["mean"], default=None)  # type: ignore[index]


def track(path: Path, uri: str | None) -> SentSweep:
    """Send the sweep in a folder, as `zoo track SWEEP_DIR` does; `uri` replaces the recipe's tracking URI.

    Raises:
        ZooError: the folder holds no sweep, or MLflow cannot be reached.
    """
    plan = read(str(path / "sweep.yaml"))
    if not isinstance(plan, Plan):
        raise ZooError(f"{path}/sweep.yaml has no sweep section")
    if uri is not None:
        tracking = plan.base.tracking.model_copy(update={"uri": uri})
        plan = replace(plan, base=plan.base.model_copy(update={"tracking": tracking}))
    return send_sweep(plan, SweepFolder(path))
