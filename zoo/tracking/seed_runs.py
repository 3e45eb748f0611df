"""The MLflow runs of a training: the whole and, where there are several seeds (folds), a child for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from zoo.config.recipe import Recipe, Tracking
from zoo.registry.connect import mlflow_errors
from zoo.storage.run_folder import RunFolder
from zoo.tracking.tracked_runs import PARENT, TrackedRuns

EpochRow = dict[str, float]


class SeedRuns(TrackedRuns):
    """The runs of a recipe's seeds, see `TrackedRuns`; with a single seed its run is that of the whole.

    Args:
        tracking: the recipe's section, or one in its place.
        config: the recipe.
        folder: of the training.
        above: id of a run that this one is a child of, as a sweep's cells are.
        part: what the recipe's seeds are called, `seed` or `fold`.

    Raises:
        ZooError: MLflow cannot be reached.
    """

    def __init__(
        self, tracking: Tracking, config: Recipe, folder: RunFolder, above: str | None = None, part: str = "seed"
    ) -> None:
        super().__init__(tracking, folder)
        self._looked_up: set[int] = set()
        parent = self.opened(PARENT, config.name, above)
        if len(config.seeds) > 1:
            for seed in config.seeds:
                self.opened(f"seed {seed}", f"{config.name} {part} {seed}", parent)
        if above is not None and self.state.get("above") != above:
            with mlflow_errors(self.uri):
                self.client.set_tag(parent, MLFLOW_PARENT_RUN_ID, above)
            self.state["above"] = above
            self.remember()
        self.set_status_of_all("RUNNING" if "sent" not in self.state else "FINISHED")

    def seed_run(self, seed: int) -> str:
        """Id of the run of one seed; the whole's where there is only one seed."""
        return str(self.state["runs"].get(f"seed {seed}", self.parent))

    def set_status_of_all(self, status: str) -> None:
        """Give the whole and all seeds a status: RUNNING, FINISHED, FAILED or KILLED.

        Raises:
            ZooError: MLflow cannot be reached.
        """
        for name in self.state["runs"]:
            self.set_status(status, name)

    def finish(self, sent: dict[str, Any]) -> None:
        """Remember where all of it is, and give all runs the status FINISHED.

        Raises:
            ZooError: MLflow cannot be reached.
        """
        self.state["sent"] = sent
        self.set_status_of_all("FINISHED")
        self.remember()

    def _logged(self, seed: int) -> int:
        """The last epoch that the store has of a seed: a kill may have come between it and our note of it."""
        if seed not in self._looked_up:
            with mlflow_errors(self.uri):
                known = self.client.get_metric_history(self.seed_run(seed), "train_loss")
            last = max((point.step for point in known), default=0)
            self.state["logged"][str(seed)] = max(self.state["logged"].get(str(seed), 0), last)
            self._looked_up.add(seed)
        return int(self.state["logged"][str(seed)])

    def log_epochs(self, seed: int, rows: Sequence[EpochRow]) -> None:
        """Log the epochs that are not logged yet.

        Raises:
            ZooError: MLflow cannot be reached.
        """
        done = self._logged(seed)
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, int(row["epoch"]))
            for row in rows
            if row["epoch"] > done
            for name, value in row.items()
            if name != "epoch"
        ]
        if not metrics:
            return
        with mlflow_errors(self.uri):
            for start in range(0, len(metrics), 900):  # the server takes at most 1000 at once
                self.client.log_batch(self.seed_run(seed), metrics=metrics[start : start + 900])
        self.state["logged"][str(seed)] = int(rows[-1]["epoch"])
        self.remember()
