"""A discovery in MLflow: one run, each round a child of it, and each round's training below the round."""

from __future__ import annotations

from dataclasses import replace

from zoo import __version__
from zoo.config.recipe import Tracking
from zoo.discovery.rounds.discovery_config import Discovery, read
from zoo.discovery.rounds.discovery_folder import DiscoveryFolder, RoundFolder
from zoo.registry.connect import mlflow_errors
from zoo.storage.run_folder import read_json, read_rows
from zoo.tracking.run_labels import again, note, params_of, tags_of_work
from zoo.tracking.send import Sent, send
from zoo.tracking.tracked_runs import PARENT, TrackedRuns


def send_discovery(folder: DiscoveryFolder, tracking: Tracking) -> Sent:
    """Send the rounds that are finished, and what there is of the whole; what was sent before is not sent twice.

    Raises:
        ZooError: the folder holds no discovery, or MLflow cannot be reached.
    """
    config = read(str(folder.recipe))
    runs = TrackedRuns(tracking, folder)
    parent = runs.opened(PARENT, config.name)
    rows = read_rows(folder.table)
    rounds = folder.finished_rounds[: len(rows)]  # a stop may fall between the two
    with mlflow_errors(runs.uri):
        for place, row in zip(rounds, rows, strict=False):
            numbers = {name: float(value) for name, value in row.items() if name != "round" and value}
            name = f"round {place.number}"
            runs.once(name, lambda: _send_round(runs, tracking, config, place, numbers))  # noqa: B023
            runs.once(f"row {place.number}", lambda: runs.log(parent, metrics=numbers, step=place.number))  # noqa: B023
        tags = {"zoo.version": __version__, "zoo.recipe": config.name}
        if folder.provenance.is_file():
            origin = read_json(folder.provenance)
            tags |= tags_of_work(origin) | note(config.description, again(origin, "zoo discover recipe.yaml"))
        runs.log(parent, params_of(config), tags=tags)
        for path in (folder.recipe, folder.provenance, folder.asked, folder.table, folder.result):
            if path.is_file():
                runs.client.log_artifact(parent, str(path))
        if folder.figures.is_dir():
            runs.client.log_artifacts(parent, str(folder.figures), "figures")
    sent = Sent(runs.shown_uri, parent)
    if folder.finished and folder.last_model is not None:
        sent = send(folder.last_model, tracking, parent)
    runs.set_status("FINISHED" if folder.finished else "RUNNING")
    return replace(sent, run_id=parent, below=f"{len(rounds)} rounds")


def tell_of_stop(folder: DiscoveryFolder, tracking: Tracking, status: str) -> None:
    """Give the run of a discovery that ended before its time the status FAILED or KILLED, where there is one.

    The next round that is sent sets it running again.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    runs = TrackedRuns(tracking, folder)
    with mlflow_errors(runs.uri):
        if runs.is_there(PARENT):
            runs.set_status(status)


def _send_round(
    runs: TrackedRuns, tracking: Tracking, config: Discovery, place: RoundFolder, numbers: dict[str, float]
) -> None:
    name = f"round {place.number}"
    run_id = runs.opened(name, f"{config.name} {name}", runs.parent)
    send(place.model, tracking.model_copy(update={"register_model": False}), run_id)
    runs.log(run_id, {"round": place.number}, numbers)
    for path in (place.chosen, place.results, place.screen.table, place.screen.result):
        runs.client.log_artifact(run_id, str(path))
    for path in (place.screen.figures, place.screen.crystals):
        runs.client.log_artifacts(run_id, str(path), path.name)
    runs.set_status("FINISHED", name)
