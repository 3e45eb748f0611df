"""The folder of a discovery: each round's model, screening, calculations and results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoo.discovery.screen_folder import ScreenFolder
from zoo.storage.run_folder import RunFolder
from zoo.storage.work_folder import WorkFolder


@dataclass(frozen=True)
class RoundFolder:
    """Files that belong to one round.

    model/              a run folder: the models that chose
    screen/             the folder of the screening
    chosen.json         the crystals that were chosen, and what was predicted of them
    calculations/KEY/   what the oracle writes of each, and outcome.json: what came of it
    results.json        tensors of those that have one, as the dataset `file` reads them: the round is finished
    """

    number: int
    path: Path

    @property
    def model(self) -> RunFolder:
        """The models that choose."""
        return RunFolder(self.path / "model")

    @property
    def screen(self) -> ScreenFolder:
        """Folder of the screening by which the models choose."""
        return ScreenFolder(self.path / "screen")

    @property
    def chosen(self) -> Path:
        """Crystals that the models have chosen."""
        return self.path / "chosen.json"

    @property
    def calculations(self) -> Path:
        """A folder for each."""
        return self.path / "calculations"

    @property
    def results(self) -> Path:
        """Written last: a round with it is finished."""
        return self.path / "results.json"


@dataclass(frozen=True)
class DiscoveryFolder(WorkFolder):
    """Names of what is in the folder of a discovery.

    discover.yaml   the resolved recipe
    run.json        versions, command
    training.yaml   the resolved recipe of the models, on the dataset as a whole
    start.json      what was known at the start: keys, best value of the objective
    known.json      keys of what the first models are made of
    round_1/, ...   see RoundFolder; after the last one, the model of one more
    asked.csv       a row a crystal that was chosen: what was predicted, what came of it
    rounds.csv      a row a round
    figures/        PNG
    summary.json    written last: a discovery with it is finished
    mlflow.json     where the discovery was sent
    """

    KIND = "discovery"
    RECIPE = "discover.yaml"
    RESULT = "summary.json"

    @property
    def training(self) -> Path:
        """By which the models are trained."""
        return self.path / "training.yaml"

    @property
    def start(self) -> Path:
        """Crystals that were known at the start."""
        return self.path / "start.json"

    @property
    def start_keys(self) -> Path:
        """Its keys, for the dataset `subset`."""
        return self.path / "known.json"

    @property
    def asked(self) -> Path:
        """All that were chosen."""
        return self.path / "asked.csv"

    @property
    def table(self) -> Path:
        """All rounds."""
        return self.path / "rounds.csv"

    def round(self, number: int) -> RoundFolder:
        """One of them, from 1."""
        return RoundFolder(number, self.path / f"round_{number}")

    @property
    def finished_rounds(self) -> list[RoundFolder]:
        """In their order."""
        rounds: list[RoundFolder] = []
        while (one := self.round(len(rounds) + 1)).results.is_file():
            rounds.append(one)
        return rounds

    @property
    def last_model(self) -> RunFolder | None:
        """The models that know all results, where they have been trained."""
        model = self.round(len(self.finished_rounds) + 1).model
        return model if model.finished else None
