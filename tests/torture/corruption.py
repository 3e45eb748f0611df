"""A file on disk is not what the zoo wrote: a flipped byte, a cut, nothing left of it, or another one in its place.

A new kind of file, or a new command that reads one, is a line of `DOORS`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torture import child, facts
from torture.cases import FAILED, REFUSED, Facts, Outcome, Tried, difference_of, draws, judged
from torture.child import Ended
from torture.made import Made
from zoo.errors import ZooError

FAULTS = ("flip", "flip", "flip", "cut", "empty", "delete", "swap")


def flip(path: Path, random: np.random.Generator) -> str:
    """One byte is another one."""
    content = bytearray(path.read_bytes())
    place, change = int(random.random() * len(content)), int(random.integers(1, 256))
    content[place] ^= change
    path.write_bytes(content)
    return f"byte {place} of {len(content)} ^ {change}"


def cut(path: Path, random: np.random.Generator) -> str:
    """The end is missing."""
    content = path.read_bytes()
    place = int(random.random() * len(content))
    path.write_bytes(content[:place])
    return f"cut after {place} of {len(content)} bytes"


def swap(path: Path, others: list[Path], random: np.random.Generator) -> str:
    """Two files that are called alike, or at least are of one format, change places."""
    alike = [one for one in others if one != path and one.name == path.name]
    alike = alike or [one for one in others if one != path and one.suffix == path.suffix]
    if not alike:
        return cut(path, random)
    other = alike[int(random.integers(len(alike)))]
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)
    return f"swapped with {other.parent.name}/{other.name}"


def damage(path: Path, fault: str, others: list[Path], random: np.random.Generator) -> str:
    """Do it; what was done."""
    if fault in ("flip", "cut") and path.stat().st_size:
        return flip(path, random) if fault == "flip" else cut(path, random)
    if fault == "swap":
        return swap(path, others, random)
    if fault == "empty":
        path.write_bytes(b"")
        return "emptied"
    path.unlink()
    return "deleted"


@dataclass(frozen=True)
class Door:
    """A way on which what is on disk comes back into the zoo.

    Attributes:
        what: the files, and what reads them: a line of the table.
        area: the folder that is copied and damaged, of what has been made.
        command: arguments of `zoo`, which runs beside the copy; empty: only `found` reads.
        found: from the folder with the copy, and what the command printed: the result.
        prepare: brings the copy to the state in which it is read, before it is damaged.
        files: which of its files are damaged.
        told: words by which the command, with exit code 0, says of a part of the work that it is refused.
        database: the command needs an mlflow.db with tables in it.
    """

    what: str
    area: Callable[[Made], Path]
    command: tuple[str, ...]
    found: Callable[[Path, Ended], Facts]
    prepare: Callable[[Path], None] = lambda copy: None
    files: tuple[str, ...] = ("**/*",)
    told: str = "\0"
    database: bool = False


def without(*names: str) -> Callable[[Path], None]:
    """Bring a copy to where these files had not been written yet."""

    def prepare(copy: Path) -> None:
        for name in names:
            (copy / name).unlink()

    return prepare


def result(patterns: tuple[str, ...], name: str) -> Callable[[Path, Ended], Facts]:
    """The files of a folder, as the result."""
    return lambda place, ended: facts.of_files(place / name, patterns)


def printed(place: Path, ended: Ended) -> Facts:
    """Return a hash of what the command printed."""
    return {"answer": facts.digest(ended.stdout.encode())}


def sent(place: Path, ended: Ended) -> Facts:
    """Return the metrics, parameters and artifacts that MLflow holds."""
    return facts.of_mlflow(place / "mlflow.db", place / "mlruns")


PREDICT = ("predict", "copy", "NaCl.cif", "low.cif", "--format", "json", "--neighbours", "2")
MODEL = ("model/model.json", "model/checksums.json", "model/*.safetensors", "model/reference.json")
TRACK = ("track", "copy")
UNFINISHED = ("metrics.json", "figures/calibration.png")

DOORS = (
    Door("cache, zoo run", lambda made: made.cache, ("run", "small.yaml", "--out", "out"), result(facts.RUN, "out")),
    Door("run, zoo run --resume (its end)", lambda made: made.run, ("run", "--resume", "copy"),
         result(facts.RUN, "copy"), without(*UNFINISHED)),
    Door("run, zoo run --resume (a seed lacks its result)", lambda made: made.run, ("run", "--resume", "copy"),
         result(facts.RUN, "copy"), without(*UNFINISHED, "seed_1/result.json", "seed_1/predictions.csv")),
    Door("half a run, zoo run --resume", lambda made: made.half, ("run", "--resume", "copy"),
         result(facts.RUN, "copy")),
    Door("refit, zoo refit --resume (its end)", lambda made: made.refit, ("refit", "--resume", "copy"),
         result(facts.RUN, "copy"), without("metrics.json")),
    Door("refit, zoo refit --resume (a member lacks its result)", lambda made: made.refit,
         ("refit", "--resume", "copy"), result(facts.RUN, "copy"), without("metrics.json", "seed_1/result.json")),
    Door("run, zoo predict", lambda made: made.run, PREDICT, printed, files=MODEL),
    Door("model folder, zoo predict", lambda made: made.run / "model", PREDICT, printed),
    Door("model folder, zoo embed", lambda made: made.run / "model",
         ("embed", "copy", "NaCl.cif", "--out", "f.npz"), lambda place, ended: facts.of_features(place)),
    Door("run, zoo track", lambda made: made.run, TRACK, sent, database=True),
    Door("refit, zoo track", lambda made: made.refit, TRACK, sent, database=True),
    Door("sweep, zoo run --resume", lambda made: made.sweep, ("run", "--resume", "copy"),
         result(facts.SWEEP, "copy"), without("table.csv", "seeds.csv", "cells/width-8/metrics.json"),
         told="of 2 cells, the reasons are"),
    Door("sweep, zoo track", lambda made: made.sweep, TRACK, sent, database=True),
    Door("screening, zoo screen --resume", lambda made: made.screening, ("screen", "--resume", "copy"),
         result(facts.SCREENING, "copy"), without("summary.json", "top.csv")),
    Door("parts of a screening, zoo screen --resume (one is to come)", lambda made: made.screening,
         ("screen", "--resume", "copy"), result(facts.SCREENING, "copy"),
         without("summary.json", "top.csv", "parts/000002.parquet"), ("parts/*",)),
    Door("parts of a screening, read as they are", lambda made: made.screening, (),
         lambda place, ended: facts.of_parts(place / "copy"), files=("parts/*",)),
    Door("discovery, zoo discover --resume (its end)", lambda made: made.discovery, ("discover", "--resume", "copy"),
         result(facts.DISCOVERY, "copy"), without("summary.json", "asked.csv", "rounds.csv")),
    Door("discovery, zoo discover --resume (a round lacks its results)", lambda made: made.discovery,
         ("discover", "--resume", "copy"), result(facts.DISCOVERY, "copy"),
         without("summary.json", "asked.csv", "rounds.csv", "round_2/results.json")),
    Door("embedding files, read as they are", lambda made: made.features, (),
         lambda place, ended: facts.of_features(place / "copy")),
)  # fmt: skip


def harmed(path: Path) -> bool:
    """Whether a file is one that is damaged: no lock."""
    return path.is_file() and path.suffix != ".lock"


class Corruption:
    """Cases, each in a folder of its own."""

    def __init__(self, made: Made, seed: int) -> None:
        self.made, self.seed = made, seed
        self._expected: dict[str, Facts] = {}

    def run(self, numbers: Iterable[int]) -> Iterator[Tried]:
        """Go through cases by their numbers."""
        for number in numbers:
            random = draws(self.seed, "corruption", number)
            door = DOORS[int(random.integers(len(DOORS)))]
            fault = FAULTS[int(random.integers(len(FAULTS)))]
            expected = self._of_untouched(door)
            place = self.made.case
            try:
                how, ended, found = self._go(door, place, lambda copy, d=door, f=fault, r=random: _harm(copy, d, f, r))
                yield Tried(number, door.what, how, self._outcome(door, ended, found, expected))
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def notes(self) -> list[str]:
        """Nothing beside the table."""
        return []

    @staticmethod
    def _outcome(door: Door, ended: Ended, found: Facts | Exception | None, expected: Facts) -> Outcome:
        if isinstance(found, Exception):
            # What pyarrow and numpy raise is theirs; the zoo's own errors have one line.
            one_line = not isinstance(found, ZooError) or "\n" not in str(found)
            return Outcome(REFUSED if one_line else FAILED, f"{type(found).__name__}: {str(found).strip()[:300]}")
        if ended.returncode == 0 and door.told in ended.stdout:
            return Outcome(REFUSED, door.told)
        return judged(ended, lambda: difference_of(found or {}, expected))

    def _of_untouched(self, door: Door) -> Facts:
        """Return the result of a door for an undamaged copy, computed once."""
        if door.what not in self._expected:

            def make() -> None:
                place = self.made.case
                _, ended, found = self._go(door, place, lambda copy: "")
                assert ended.returncode == 0 and isinstance(found, dict), f"{door.what}: {ended} {found!r}"
                self._expected[door.what] = found
                shutil.rmtree(place)

            self.made.timed(make)
        return self._expected[door.what]

    def _go(self, door: Door, place: Path, harm: Callable[[Path], str]) -> tuple[str, Ended, Facts | Exception | None]:
        """Copy, damage, and do what reads it; None where a command did not end well, an error where reading raised."""
        made = self.made
        area = door.area(made)
        copy = place / "copy"
        shutil.copytree(area, copy)
        door.prepare(copy)
        how = harm(copy)
        for name in ("NaCl.cif", "low.cif", "small.yaml"):
            shutil.copy(made.place / name, place)
        if door.database:
            shutil.copy(made.database, place / "mlflow.db")
        ended = Ended(0, "", "", 0.0, False)
        if door.command:
            caches = {"cache": copy, "discovery": made.cache_of_discovery}
            env = {"ZOO_CACHE": str(caches.get(door.what.partition(",")[0], made.cache))}
            ended = child.zoo(*door.command, cwd=place, log=place / "log", env=env)
            if ended.returncode != 0:
                return how, ended, None
        if not door.command and how.endswith("deleted"):
            return how, ended, FileNotFoundError(how)  # nobody who looks for it can overlook that
        try:
            return how, ended, door.found(place, ended)
        except Exception as error:
            if door.command:
                raise
            return how, ended, error


def _harm(copy: Path, door: Door, fault: str, random: np.random.Generator) -> str:
    files = sorted({path for pattern in door.files for path in copy.glob(pattern) if harmed(path)})
    path = files[int(random.integers(len(files)))]
    done = damage(path, fault, files, random)
    return f"{path.relative_to(copy)}: {done}"
