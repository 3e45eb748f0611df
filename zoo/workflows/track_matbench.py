"""A finished `zoo matbench`, sent to MLflow: one run and, with the epochs, a child for each fold."""

from __future__ import annotations

import dataclasses
from typing import Any

from zoo import __version__
from zoo.config import recipe
from zoo.config.recipe import Recipe, Tracking
from zoo.errors import ZooError
from zoo.storage.run_folder import RunFolder, read_history, read_json
from zoo.tracking.connect import mlflow_errors, without_password
from zoo.tracking.send import Sent, flatten
from zoo.tracking.session import Session
from zoo.workflows.matbench import ERRORS, fold_folder


def is_matbench(folder: RunFolder) -> bool:
    """Whether `zoo matbench` made the folder."""
    return folder.provenance.is_file() and "folds" in read_json(folder.provenance)


def send_folds(folder: RunFolder, tracking: Tracking | None = None) -> Sent:
    """Send it; what was sent before is not sent twice. No model is registered: each fold has its own.

    Raises:
        ZooError: it is not finished, or MLflow cannot be reached.
    """
    config = recipe.read(str(folder.recipe))
    tracking = tracking or config.tracking
    if not folder.metrics.is_file():
        raise ZooError(f"{folder.path} is not finished; give the same zoo matbench command again, with --out")
    content = read_json(folder.metrics)
    numbers = tuple(fold["fold"] for fold in content["folds"])
    named = config.model_copy(update={"name": f"{config.name}_matbench", "seeds": numbers})
    session = Session(tracking, named, folder, part="fold")
    if "sent" not in session.state:
        with mlflow_errors(session.uri):
            for fold in content["folds"]:
                session.log_epochs(fold["fold"], _epochs(folder, fold["fold"]))
                session.once(f"fold {fold['fold']}", lambda fold=fold: _send_fold(session, folder, fold))  # type: ignore[misc]
            session.once("parent", lambda: _send_parent(session, folder, config, content))
        session.state["sent"] = dataclasses.asdict(Sent(without_password(session.uri), session.parent))
        session.set_status("FINISHED")
        session.remember()
    return Sent(**session.state["sent"])


def _epochs(folder: RunFolder, number: int) -> list[dict[str, float]]:
    """The epochs of a fold. Their validation error is that of the refractive index, whatever the column is called."""
    rows = read_history(fold_folder(folder, number))
    return [{"val_mae_n" if name == "val_mae_ten" else name: value for name, value in row.items()} for row in rows]


def _send_fold(session: Session, folder: RunFolder, fold: dict[str, Any]) -> None:
    place, run_id = fold_folder(folder, fold["fold"]), session.seed_run(fold["fold"])
    params = {name: fold[name] for name in ("fold", "n_train", "n_val", "n_test")}
    session.log(run_id, params, {f"test_{name}": fold[name] for name in ERRORS}, {})
    for path in (place.history, place.predictions, place.result):
        session.client.log_artifact(run_id, str(path), place.path.name)


def _send_parent(session: Session, folder: RunFolder, config: Recipe, content: dict[str, Any]) -> None:
    params = flatten(config.model_dump(mode="json", exclude={"tracking", "description"}))
    final = {f"test_{name}_{kind}": content[name][kind] for name in ERRORS for kind in ("mean", "std")}
    session.log(session.parent, params, final, {"zoo.version": __version__, "zoo.folds": content["data"]})
    files = (folder.recipe, folder.provenance, folder.metrics, folder.path / "folds.csv")
    for path in (*files, *([folder.path / content["submission"]] if "submission" in content else [])):
        session.client.log_artifact(session.parent, str(path))
