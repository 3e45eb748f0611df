"""Epochs sent to MLflow while the training runs.

Ignite's `MLflowLogger` was tried here (Ignite 0.5.5, MLflow 3.17; `OutputHandler` with `tag=None` keeps our names).
It logs to the process's active run: without one it opened a second run, `start_run` of the next seed's run raised
"already active", `close` made a run FINISHED in mid-training, and `set_tracking_uri` left its variable in the
environment. A store that refused epoch 2 of 4 ended the training with MlflowException, and nothing sends such an
epoch later. An epoch trained again after a kill was logged twice (steps 1, 2, 2, 3). A subclass without these faults
replaces all of its methods and ignores the values that it is handed, because epochs that were missed come from
history.csv: more code, and nothing to delete, since `zoo track` needs `SeedRuns.log_epochs` too.
"""

from __future__ import annotations

import click

from zoo.config.recipe import Recipe, Tracking
from zoo.errors import ZooError
from zoo.registry.connect import tracking_uri
from zoo.registry.tracking_store import make_ready
from zoo.storage.run_folder import RunFolder, read_history
from zoo.tracking.run_start import send_start
from zoo.tracking.seed_runs import EpochRow, SeedRuns


class EpochLogger:
    """Logs every epoch; a server that does not answer is told of once and does not stop the training.

    What is missed is sent when the training has ended, or by `zoo track`.
    """

    def __init__(self, tracking: Tracking, config: Recipe, folder: RunFolder, parent: str | None = None) -> None:
        self._parent = parent
        self._tracking = tracking
        self._config = config
        self._folder = folder
        self._runs: SeedRuns | None = None
        self._off = False

    def check(self) -> None:
        """Check that the store works, before a training is spent; warn if it does not."""
        try:
            make_ready(tracking_uri(self._tracking.uri))
        except ZooError as error:
            self._give_up(error)

    def _give_up(self, error: ZooError) -> None:
        self._off = True
        click.echo(f"warning: {error}; the training goes on, its results stay in the run folder", err=True)

    def epoch(self, seed: int, row: EpochRow) -> None:
        """Told of by the trainer after each epoch, when it is in the history."""
        if self._off:
            return
        try:
            if self._runs is None:
                self._runs = SeedRuns(self._tracking, self._config, self._folder, self._parent)
            send_start(self._runs, self._folder, self._config, seed)
            self._runs.log_epochs(seed, read_history(self._folder.seed(seed)))
        except ZooError as error:
            self._give_up(error)

    def stopped(self, status: str) -> None:
        """The run ended before its time: FAILED or KILLED. A resumption sets it running again."""
        if self._runs is not None and not self._off:
            try:
                self._runs.set_status_of_all(status)
            except ZooError as error:
                click.echo(f"warning: {error}", err=True)
