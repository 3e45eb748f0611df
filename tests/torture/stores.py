"""The tracking database: three runs make it at once, one dies while it is made, it is locked, empty or damaged.

Afterwards what was sent is read as a user reads it, through MLflow; or one line has said which file to delete, and once
that is done the run can be sent. A new situation is a line of `SITUATIONS`.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from torture import child, corruption
from torture.cases import FAILED, REFUSED, SURVIVED, Outcome, Tried, draws, judged
from torture.child import Ended
from torture.made import Made

NAME = "mlflow.db"


class Store:
    """A folder with copies of the run, and what is done to the database in it.

    Attributes:
        made: the untouched works.
        place: the folder.
        random: of the case.
        how: what was done, for the report.
    """

    def __init__(self, made: Made, place: Path, random: np.random.Generator) -> None:
        self.made, self.place, self.random, self.how = made, place, random, ""

    @property
    def database(self) -> Path:
        """The file."""
        return self.place / NAME

    def copy(self) -> None:
        """The run that is sent."""
        shutil.copytree(self.made.run, self.place / "run")

    def track(self, run: str = "run", quick: bool = True, at: int = 0) -> Ended:
        """`zoo track run`; `at`: it dies at that SQL statement; not `quick`: MLflow makes the database itself."""
        env = self.made.env if quick else self.made.env | {"ZOO_TORTURE_SQL_AT": str(at)}
        return child.zoo("track", run, cwd=self.place, log=self.place / "log", env=env, quick=quick)

    def unreadable(self, run: str = "run") -> str | None:
        """Tell how a sent run differs from its run folder; None where it does not."""
        expected = read(self.made.tracked, "run", self.place)
        found = read(self.place, run, self.place)
        if isinstance(found, str) or isinstance(expected, str):
            return f"its runs cannot be read: {found}"
        if set(found) != set(expected):
            return f"there are runs {sorted(found)} in place of {sorted(expected)}"
        other = [
            f"{kind} of {name}"
            for name in expected
            for kind in expected[name]
            if found[name][kind] != expected[name][kind]
        ]
        return f"{', '.join(other)} are others" if other else None

    def sent(self, ended: Ended) -> Outcome:
        """Judge the end of a sending; where it was refused, do what its line advises and judge the next sending."""
        outcome = judged(ended, self.unreadable)
        if outcome.verdict != REFUSED:
            return outcome
        if NAME not in outcome.why:
            return Outcome(FAILED, f"the line does not say what to delete: {outcome.why}")
        if self.database.is_dir():
            self.database.rmdir()
        else:
            for path in self.place.glob(f"{NAME}*"):
                path.unlink()
        again = judged(self.track(), self.unreadable)
        if again.verdict != SURVIVED:
            return Outcome(FAILED, f"refused, and with the database deleted it still fails: {again.why}")
        return outcome


def read(place: Path, run: str, log: Path) -> dict[str, Any] | str:
    """Metrics and parameters of the runs that a folder's mlflow.json names, through MLflow; or what it says."""

    def work() -> None:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{place / NAME}")
        (state,) = json.loads((place / run / "mlflow.json").read_text()).values()
        found = {name: client.get_run(number).data for name, number in state["runs"].items()}
        ours = ("dataset", "encoder", "seeds")
        print(json.dumps({
            name: {"metrics": data.metrics, "params": {k: v for k, v in data.params.items() if not k.startswith(ours)}}
            for name, data in found.items()
        }, sort_keys=True))  # fmt: skip

    ended = child.Running(work, place, {}, log / "log of reading").wait()
    if ended.returncode != 0:
        return ended.last_line
    content: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    return content


def at_once(store: Store) -> Outcome:
    """Three `zoo run` begin together, and make the database."""
    names = ("first", "second", "third")
    changes = ("tracking.enabled=true", f"tracking.uri=sqlite:///{store.database}")
    running = []
    for name in names:
        command = ("run", str(store.made.place / "small.yaml"), *changes, "--out", name)
        log = store.place / f"log of {name}"
        env = store.made.env | {"ZOO_TORTURE_SQL_AT": "0"}
        running.append(child.start(*command, cwd=store.place, log=log, env=env, quick=False))
        wait = float(store.random.choice([0.0, 0.0, 0.3]))
        store.how += f"{name}, {wait:g} s later "
        time.sleep(wait)
    ends = [one.wait() for one in running]
    verdicts = []
    for name, ended in zip(names, ends, strict=True):
        outcome = judged(ended, lambda: None)
        if outcome.verdict == REFUSED:  # as its line says, it is sent later
            sent = judged(store.track(name, quick=False), lambda name=name: store.unreadable(name))
            outcome = outcome if sent.verdict == SURVIVED else Outcome(FAILED, f"{outcome.why}; sent later: {sent.why}")
        elif outcome.verdict == SURVIVED and (why := store.unreadable(name)) is not None:
            outcome = Outcome(FAILED, why)
        verdicts.append(outcome)
    return next((one for one in verdicts if one.verdict == FAILED),
                next((one for one in verdicts if one.verdict == REFUSED), verdicts[0]))  # fmt: skip


