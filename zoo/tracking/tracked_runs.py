"""The MLflow runs of a work folder: a run of the whole and others below it, remembered in the folder's mlflow.json."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from zoo.config.recipe import Tracking
from zoo.registry.connect import mlflow_errors, tracking_uri, without_password
from zoo.registry.tracking_store import client_of
from zoo.storage.run_folder import read_json, write_json
from zoo.storage.work_folder import WorkFolder

MARK = "zoo.opened"
"""Tag of a run with the mark under which a work folder opens it, until the folder has its id."""
PARENT = "parent"
"""Name of the run of the whole work."""


class TrackedRuns:
    """Opens runs, or finds those opened earlier, and logs to them what has not been logged yet.

    For each tracking URI, mlflow.json holds the ids of the runs by their names and the steps of sending that are done,
    so that work that is tracked live, stopped, resumed and sent again is one MLflow run without doubled points.

    Args:
        tracking: the recipe's section.
        folder: of the work.

    Attributes:
        uri: tracking URI.
        client: MLflow's.
        state: what mlflow.json holds for the URI.

    Raises:
        ZooError: MLflow cannot be reached.
    """

    def __init__(self, tracking: Tracking, folder: WorkFolder) -> None:
        self.uri = tracking_uri(tracking.uri)
        self.client = client_of(self.uri)
        self._experiment, self._folder = tracking.experiment, folder
        self._servers: dict[str, Any] = read_json(folder.tracked) if folder.tracked.is_file() else {}
        self.state = _current_form(self._servers.get(self.shown_uri, {}))

    @property
    def shown_uri(self) -> str:
        """The tracking URI without a password."""
        return without_password(self.uri)

    @property
    def parent(self) -> str:
        """Id of the run of the whole work."""
        return str(self.state["runs"][PARENT])

    def link_to(self, artifact: str) -> str:
        """Link in Markdown that opens a file of the run of the whole in MLflow's pages, wherever they are served."""
        experiment = self.client.get_run(self.parent).info.experiment_id
        return f"[{artifact}](#/experiments/{experiment}/runs/{self.parent}/artifacts/{artifact})"

    def remember(self) -> None:
        """Write the state down."""
        self._servers[self.shown_uri] = self.state
        write_json(self._folder.tracked, self._servers)

    def once(self, step: str, do: Callable[[], None]) -> None:
        """Do a step of sending, unless an earlier call has done it."""
        if step not in self.state["done"]:
            do()
            self.state["done"].append(step)
            self.remember()

    def opened(self, name: str, title: str, above: str | None = None) -> str:
        """Return the id of a run, which is made where it is not there (any more).

        Args:
            name: of the run in mlflow.json; with `PARENT` made anew, all that was below the earlier one is forgotten.
            title: of the run in MLflow.
            above: id of the run that it is a child of.

        Raises:
            ZooError: MLflow cannot be reached.
        """
        with mlflow_errors(self.uri):
            if not self.is_there(name):
                if name == PARENT:
                    self.state = _current_form({"opening": self.state["opening"]})
                self.state["runs"][name] = self._made_before(name) or self._create(name, title, above)
                del self.state["opening"][name]
                self.remember()
                self.client.delete_tag(self.state["runs"][name], MARK)
        return str(self.state["runs"][name])

    def _create(self, name: str, title: str, above: str | None) -> str:
        """Make a run. A mark is written down first, by which it is found again if a kill comes right after."""
        self.state["opening"][name] = uuid.uuid4().hex
        self.remember()
        found = self.client.get_experiment_by_name(self._experiment)
        number = found.experiment_id if found else self.client.create_experiment(self._experiment)
        tags = {MLFLOW_RUN_NAME: title, MARK: self.state["opening"][name]}
        run_id: str = self.client.create_run(
            number, tags=tags | ({MLFLOW_PARENT_RUN_ID: above} if above else {})
        ).info.run_id
        return run_id

    def _made_before(self, name: str) -> str | None:
        """Id of the run that a process had made when it was killed; None where there is none."""
        experiment = self.client.get_experiment_by_name(self._experiment)
        mark = self.state["opening"].setdefault(name, "")
        if not mark or experiment is None:
            return None
        found = self.client.search_runs([experiment.experiment_id], f"tags.`{MARK}` = '{mark}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def is_there(self, name: str) -> bool:
        """Whether a run was opened and not deleted since."""
        run_id = self.state["runs"].get(name)
        if run_id is None:
            return False
        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def set_status(self, status: str, name: str = PARENT) -> None:
        """Give a run the status RUNNING, FINISHED, FAILED or KILLED.

        Raises:
            ZooError: MLflow cannot be reached.
        """
        with mlflow_errors(self.uri):
            self.client.update_run(self.state["runs"][name], status=status)

    def log(
        self,
        run_id: str,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        """Log parameters (those that the run does not have yet), metrics at a step, and tags.

        Raises:
            ZooError: MLflow cannot be reached.
        """
        now = int(time.time() * 1000)
        with mlflow_errors(self.uri):
            known = self.client.get_run(run_id).data.params if params else {}
            self.client.log_batch(
                run_id,
                metrics=[Metric(name, value, now, step) for name, value in (metrics or {}).items()],
                params=[Param(name, str(value)[:6000]) for name, value in (params or {}).items() if name not in known],
                tags=[RunTag(name, value) for name, value in (tags or {}).items()],
            )


def _current_form(kept: Any) -> dict[str, Any]:
    """Bring what mlflow.json holds for a URI into today's form.

    In folders made before this form a sweep has the id of its run alone, and a run has its ids under `parent` and
    `seeds`.
    """
    if isinstance(kept, str):
        kept = {"runs": {PARENT: kept}}
    elif PARENT in kept:
        seeds = {f"seed {seed}": run_id for seed, run_id in kept["seeds"].items()}
        rest = {key: value for key, value in kept.items() if key not in (PARENT, "seeds", "experiment")}
        kept = {"runs": {PARENT: kept[PARENT], **seeds}, **rest}
    return {"runs": {}, "opening": {}, "done": [], "logged": {}, **kept}
