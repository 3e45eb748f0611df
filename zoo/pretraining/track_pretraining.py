"""A finished pretraining, sent to MLflow: parameters, epochs, files, and the potential as a registered model."""

from __future__ import annotations

import dataclasses

from mlflow.exceptions import MlflowException

from zoo import __version__
from zoo.config.sections import Tracking
from zoo.errors import ZooError
from zoo.pretraining.pretraining_config import Pretraining, read
from zoo.pretraining.pretraining_folder import PretrainingFolder
from zoo.registry.connect import CHALLENGER, CHAMPION, mlflow_errors
from zoo.storage import checksums
from zoo.storage.run_folder import read_history, read_json
from zoo.tracking.send import Sent, flatten
from zoo.tracking.tracked_runs import PARENT, TrackedRuns

PLACE = "potential"
"""Folder of the artifacts that are registered."""


def send_pretraining(folder: PretrainingFolder, tracking: Tracking) -> Sent:
    """Send a finished pretraining; what was sent before is not sent twice.

    Raises:
        ZooError: it is not finished, or MLflow cannot be reached.
    """
    config = read(str(folder.recipe))
    if not folder.finished:
        raise ZooError(f"{folder.path} is not finished; zoo pretrain --resume {folder.path}")
    runs = TrackedRuns(tracking, folder)
    sent = Sent(runs.shown_uri, runs.opened(PARENT, config.name))
    with mlflow_errors(runs.uri):
        runs.once("files", lambda: _send_files(runs, folder, config))
        if tracking.register_model:
            sent = _register(runs, config, sent)
    runs.set_status("FINISHED")
    runs.state["sent"] = dataclasses.asdict(sent)
    runs.remember()
    return sent


def _send_files(runs: TrackedRuns, folder: PretrainingFolder, config: Pretraining) -> None:
    content = read_json(folder.result)
    for row in read_history(folder.training):
        runs.log(runs.parent, metrics={k: v for k, v in row.items() if k != "epoch"}, step=int(row["epoch"]))
    params = flatten(config.model_dump(mode="json", exclude={"tracking", "description"}))
    final = {f"best_val_{name}": error for name, error in content["val"].items()}
    runs.log(runs.parent, params, final, {"zoo.version": __version__})
    for path in (folder.recipe, folder.provenance, folder.report, folder.result, folder.training.history):
        checksums.verify(path)
        runs.client.log_artifact(runs.parent, str(path))
    runs.client.log_artifact(runs.parent, str(folder.parity), "figures")
    for path in (folder.weights, folder.card):
        checksums.verify(path)
        runs.client.log_artifact(runs.parent, str(path), PLACE)


def _register(runs: TrackedRuns, config: Pretraining, sent: Sent) -> Sent:
    """Register the file of weights, and point an alias at it: champion the first version, challenger later ones."""
    name = config.registered_name
    if "version" not in runs.state:
        try:
            runs.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{runs.client.get_run(runs.parent).info.artifact_uri}/{PLACE}"
        made = runs.client.create_model_version(name, source, runs.parent, description=config.description)
        runs.state["version"] = str(made.version)
        runs.remember()
    number = runs.state["version"]
    known = runs.client.get_registered_model(name).aliases
    alias = CHAMPION if str(known.get(CHAMPION, number)) == number else CHALLENGER
    runs.client.set_registered_model_alias(name, alias, number)
    return dataclasses.replace(sent, model=name, version=number, aliases=[alias])
