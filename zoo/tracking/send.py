"""A finished run folder, sent to MLflow: parameters, metrics, artifacts, and a registered model."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from zoo import __version__, recipe
from zoo.errors import ZooError
from zoo.recipe import Recipe, Tracking
from zoo.run_folder import RunFolder, read_history, read_json, write_json
from zoo.tracking import served_model
from zoo.tracking.connect import mlflow_errors
from zoo.tracking.session import Session


@dataclass(frozen=True)
class Sent:
    """Where a run is now.

    Attributes:
        uri: tracking URI.
        run_id: of the parent run.
        model: name of the registered model, None where none was registered.
        version: of it.
        aliases: that the version has.
    """

    uri: str
    run_id: str
    model: str | None = None
    version: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """For people."""
        model = f", models:/{self.model}/{self.version} ({', '.join(self.aliases)})" if self.model else ""
        return f"{self.uri}, run {self.run_id}{model}"


def send(folder: RunFolder, tracking: Tracking | None = None) -> Sent:
    """Send a finished run; what was sent before is not sent twice.

    Raises:
        ZooError: the run is not finished, or MLflow cannot be reached.
    """
    made = recipe.read(str(folder.recipe))
    tracking = tracking or made.tracking
    if not folder.finished:
        raise ZooError(f"{folder.path} is not finished; zoo run --resume {folder.path}")
    session = Session(tracking, made, folder)
    if "sent" in session.state:
        return Sent(**session.state["sent"] | {"aliases": tuple(session.state["sent"]["aliases"])})
    content = read_json(folder.metrics)
    with mlflow_errors(session.uri):
        for seed in made.seeds:
            _send_seed(session, folder, seed)
        _send_parent(session, folder, made, content)
        sent = _register(session, folder, made) if tracking.register_model else Sent(session.uri, session.parent)
        for run_id in {session.parent, *map(session.seed_run, made.seeds)}:
            session.client.set_terminated(run_id)
    session.state["sent"] = vars(sent) | {"aliases": list(sent.aliases)}
    write_json(folder.tracked, session.state)
    return sent


def _send_seed(session: Session, folder: RunFolder, seed: int) -> None:
    place = folder.seed(seed)
    session.log_epochs(seed, read_history(place))
    result = read_json(place.result)
    run_id = session.seed_run(seed)
    # `val_mae_ten` is the name of the epochs' metric.
    names = {"val": "best_val", "test": "test"}
    final = {f"{names[part]}_{k}": v for part in names for k, v in result[part]["all"].items() if v is not None}
    params = {key: result[key] for key in ("seed", "split_seed", "n_train", "n_val", "n_test", "best_epoch", "epochs")}
    session.log(run_id, params, final, {})
    for path in (place.history, place.split, place.predictions, place.result, place.last, place.best):
        session.client.log_artifact(run_id, str(path), place.path.name)


def _send_parent(session: Session, folder: RunFolder, made: Recipe, content: dict[str, Any]) -> None:
    origin = read_json(folder.path / "run.json")
    params = _flatten(made.model_dump(mode="json", exclude={"tracking", "description"}))
    final = {
        f"{part}_{name}_{kind}": entry[kind]
        for part in ("val", "test")
        for name, entry in content[part].items()
        for kind in ("mean", "std")
        if entry[kind] is not None
    }
    tags = {"zoo.version": origin["zoo"], "zoo.target": made.target} | (
        {"mlflow.source.git.commit": origin["git_commit"]} if origin["git_commit"] else {}
    )
    session.log(session.parent, params, final, tags)
    for path in (folder.recipe, folder.path / "run.json", folder.path / "data_report.json", folder.metrics):
        session.client.log_artifact(session.parent, str(path))
    session.client.log_artifacts(session.parent, str(folder.figures), "figures")
    session.client.log_table(session.parent, _error_table(content), "errors_per_crystal_system.json")


def _error_table(content: dict[str, Any]) -> dict[str, list[Any]]:
    """Column -> values, a row a crystal system: what MLflow shows as a table."""
    systems = {"all": content["test"], **content["per_crystal_system"]}
    names = list(content["test"])
    table: dict[str, list[Any]] = {"crystal_system": list(systems)}
    for name in names:
        for kind in ("mean", "std"):
            table[f"{name}_{kind}"] = [values.get(name, {}).get(kind) for values in systems.values()]
    return table


def _flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _register(session: Session, folder: RunFolder, made: Recipe) -> Sent:
    """Log the model from code, register it, and point the aliases at it."""
    name = made.registered_name
    previous = mlflow.get_tracking_uri()
    loud = logging.getLogger("mlflow").level
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(session.uri)
    try:
        with mlflow.start_run(run_id=session.parent):
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(served_model.__file__)),
                artifacts={"model": str(folder.model)},
                pip_requirements=requirements(made),
                input_example=served_model.EXAMPLE,
                registered_model_name=name,
            )
    finally:
        mlflow.set_tracking_uri(previous)
        logging.getLogger("mlflow").setLevel(loud)
    number = str(info.registered_model_version)
    aliases = ["candidate"]
    session.client.set_registered_model_alias(name, "candidate", number)
    try:
        session.client.get_model_version_by_alias(name, "champion")
    except MlflowException:
        session.client.set_registered_model_alias(name, "champion", number)
        aliases.append("champion")
    return Sent(session.uri, session.parent, name, number, tuple(aliases))


def requirements(made: Recipe) -> list[str]:
    """What a machine that serves the model must install: the zoo, the plugins' distributions, torch."""
    from zoo import plugins

    found = [f"crystal-tensor-zoo=={__version__}", f"torch=={version('torch').split('+')[0]}"]
    for kind in ("encoder", "readout"):
        point = plugins.available(kind)[made.plugins[kind]]
        extras = plugins.extras_of(point)
        distribution = point.dist
        if distribution is None:
            continue
        line = f"{distribution.name}{f'[{chr(44).join(extras)}]' if extras else ''}=={distribution.version}"
        if line not in found:
            found.append(line)
    return found
