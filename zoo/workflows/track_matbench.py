"""A finished `zoo matbench`, sent to MLflow: one run and, with the epochs of a member, a child for each fold."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlflow.entities import DatasetInput

from zoo.config import recipe
from zoo.config.recipe import Recipe, Tracking
from zoo.errors import ZooError
from zoo.registry.connect import mlflow_errors
from zoo.storage.run_folder import RunFolder, SeedFolder, read_history, read_json
from zoo.tracking.run_inputs import CONTEXTS, dataset_input
from zoo.tracking.run_labels import again, in_markdown, note, params_of, tags_of
from zoo.tracking.seed_runs import SeedRuns
from zoo.tracking.send import Sent
from zoo.workflows.matbench import ERRORS, fold_folder, member_folders, of_index
from zoo.workflows.matbench_comparison import FIGURE, TABLE

_NAMES = {
    "mae": "test_mae_n",
    "rmse": "test_rmse_n",
    "max_error": "test_max_error_n",
    "mae_of_mean": "test_mae_n_baseline",
    "val_mae": "best_val_mae_n",
}
"""Error of the refractive index in metrics.json -> its name in MLflow."""


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
    origin = read_json(folder.provenance)
    errors = _metrics({name: {"mean": fold[name]} for name in _NAMES if name in fold})
    runs.log(run_id, params, errors, _tags(config, origin))
    inputs = [_input(origin, fold["fold"], CONTEXTS[part], fold[f"n_{part}"]) for part in CONTEXTS if fold[f"n_{part}"]]
    runs.client.log_inputs(run_id, inputs)
    for member in _members(folder, config, fold):
        within = "/".join(member.path.relative_to(folder.path).parts)
        runs.client.log_artifact(run_id, str(member.history), within)
    for path in (place.predictions, place.result):
        runs.client.log_artifact(run_id, str(path), place.path.name)


def _input(origin: dict[str, Any], fold: Any, context: str, count: int) -> DatasetInput:
    source = {"tags": {"mlflow.source.name": origin["data"]}}
    return dataset_input(origin["data"], [origin["folds"], fold, context], context, source, num_rows=count)


def _metrics(errors: dict[str, Any]) -> dict[str, float]:
    """Name errors of the refractive index as a run's are named."""
    shown = {_NAMES[name]: entry["mean"] for name, entry in errors.items()}
    return shown | ({"test_mae_n_std": errors["mae"]["std"]} if "std" in errors["mae"] else {})


def _tags(config: Recipe, origin: dict[str, Any]) -> dict[str, str]:
    """Tags of a training, but that what is tested is the refractive index, on the folds' crystals."""
    return tags_of(config, origin) | {"zoo.target": "refractive index", "zoo.dataset": origin["data"]}


def _send_parent(runs: SeedRuns, folder: RunFolder, config: Recipe, content: dict[str, Any]) -> None:
    origin, folds = read_json(folder.provenance), content["folds"]
    tags = _tags(config, origin) | {"zoo.folds": content["data"]}
    rows = [[str(fold["fold"]), str(fold["n_test"]), *(f"{fold[name]:.4f}" for name in ERRORS)] for fold in folds]
    spread = [f"{content[name]['mean']:.4f} ± {content[name]['std']:.4f}" for name in ERRORS]
    header = ("fold", "n", "MAE", "RMSE", "largest error", "MAE of the mean")
    table = in_markdown(header, *rows, ["all", "", *spread], title="Errors of the refractive index")
    about = note(config.description, content["note"], table, again(origin, None))
    runs.log(runs.parent, params_of(config), _metrics({name: content[name] for name in ERRORS}), tags | about)
    count = sum(fold["n_test"] for fold in folds)
    runs.client.log_inputs(runs.parent, [_input(origin, "all", "all", count)])
    files = (folder.recipe, folder.provenance, folder.result, folder.path / "folds.csv")
    compared = [path for path in (folder.path / TABLE, folder.path / FIGURE) if path.is_file()]
    for path in (*files, *compared, *([folder.path / content["submission"]] if "submission" in content else [])):
        runs.client.log_artifact(runs.parent, str(path))
