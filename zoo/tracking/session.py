"""The MLflow runs that belong to a run folder: one parent and, where there are several seeds (folds), a child each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from zoo.config.recipe import Recipe, Tracking
from zoo.storage.run_folder import RunFolder, read_json, write_json
from zoo.tracking.connect import mlflow_errors, tracking_uri, without_password

EpochRow = dict[str, float]


class Session:
    """Opens the runs, or finds those opened earlier, and logs epochs that are not logged yet.

    `mlflow.json` in the run folder remembers, for each tracking URI, run ids and what was sent, so that a run that is
    tracked live, stopped, resumed and sent again is one MLflow run without doubled points.

    Args:
        tracking: where to.
        config: the recipe.
        folder: the run's.
        above: id of a run that this one is a child of, as a sweep's cells are.
        part: what the recipe's seeds are called, `seed` or `fold`.

    Raises:
        ZooError: MLflow cannot be reached.
    """

    def __init__(
        self, tracking: Tracking, config: Recipe, folder: RunFolder, above: str | None = None, part: str = "seed"
    ) -> None:
        self.uri = tracking_uri(tracking.uri)
        self._part = part
        self.config = config
        self.folder = folder
        self._servers: dict[str, Any] = read_json(folder.tracked) if folder.tracked.is_file() else {}
        self.state: dict[str, Any] = self._servers.get(without_password(self.uri), {})
        with mlflow_errors(self.uri):
            self.client = MlflowClient(tracking_uri=self.uri)
            if not self._known():
                self.state = {"logged": {}, "done": []}
                self._open(tracking.experiment)
            if above is not None and self.state.get("above") != above:
                self.client.set_tag(self.parent, MLFLOW_PARENT_RUN_ID, above)
                self.state["above"] = above
                self.remember()
        self.set_status("RUNNING" if "sent" not in self.state else "FINISHED")

    def _known(self) -> bool:
        """Whether the run that is remembered is still there."""
        if "parent" not in self.state:
            return False
        try:
            return bool(self.client.get_run(self.state["parent"]).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _open(self, experiment: str) -> None:
        found = self.client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else self.client.create_experiment(experiment)
        self.state["experiment"] = experiment_id
        self.state["parent"] = self._create(self.config.name, None)
        self.state["seeds"] = {
            str(seed): self.state["parent"]
            if len(self.config.seeds) == 1
            else self._create(f"{self.config.name} {self._part} {seed}", self.state["parent"])
            for seed in self.config.seeds
        }
        self.remember()

    def _create(self, name: str, parent: str | None) -> str:
        tags = {MLFLOW_RUN_NAME: name} | ({MLFLOW_PARENT_RUN_ID: parent} if parent else {})
        run_id: str = self.client.create_run(self.state["experiment"], tags=tags).info.run_id
        return run_id

    def remember(self) -> None:
        """Write the state down."""
        self._servers[without_password(self.uri)] = self.state
        write_json(self.folder.tracked, self._servers)

    def once(self, step: str, do: Callable[[], None]) -> None:
        """Do a step of sending, unless an earlier call has done it."""
        if step not in self.state["done"]:
            do()
            self.state["done"].append(step)
            self.remember()

    def set_status(self, status: str) -> None:
        """RUNNING, FINISHED, FAILED or KILLED, of all runs."""
        with mlflow_errors(self.uri):
            for run_id in {self.parent, *self.state["seeds"].values()}:
                self.client.update_run(run_id, status=status)

    @property
    def parent(self) -> str:
        """Id of the run of the whole recipe."""
        return str(self.state["parent"])

    def seed_run(self, seed: int) -> str:
        """Id of the run of one seed; the parent's where there is only one seed."""
        return str(self.state["seeds"][str(seed)])

    def log_epochs(self, seed: int, rows: Sequence[EpochRow]) -> None:
        """Log the epochs that are not logged yet."""
        done = self.state["logged"].get(str(seed), 0)
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, int(row["epoch"]))
            for row in rows
            if row["epoch"] > done
            for name, value in row.items()
            if name != "epoch"
        ]
        if not metrics:
            return
        with mlflow_errors(self.uri):
            for start in range(0, len(metrics), 900):  # the server takes at most 1000 at once
                self.client.log_batch(self.seed_run(seed), metrics=metrics[start : start + 900])
        self.state["logged"][str(seed)] = int(rows[-1]["epoch"])
        self.remember()

    def log(self, run_id: str, params: dict[str, Any], metrics: dict[str, float], tags: dict[str, str]) -> None:
        """Parameters (those that the run has not got yet), final metrics and tags."""
        now = int(time.time() * 1000)
        with mlflow_errors(self.uri):
            known = self.client.get_run(run_id).data.params
            self.client.log_batch(
                run_id,
                metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
                params=[Param(name, str(value)[:6000]) for name, value in params.items() if name not in known],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
