"""Parameters, tags, description and datasets of a training, in MLflow from its first epoch on."""

from __future__ import annotations

from collections.abc import Callable

from mlflow.entities import DatasetInput

from zoo.config.recipe import Recipe
from zoo.registry.connect import mlflow_errors
from zoo.storage.run_folder import RunFolder, read_json
from zoo.tracking.run_inputs import inputs_of_seed
from zoo.tracking.run_labels import again, note, params_of, tags_of
from zoo.tracking.seed_runs import SeedRuns


def send_start(
    runs: SeedRuns,
    folder: RunFolder,
    config: Recipe,
    seed: int,
    inputs_of: Callable[[RunFolder, Recipe, int], list[DatasetInput]] = inputs_of_seed,
) -> None:
    """Log what is known of the whole and of a seed whose split is drawn; once, and what is there stays.

    Args:
        runs, folder, config: of the training.
        seed: one of the recipe's.
        inputs_of: gives the datasets of the seed.

    Raises:
        ZooError: MLflow cannot be reached.
    """
    step = f"start of seed {seed}"
    if step in runs.state["done"]:  # asked after every epoch
        return
    with mlflow_errors(runs.uri):
        origin = read_json(folder.provenance)
        tags = tags_of(config, origin)
        started = tags | note(config.description, again(origin))
        runs.once("start", lambda: runs.log(runs.parent, params_of(config), tags=started))
        runs.once(step, lambda: _send_seed(runs, config, seed, tags, inputs_of(folder, config, seed)))


def _send_seed(runs: SeedRuns, config: Recipe, seed: int, tags: dict[str, str], inputs: list[DatasetInput]) -> None:
    run_id = runs.seed_run(seed)
    if run_id != runs.parent:
        runs.log(run_id, {"seed": seed}, tags=tags | note(f"Seed {seed} of {config.name}. {config.description}"))
    runs.client.log_inputs(run_id, inputs)
