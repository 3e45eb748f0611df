"""A finished `zoo matbench`, sent to MLflow: one run and, with the epochs of a member, a child for each fold."""

from __future__ import annotations

import dataclasses
from typing import Any

from zoo import __version__
from zoo.config import recipe
from zoo.config.recipe import Recipe, Tracking
from zoo.errors import ZooError
from zoo.registry.connect import mlflow_errors
from zoo.storage.run_folder import RunFolder, SeedFolder, read_history, read_json
from zoo.tracking.seed_runs import SeedRuns
from zoo.tracking.send import Sent, flatten
from zoo.workflows.matbench import ERRORS, fold_folder, member_folders, of_index
from zoo.workflows.matbench_comparison import FIGURE, TABLE


def is_matbench(folder: RunFolder) -> bool:
    """Whether `zoo matbench` made the folder."""
    return folder.provenance.is_file() and "folds" in read_json(folder.provenance)


def send_folds(folder: RunFolder, tracking: Tracking) -> Sent:
    """Send it; what was sent before is not sent twice. No model is registered: each fold has its own.

    Raises:
        ZooError: it is not finished, or MLflow cannot be reached.
    """
    config = recipe.read(str(folder.recipe))
    if not folder.finished:
        raise ZooError(f"{folder.path} is not finished; give the same zoo matbench command again, with --out")
    content = read_json(folder.result)
    numbers = tuple(fold["fold"] for fold in content["folds"])
    named = config.model_copy(update={"name": f"{config.name}_matbench", "seeds": numbers})
    runs = SeedRuns(tracking, named, folder, part="fold")
    if "sent" not in runs.state:
        with mlflow_errors(runs.uri):
            for fold in content["folds"]:
                epochs = read_history(_members(folder, config, fold)[0])
                runs.log_epochs(fold["fold"], [of_index(row) for row in epochs])
                runs.once(f"fold {fold['fold']}", lambda fold=fold: _send_fold(runs, folder, config, fold))  # type: ignore[misc]
            runs.once("parent", lambda: _send_parent(runs, folder, config, content))
        runs.finish(dataclasses.asdict(Sent(runs.shown_uri, runs.parent, below=f"{len(numbers)} folds")))
    return Sent(**runs.state["sent"])


def _members(folder: RunFolder, config: Recipe, fold: dict[str, Any]) -> list[SeedFolder]:
    return member_folders(fold_folder(folder, fold["fold"]), config.seeds)


def _send_fold(runs: SeedRuns, folder: RunFolder, config: Recipe, fold: dict[str, Any]) -> None:
    place, run_id = fold_folder(folder, fold["fold"]), runs.seed_run(fold["fold"])
    params = {name: fold[name] for name in ("fold", "n_train", "n_val", "n_test")}
    runs.log(run_id, params, {f"test_{name}": fold[name] for name in ERRORS})
    for member in _members(folder, config, fold):
        within = "/".join(member.path.relative_to(folder.path).parts)
        runs.client.log_artifact(run_id, str(member.history), within)
    for path in (place.predictions, place.result):
        runs.client.log_artifact(run_id, str(path), place.path.name)


def _send_parent(runs: SeedRuns, folder: RunFolder, config: Recipe, content: dict[str, Any]) -> None:
    params = flatten(config.model_dump(mode="json", exclude={"tracking", "description"}))
    final = {f"test_{name}_{kind}": content[name][kind] for name in ERRORS for kind in ("mean", "std")}
    runs.log(runs.parent, params, final, {"zoo.version": __version__, "zoo.folds": content["data"]})
    files = (folder.recipe, folder.provenance, folder.result, folder.path / "folds.csv")
    compared = [path for path in (folder.path / TABLE, folder.path / FIGURE) if path.is_file()]
    for path in (*files, *compared, *([folder.path / content["submission"]] if "submission" in content else [])):
        runs.client.log_artifact(runs.parent, str(path))
