"""A discovery in MLflow: one run, each round a child of it, and each round's training below the round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from zoo import __version__
from zoo.config.recipe import Tracking
from zoo.discovery.rounds.discovery_config import Discovery, read
from zoo.discovery.rounds.discovery_folder import DiscoveryFolder, RoundFolder
from zoo.storage.run_folder import read_json, read_rows, write_json
from zoo.tracking.connect import mlflow_errors, tracking_uri, without_password
from zoo.tracking.send import Sent, flatten, send


@dataclass(frozen=True)
class SentDiscovery:
    """Place of a discovery in MLflow."""

    uri: str
    run_id: str
    rounds: int
    model: Sent | None

    @property
    def line(self) -> str:
        """For people."""
        model = f"; {self.model.line.rsplit(', ', 1)[-1]}" if self.model is not None and self.model.model else ""
        return f"{self.uri}, run {self.run_id}, {self.rounds} rounds below it{model}"


def send_discovery(config: Discovery, folder: DiscoveryFolder) -> SentDiscovery:
    """Send the rounds that are finished, and what there is of the whole; what was sent before is not sent twice.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    tracking = config.tracking
    uri = tracking_uri(tracking.uri)
    with mlflow_errors(uri):
        runs = _Runs(MlflowClient(tracking_uri=uri), without_password(uri), folder)
        parent = runs.opened("parent", tracking.experiment, config.name, None)
        rounds = folder.finished_rounds[: len(read_rows(folder.table))]  # a stop may fall between the two
        for place in rounds:
            _send_round(runs, tracking, config, place, parent)
        known = runs.client.get_run(parent).data.params
        for name, value in flatten(config.model_dump(mode="json", exclude={"tracking", "description"})).items():
            if name not in known:
                runs.client.log_param(parent, name, str(value)[:6000])
        if rounds:
            for row in read_rows(folder.table):
                if f"row {row['round']}" not in runs.done:
                    for name, value in row.items():
                        if name != "round" and value:
                            runs.client.log_metric(parent, name, float(value), step=int(row["round"]))
                    runs.remember(f"row {row['round']}")
        runs.client.set_tag(parent, "zoo.version", __version__)
        for path in (folder.recipe, folder.provenance, folder.asked, folder.table, folder.summary):
            if path.is_file():
                runs.client.log_artifact(parent, str(path))
        if folder.figures.is_dir():
            runs.client.log_artifacts(parent, str(folder.figures), "figures")
        last = folder.last_model if folder.summary.is_file() else None
        model = None if last is None else send(last, tracking, parent)
        runs.client.update_run(parent, status="FINISHED" if folder.summary.is_file() else "RUNNING")
    return SentDiscovery(without_password(uri), parent, len(rounds), model)


def stopped(config: Discovery, folder: DiscoveryFolder, status: str) -> None:
    """It ended before its time: FAILED or KILLED. The next round that is sent sets it running again.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    uri = tracking_uri(config.tracking.uri)
    if without_password(uri) not in read_json(folder.tracked):
        return
    with mlflow_errors(uri):
        _Runs(MlflowClient(tracking_uri=uri), without_password(uri), folder).end("parent", status)


def _send_round(runs: _Runs, tracking: Tracking, config: Discovery, place: RoundFolder, parent: str) -> None:
    name = f"round {place.number}"
    if name in runs.done:
        return
    run_id = runs.opened(name, tracking.experiment, f"{config.name} {name}", parent)
    send(place.model, tracking.model_copy(update={"register_model": False}), run_id)
    row = read_rows(runs.folder.table)[place.number - 1]
    for key, value in row.items():
        if value:
            runs.client.log_metric(run_id, key, float(value))
    runs.client.log_param(run_id, "round", place.number)
    for path in (place.chosen, place.results, place.screen.table, place.screen.summary):
        runs.client.log_artifact(run_id, str(path))
    for path in (place.screen.figures, place.screen.crystals):
        runs.client.log_artifacts(run_id, str(path), path.name)
    runs.client.update_run(run_id, status="FINISHED")
    runs.remember(name)


class _Runs:
    """MLflow runs of a discovery and what was sent: remembered for each tracking URI in mlflow.json of the folder."""

    def __init__(self, client: MlflowClient, uri: str, folder: DiscoveryFolder) -> None:
        self.client, self.folder, self._uri = client, folder, uri
        self._servers: dict[str, Any] = read_json(folder.tracked) if folder.tracked.is_file() else {}
        self._state: dict[str, Any] = self._servers.get(uri, {"runs": {}, "done": []})

    @property
    def done(self) -> list[str]:
        """Return the steps that were sent."""
        return list(self._state["done"])

    def remember(self, step: str | None = None) -> None:
        """Write down that something was sent."""
        if step is not None:
            self._state["done"].append(step)
        self._servers[self._uri] = self._state
        write_json(self.folder.tracked, self._servers)

    def opened(self, name: str, experiment: str, title: str, parent: str | None) -> str:
        """Id of a run, which is made where it is not there (any more)."""
        known = self._state["runs"].get(name)
        if known is not None and self._is_there(known):
            return str(known)
        if parent is None:
            self._state = {"runs": {}, "done": []}  # all that was below it is gone as well
        known_experiment = self.client.get_experiment_by_name(experiment)
        number = known_experiment.experiment_id if known_experiment else self.client.create_experiment(experiment)
        tags = {MLFLOW_RUN_NAME: title} | ({MLFLOW_PARENT_RUN_ID: parent} if parent else {})
        self._state["runs"][name] = self.client.create_run(number, tags=tags).info.run_id
        self.remember()
        return str(self._state["runs"][name])

    def end(self, name: str, status: str) -> None:
        """Give a run this status, where it is there."""
        known = self._state["runs"].get(name)
        if known is not None and self._is_there(known):
            self.client.update_run(known, status=status)

    def _is_there(self, run_id: str) -> bool:
        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise


def track(path: Path, uri: str | None) -> SentDiscovery:
    """`zoo track DISCOVERY_DIR`.

    Raises:
        ZooError: it is no discovery's folder, or MLflow cannot be reached.
    """
    config = read(str(DiscoveryFolder.existing(path).recipe))
    if uri is not None:
        config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"uri": uri})})
    return send_discovery(config, DiscoveryFolder(path))
