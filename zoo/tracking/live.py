"""Epochs sent to MLflow while the training runs."""

from __future__ import annotations

import click

from zoo.errors import ZooError
from zoo.recipe import Recipe, Tracking
from zoo.run_folder import RunFolder
from zoo.tracking.session import EpochRow, Session


class LiveTracking:
    """Logs every epoch; a server that does not answer is told of once and does not stop the training.

    What is missed is sent when the training has ended, or by `zoo track`.
    """

    def __init__(self, tracking: Tracking, made: Recipe, folder: RunFolder) -> None:
        self._open = lambda: Session(tracking, made, folder)
        self._session: Session | None = None
        self._off = False

    def epoch(self, seed: int, row: EpochRow) -> None:
        """Told of by the trainer after each epoch."""
        if self._off:
            return
        try:
            if self._session is None:
                self._session = self._open()
            self._session.log_epochs(seed, [row])
        except ZooError as error:
            self._off = True
            click.echo(f"warning: {error}; the training goes on, its results stay in the run folder", err=True)
