"""A model that is there already takes the place of the first round's training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from zoo.config import recipe
from zoo.config.recipe import Recipe
from zoo.errors import ZooError
from zoo.storage.run_folder import RunFolder, read_json

# The crystals are compared by their keys, whatever the file that lists them.
_FREE = {"dataset", "name", "tracking", "description", "device", "graph", "convolution"}


def take_over(earlier: Path, config: Recipe, folder: RunFolder, usable: Sequence[str]) -> None:
    """Copy a finished run, whole or not at all.

    Args:
        earlier: the run's folder.
        config: by which the first models would be trained.
        folder: where they are wanted.
        usable: keys of the crystals that they would be trained, validated and tested on.

    Raises:
        ZooError: it is none, or not finished, or of another recipe, or of other crystals.
    """
    run = RunFolder.existing(earlier)
    if not run.finished:
        raise ZooError(f"model.first: {earlier} is not finished: zoo run --resume {earlier}")
    mine, theirs = config.model_dump(exclude=_FREE), recipe.read(str(run.recipe)).model_dump(exclude=_FREE)
    differ = [key for key, value in mine.items() if value != theirs[key]]
    if differ:
        raise ZooError(f"model.first: {earlier} was trained by another recipe ({', '.join(differ)} differ)")
    split = read_json(run.seed(config.seeds[0]).split)
    if {*split["train"], *split["val"], *split["test"]} != set(usable):
        raise ZooError(f"model.first: {earlier} was trained on other crystals than those that are known at the start")
    partial = folder.path.with_name(f"{folder.path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(earlier, partial, ignore=shutil.ignore_patterns("mlflow.json", ".lock"))
    partial.replace(folder.path)
