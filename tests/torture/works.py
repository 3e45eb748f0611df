"""The works that faults are injected into: a run, a screening, a search in rounds, as small as they can be.

Each is made in the same folder every time, since recipes and keys of the cache have its path in them, and with an empty
cache. Its figures are of one pixel: what is drawn is not what is tested here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture import child, facts, inject
from torture.cases import Facts, difference_of
from torture.child import HANG, Ended
from torture.made import Made

OUT = "out"


@dataclass(frozen=True)
class Work:
    """A kind of work.

    Attributes:
        name: in the tables.
        command: by which it is begun, without its folder.
        recipe: file by which its folder is known for one that can be resumed.
        patterns: the files that must be the same, in the end.
        more: what else must be, from its folder.
        share: of the drawn cases.
    """

    name: str
    command: tuple[str, ...]
    recipe: str
    patterns: tuple[str, ...]
    share: float
    more: Callable[[Path], Facts] = field(default=lambda folder: {})

    def found(self, place: Path) -> Facts:
        """The result; with a word on each file that is not as its checksum has it."""
        folder = place / OUT
        return facts.of_files(folder, self.patterns) | self.more(folder) | facts.damaged(folder)

    def go(self, made: Made, at: int, how: str, limit: float = HANG, **more: str) -> Ended:
        """Begin it in the folder for cases or, where something can be resumed there, go on; with a fault (0: none).

        `more` is for the environment.
        """
        place = made.case
        place.mkdir(exist_ok=True)
        out = place / OUT
        if (out / self.recipe).is_file():
            command = [self.command[0], "--resume", OUT]
        else:
            shutil.rmtree(out, ignore_errors=True)  # as a user would: nothing is in it to go on with
            command = [self.command[0], str(made.place / self.command[1]), "--out", OUT]
        (place / "operations").unlink(missing_ok=True)
        env = {"ZOO_CACHE": str(place / "cache"), "ZOO_TORTURE_ROOT": str(place)}
        env |= {"ZOO_TORTURE_FAIL_AT": str(at), "ZOO_TORTURE_HOW": how, "ZOO_TORTURE_LOG": str(place / "operations")}
        return child.zoo(*command, cwd=place, log=place / "log", env=env | more, pictures=False, limit=limit)


@dataclass(frozen=True)
class Untouched:
    """A work that nothing has happened to.

    Attributes:
        found: its result.
        operations: kind and path of each of its writes, fsyncs and renames.
    """

    found: Facts
    operations: list[tuple[str, str]]


def untouched(work: Work, made: Made) -> Untouched:
    """Make a work twice, to see that it is the same each time."""

    def once() -> Untouched:
        shutil.rmtree(made.case, ignore_errors=True)
        ended = work.go(made, 0, "kill")
        assert ended.returncode == 0, f"{work.name}: {ended}"
        return Untouched(work.found(made.case), inject.operations(made.case / "operations"))

    def make() -> Untouched:
        assert work.name == "run" or made.run  # the screening needs its model
        first, second = once(), once()
        shutil.rmtree(made.case)
        other = difference_of(second.found, first.found)
        assert other is None, f"{work.name}, once more and untouched, has {other}"
        assert first.operations == second.operations, f"{work.name}, once more and untouched, has other operations"
        return first

    done: Untouched = made.timed(make)
    return done


def _rows(folder: Path) -> dict[str, Any]:
    return dict(facts.of_parts(folder))


WORKS = (
    Work("run", ("run", "small.yaml"), "recipe.yaml", (*facts.RUN, "figures/*", "data_report.json"), 0.5),
    Work("screening", ("screen", "tiny_screen.yaml"), "screen.yaml",
         (*facts.SCREENING, "figures/*.png", "summary.json"), 0.3, _rows),
    Work("discovery", ("discover", "tiny_find.yaml"), "discover.yaml",
         (*facts.DISCOVERY, "figures/*.png", "known.json", "start.json", "summary.json", "round_*/chosen.json",
          "round_*/screen/top.csv", "round_*/calculations/*/outcome.json",
          *(f"round_*/model/{name}" for name in facts.RUN)), 0.2),
)  # fmt: skip
