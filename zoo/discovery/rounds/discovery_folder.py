"""The folder of a discovery: each round's model, screening, calculations and results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.config import plugins
from zoo.discovery.rounds.discovery_config import Discovery, parse
from zoo.discovery.screen_folder import ScreenFolder
from zoo.errors import ZooError
from zoo.storage.run_folder import RunFolder, read_json, write_json, write_text
from zoo.workflows.provenance import provenance

# What may change before a discovery goes on.
_FREE = ("description", "device", "chunk", "workers", "rounds", "tracking", "candidates")


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
class DiscoveryFolder:
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

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "discover.yaml"

    @property
    def provenance(self) -> Path:
        """With which code it was begun, and gone on with."""
        return self.path / "run.json"

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

    @property
    def figures(self) -> Path:
        """The pictures."""
        return self.path / "figures"

    @property
    def summary(self) -> Path:
        """Written last."""
        return self.path / "summary.json"

    @property
    def tracked(self) -> Path:
        """Runs of the discovery in MLflow."""
        return self.path / "mlflow.json"

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

    @classmethod
    def existing(cls, path: Path) -> DiscoveryFolder:
        """The folder of an earlier discovery.

        Raises:
            ZooError: it is none.
        """
        folder = cls(path)
        if not folder.recipe.is_file():
            raise ZooError(f"{path} is no folder of a discovery: it holds no discover.yaml")
        return folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep two from writing in one folder, which is made if it is not there.

        Raises:
            ZooError: another one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", blocking=False):
                yield
        except Timeout:
            raise ZooError(f"another process is at work in {self.path}; choose another folder with --out") from None

    def begin(self, config: Discovery) -> None:
        """Write down what it is begun with, or see that it goes on with the same.

        Raises:
            ZooError: something is not the same.
        """
        if not self.provenance.is_file():
            write_text(self.recipe, config.dump())
            write_json(self.provenance, {**provenance(config.plugins), "recipe": config.content, "resumed": []})
            return
        begun = read_json(self.provenance)
        before = parse(begun["recipe"], str(self.provenance)).content
        changed = [
            key for key, value in _fixed(config.content).items() if key not in _FREE and value != _fixed(before)[key]
        ]
        if changed:
            raise ZooError(
                f"{self.path} was begun with another recipe ({', '.join(changed)} differ): go on with that one, or "
                "choose another folder with --out"
            )
        write_text(self.recipe, config.dump())  # what may change has perhaps changed
        now = provenance(config.plugins)
        begun["resumed"].append({key: now[key] for key in ("zoo", "git_commit", "command", "started")})
        write_json(self.provenance, begun)


def _fixed(content: dict[str, Any]) -> dict[str, Any]:
    """Less what only says how the oracle works."""
    oracle = content["oracle"]
    free = plugins.load("oracle", oracle["name"]).may_change
    return content | {"oracle": {key: value for key, value in oracle.items() if key not in free}}
