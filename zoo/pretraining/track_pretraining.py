"""A finished pretraining, sent to MLflow: parameters, epochs, files, and the potential as a registered model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from mlflow.entities import DatasetInput
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from zoo.config.sections import Tracking
from zoo.errors import ZooError
from zoo.pretraining.pretraining_config import Pretraining, read
from zoo.pretraining.pretraining_folder import PretrainingFolder
from zoo.registry.connect import CHALLENGER, CHAMPION, mlflow_errors
from zoo.storage import checksums
from zoo.storage.run_folder import read_history, read_json
from zoo.tracking.registered_labels import describe
from zoo.tracking.run_inputs import dataset_input, name_of, source_of
from zoo.tracking.run_labels import again, in_markdown, note, params_of, tags_of_work
from zoo.tracking.send import Sent
from zoo.tracking.tracked_runs import PARENT, TrackedRuns

PLACE = "potential"
"""Folder of the artifacts that are registered."""
_ERRORS = {"val": "this potential", "val_before": "before it was tuned"}
"""Errors in metrics.json -> whose they are."""


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
    origin = read_json(folder.provenance)
    final = {f"best_val_{name}": error for name, error in content["val"].items()}
    tags = tags_of_work(origin) | {"zoo.recipe": config.name, "zoo.encoder": config.encoder.name}
    header = ("validation part", *content["val"])
    errors = {title: content[part] for part, title in _ERRORS.items() if part in content}
    rows = [[title, *(f"{error:.4g}" for error in own.values())] for title, own in errors.items()]
    page = f"Card: {runs.link_to(f'{PLACE}/{folder.card.name}')}."
    about = note(config.description, in_markdown(header, *rows), page, again(origin, "zoo pretrain recipe.yaml"))
    runs.log(runs.parent, params_of(config), final, tags | about)
    runs.client.log_inputs(runs.parent, list(_inputs(config, content, origin)))
    for path in (folder.recipe, folder.provenance, folder.report, folder.result, folder.training.history):
        checksums.verify(path)
        runs.client.log_artifact(runs.parent, str(path))
    runs.client.log_artifact(runs.parent, str(folder.parity), "figures")
    for path in (folder.weights, folder.card):
        checksums.verify(path)
        runs.client.log_artifact(runs.parent, str(path), PLACE)


def _inputs(config: Pretraining, content: dict[str, Any], origin: dict[str, Any]) -> Iterator[DatasetInput]:
    """The sources; the validation part is drawn from all of them together."""
    for choice, account in zip(config.sources, content["sources"], strict=True):
        counts = {"num_rows": account["used"], **{key: account[key] for key in ("twins_left_out", "licence")}}
        digest = [origin["facts"]["data"], account["source"]]
        yield dataset_input(name_of(choice), digest, "train and validation", source_of(choice), **counts)


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
        made = runs.client.create_model_version(name, source, runs.parent)
        runs.state["version"] = str(made.version)
        runs.remember()
    number = runs.state["version"]
    use = f"In a recipe, or in `zoo.calculator`: `weights: models:/{name}@{CHAMPION}`."
    words = "\n\n".join(filter(None, [config.description, use]))
    tags = {"zoo.recipe": config.name, "zoo.encoder": config.encoder.name}
    describe(
        runs.client, name, number, words, runs.client.get_run(runs.parent).data.tags.get(MLFLOW_RUN_NOTE, ""), tags
    )
    known = runs.client.get_registered_model(name).aliases
    alias = CHAMPION if str(known.get(CHAMPION, number)) == number else CHALLENGER
    runs.client.set_registered_model_alias(name, alias, number)
    return dataclasses.replace(sent, model=name, version=number, aliases=[alias])