def killed(store: Store, quick: bool) -> Outcome:
    """The process dies at an SQL statement; then the run is sent again."""
    store.copy()
    if quick:
        shutil.copy(store.made.database, store.database)
    at = int(store.random.integers(1, store.made.statements * (0.25 if quick else 1.0)))
    ended = store.track(quick=False, at=at)
    store.how = f"SIGKILL at statement {at}"
    if ended.returncode != -9:
        return store.sent(ended)
    return store.sent(store.track(quick=False))


def locked(store: Store) -> Outcome:
    """Another program holds the database, for some seconds or until the sending has given up."""
    store.copy()
    shutil.copy(store.made.database, store.database)
    seconds = float(store.random.choice([0.5, 2.0, 4.0, 1000.0]))
    store.how = f"locked for {seconds:g} s"

    def hold() -> None:
        connection = sqlite3.connect(store.database, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        (store.place / "held").touch()
        time.sleep(seconds)
        connection.execute("ROLLBACK")

    holder = child.Running(hold, store.place, {}, store.place / "log of holder")
    while not (store.place / "held").exists():
        time.sleep(0.02)
    ended = store.track()
    holder.kill()
    holder.wait()
    outcome = judged(ended, store.unreadable)
    if outcome.verdict != REFUSED:
        return outcome
    again = judged(store.track(), store.unreadable)  # there is nothing to delete, but to wait for
    return outcome if again.verdict == SURVIVED else Outcome(FAILED, f"{outcome.why}; free again: {again.why}")


def empty(store: Store) -> Outcome:
    """A file without a byte, or a folder in its place, or a file that is no database."""
    store.copy()
    store.how = str(store.random.choice(["no bytes", "a folder", "a text", "zeros"]))
    if store.how == "a folder":
        store.database.mkdir()
    else:
        content = {"no bytes": b"", "a text": b"this is no database\n" * 100, "zeros": bytes(8192)}
        store.database.write_bytes(content[store.how])
    return store.sent(store.track())


def damaged(store: Store, with_runs: bool) -> Outcome:
    """A byte of the database is another, or its end is missing: with this run in it, or with none."""
    if with_runs:
        shutil.copytree(store.made.tracked, store.place, dirs_exist_ok=True)
        state = store.place / "run" / "mlflow.json"
        # The paths in it, and in the database, are those of the folder it was made in.
        state.write_text(state.read_text().replace(str(store.made.tracked), str(store.place)))
        (store.place / "run" / "checksums.json").unlink()
    else:
        store.copy()
        shutil.copy(store.made.database, store.database)
    do = corruption.cut if store.random.random() < 0.4 else corruption.flip
    store.how = do(store.database, store.random)
    return store.sent(store.track())


SITUATIONS: tuple[tuple[str, Callable[[Store], Outcome]], ...] = (
    ("three runs at once make mlflow.db", at_once),
    ("killed while mlflow.db is made and filled", lambda store: killed(store, False)),
    ("killed while a run is sent", lambda store: killed(store, True)),
    ("mlflow.db is locked", locked),
    ("mlflow.db is empty, a folder or no database", empty),
    ("mlflow.db is damaged, a run is sent", lambda store: damaged(store, False)),
    ("mlflow.db is damaged, a run that it holds is sent", lambda store: damaged(store, True)),
)


class Stores:
    """Cases; each situation has its turn."""

    def __init__(self, made: Made, seed: int) -> None:
        self.made, self.seed = made, seed

    def run(self, numbers: Iterable[int]) -> Iterator[Tried]:
        """Go through cases by their numbers."""
        for number in numbers:
            what, do = SITUATIONS[number % len(SITUATIONS)]
            store = Store(self.made, self.made.case, draws(self.seed, "stores", number))
            assert self.made.tracked
            store.place.mkdir()
            try:
                outcome = do(store)
                yield Tried(number, what, store.how, outcome)
            finally:
                shutil.rmtree(store.place, ignore_errors=True)

    def notes(self) -> list[str]:
        """Tell the number of SQL statements at which a kill can come."""
        return [f"to make mlflow.db and send a run takes {self.made.statements} SQL statements"]
