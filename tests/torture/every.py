"""Every write, fsync and rename of a work fails in each way: `python -m torture --only kills --every --out faults.csv`.

The work is done once. At each of its operations it forks, and the fork has the fault, in a copy of the folder that it
alone sees (`inject`). What each fork leaves is then resumed, unless another has left the same to the last byte: one
resumption tells for both. That takes an hour; begun again with the same file, it goes on where it was.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from torture import inject
from torture.cases import FAILED, REFUSED, SURVIVED, Outcome, difference_of, judged
from torture.child import Ended
from torture.kills import Kills, fault_of
from torture.made import Made
from torture.works import WORKS, Untouched, Work

COLUMNS = ("work", "operation", "kind", "path", "fault", "outcome", "left_as", "why")
LONGEST = 7200.0  # s, of a work with all of its forks
Seen = dict[tuple[bool, str], tuple[Outcome, str]]
"""By what forks have left, and whether they ended well: what came of it, and the first that left it."""


def every(made: Made, out: Path, only: str | None) -> int:
    """Go through every operation of every work, or of `only` one; 1 where any failed.

    It is written into `out` as it goes. What stands there is not done again, except for what has failed.
    """
    rows: dict[tuple[str, int, str], dict[str, str]] = {}
    if out.is_file():
        with out.open(newline="", encoding="utf-8") as file:
            known = [row for row in csv.DictReader(file) if row["outcome"] != FAILED]
        rows = {(row["work"], int(row["operation"]), row["fault"]): row for row in known}
    kills = Kills(made, 0)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())
        for work in WORKS:
            if only not in (None, work.name):
                continue
            expected = kills.untouched(work)
            asked = [(at, how) for how in inject.KINDS for at in range(1, len(expected.operations) + 1)]
            asked = [(at, how) for at, how in asked if (work.name, at, how) not in rows]
            if not asked:
                continue
            states = _states(made, work, expected)
            seen: Seen = {}
            for at, how in tqdm(asked, desc=work.name, disable=None):
                outcome, same = _outcome(made, work, expected, states / f"{at}-{how}", how, seen)
                values = (work.name, at, *expected.operations[at - 1], how, outcome.verdict, same, outcome.why[:200])
                row = {name: str(value) for name, value in zip(COLUMNS, values, strict=True)}
                rows[work.name, at, how] = row
                writer.writerow(row)
                file.flush()
                if outcome.verdict == FAILED:
                    tqdm.write(" ".join(map(str, values)))
            shutil.rmtree(states)
    _tell(kills, rows)
    return int(any(row["outcome"] == FAILED for row in rows.values()))


def _states(made: Made, work: Work, expected: Untouched) -> Path:
    """Do a work whose forks have all the faults; return the folder with what they leave."""
    states = made.place / "states"
    states.mkdir()
    try:
        ended = work.go(made, 0, "kill", LONGEST, ZOO_TORTURE_STATES=str(states))
        assert ended.returncode == 0, ended
        assert inject.operations(made.case / "operations") == expected.operations, "its operations are others"
        other = difference_of(work.found(made.case), expected.found)
        assert other is None, f"the work was harmed by its forks: {other}"
    finally:
        shutil.rmtree(made.case, ignore_errors=True)
    return states


def _outcome(
    made: Made,
    work: Work,
    expected: Untouched,
    state: Path,
    how: str,
    seen: dict[tuple[bool, str], tuple[Outcome, str]],
) -> tuple[Outcome, str]:
    """Judge how a fork ended and what comes of resuming it; and name the one that had left the same, if any."""
    told = json.loads(state.with_suffix(".json").read_text(encoding="utf-8"))
    code = told["returncode"]
    if code is None:
        return Outcome(FAILED, f"does not end within {inject.LONGEST:.0f} s"), ""
    fault = fault_of(Ended(code, "", told["stderr"], 0.0, False), how)
    if fault is not None:
        return fault, ""
    key = (code == 0, _digest(state))
    if key in seen:
        shutil.rmtree(state)
        return seen[key]
    state.replace(made.case)
    try:
        ended = work.go(made, 0, how) if code else Ended(0, "", "", 0.0, False)
        outcome = judged(ended, lambda: difference_of(work.found(made.case), expected.found))
        if outcome.verdict != SURVIVED and code:
            outcome = Outcome(FAILED, f"is not resumed: {outcome.why}")
    finally:
        shutil.rmtree(made.case, ignore_errors=True)
    seen[key] = outcome, state.name
    return outcome, ""


def _digest(state: Path) -> str:
    """A hash of all that is in a folder, but for what the process has said."""
    digest = hashlib.sha256()
    for path in sorted(state.rglob("*")):
        name = path.relative_to(state)
        if path.is_file() and name.parts[0] not in ("log", "operations"):
            digest.update(f"{name} {path.stat().st_size}\n".encode() + path.read_bytes())
        elif path.is_dir() and name.parts[0] != "log":
            digest.update(f"{name}/\n".encode())
    return digest.hexdigest()


def _tell(kills: Kills, rows: dict[tuple[str, int, str], dict[str, str]]) -> None:
    counts = Counter((row["work"], row["fault"], row["outcome"]) for row in rows.values())
    resumed = Counter((row["work"], row["fault"]) for row in rows.values() if not row["left_as"])
    print("\n".join(kills.notes()))
    for work in WORKS:
        for how in inject.KINDS:
            words = ", ".join(f"{counts[work.name, how, one]} {one}" for one in (SURVIVED, REFUSED, FAILED))
            print(f"{work.name}, {how}: {words}; {resumed[work.name, how]} left what no other had")
