"""A training that takes no time: what is tested is who trains what, and what becomes of the numbers."""

from __future__ import annotations

import time
from typing import Any

import yaml

from zoo.evaluation.metrics import over_seeds
from zoo.storage.run_folder import RunFolder, append_row, write_json
from zoo.sweep.cells import Cell


def stand_in(cell: Cell, folder: RunFolder, on_epoch: Any) -> dict[str, Any]:
    """Writes what a training writes, with an error that follows from the recipe; a line a call in trained.log."""
    with (folder.path.parents[1] / "trained.log").open("a") as log:
        log.write(f"{cell.slug}\n")
    time.sleep(0.05)
    error = cell.recipe.training.learning_rate
    for seed in cell.recipe.seeds:
        place = folder.seed(seed)
        write_json(place.split, {"seed": seed, "train": ["a"], "val": ["b"], "test": [f"t{seed}"]})
        for epoch in (1, 2):
            append_row(place.history, {"epoch": epoch, "train_loss": 1.0, "val_mae_ten": error + 1 / epoch, "lr": 0.1})
            on_epoch(seed, {"epoch": epoch})
    write(folder, cell.recipe.seeds, [error + 0.1 * seed for seed in cell.recipe.seeds])
    return yaml.safe_load(folder.result.read_text())


def write(folder: RunFolder, seeds: Any, errors: list[float]) -> None:
    """The results of a run with these test errors, a seed each."""
    part = over_seeds([{"n": 4, "mae_ten": error, "within_25": 0.5} for error in errors])
    content = {
        "target": "total", "seeds": list(seeds), "test": part, "val": part, "per_crystal_system": {"cubic": part},
        "test_mean_baseline": part, "n_train": 1, "n_val": 1, "n_test": 1,
        "best_epoch": [2] * len(errors), "epochs": [2] * len(errors),
    }  # fmt: skip
    for seed, error in zip(seeds, errors, strict=True):
        one = {"all": {"n": 4, "mae_ten": error}, "cubic": {"n": 4, "mae_ten": error}}
        result = {"seed": seed, "split_seed": seed, "n_train": 1, "epochs": 2, "best_epoch": 2, "test": one, "val": one}
        write_json(folder.seed(seed).result, result)
    write_json(folder.result, content)
