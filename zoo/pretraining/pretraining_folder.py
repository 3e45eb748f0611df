"""The folder of a pretraining."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.storage.run_folder import SeedFolder
from zoo.storage.weights import POTENTIAL
from zoo.storage.work_folder import WorkFolder


@dataclass(frozen=True)
class PretrainingFolder(WorkFolder):
    """Paths of the files in the folder of a pretraining.

    pretraining.yaml        the resolved recipe
    run.json                versions, command, time
    data_report.json        the sources, and every crystal that was left out, and why
    split.json              training and validation part, by key
    history.csv             errors, a row per epoch
    last.pt, best.pt        checkpoints
    potential.safetensors   the weights, which recipes can name
    card.html               what the potential is, and how wrong
    figures/parity.png      predicted against true labels of the validation part
    metrics.json            the result: a pretraining with it is finished
    mlflow.json             where it was sent
    """

    KIND = "pretraining"
    RECIPE = "pretraining.yaml"

    @property
    def training(self) -> SeedFolder:
        """History, split and checkpoints."""
        return SeedFolder(self.path)

    @property
    def weights(self) -> Path:
        """The trained potential."""
        return self.path / POTENTIAL

    @property
    def card(self) -> Path:
        """A page about it."""
        return self.path / "card.html"

    @property
    def parity(self) -> Path:
        """Predicted against true labels."""
        return self.figures / "parity.png"

    @property
    def report(self) -> Path:
        """Account of the data."""
        return self.path / "data_report.json"
