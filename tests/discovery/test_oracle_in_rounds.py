"""Oracles that fail, wait or cannot work, in the rounds of a discovery; and what `zoo discover` refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli import refused, zoo
from discovered import HIDDEN, KNOWN, asked, labelled, parent_of, write_discovery

from zoo.config import plugins, recipe
from zoo.contract.target import TensorTarget
from zoo.discovery.rounds.start import refuse_other_target
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json

if TYPE_CHECKING:
    pass


pytestmark = pytest.mark.extended


ORACLE = """
from pathlib import Path
import numpy as np
from zoo.api import CalculationFailed, Hypers, Oracle, TensorTarget, ZooError

class Pace(Hypers):
    threads: int = 1
    cutoff: int = 10

class Moody(Oracle):
    Hypers = Pace
    may_change = frozenset({"threads"})

    def targets(self):
        return {name: TensorTarget(name) for name in ("total", "electronic")}

    def tensors(self, candidate, folder):
        mood = Path("moods", candidate.key)
        with open("calls", "a") as calls:
            calls.write(candidate.key + "\\n")
        word = mood.read_text() if mood.is_file() else "fine"
        if word == "fails":
            raise CalculationFailed("no convergence\\nafter 100 steps")
        if word == "waits":
            (folder / "INPUT").write_text("to be run elsewhere")
            return None
        if word == "broken":
            return {"total": np.full((3, 3), np.nan)}
        if word == "partly":
            return {"electronic": np.eye(3)}
        if word == "stops":
            raise ZooError("the disk of the calculations is full")
        if word == "surprises":
            raise KeyError("nothing")
        return {"total": np.eye(3) * len(candidate.structure)}

class Absent(Moody):
    def missing(self):
        return "moody.x is not installed: apt install moody"

class Other(Moody):
    def targets(self):
        return {"electronic": TensorTarget("electronic")}
"""


@pytest.fixture
def moody(found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a discovery whose oracle does what `moods/KEY` says."""
    (tmp_path / "stranger_oracle.py").write_text(ORACLE)
    (tmp_path / "moods").mkdir()
    model = {"recipe": "small.yaml", "members": 2, "first": str(found / "round_1" / "model"), "last": False}
    write_discovery(tmp_path, oracle={"name": "moody"}, rounds=1, model=model)
    monkeypatch.syspath_prepend(str(tmp_path))
    ours = plugins.entry_points

    def theirs(group: str, **selection: str) -> list[EntryPoint]:
        points = [
            EntryPoint(name, f"stranger_oracle:{name.title()}", "zoo.oracles") for name in ("moody", "absent", "other")
        ]
        more = [p for p in points if group == p.group and p.name == selection.get("name", p.name)]
        return [*ours(group=group, **selection), *more]

    monkeypatch.setattr(plugins, "entry_points", theirs)
    plugins.registered.cache_clear()
    yield tmp_path
    plugins.registered.cache_clear()


def in_a_mood(found: Path, folder: Path, **moods: int) -> list[str]:
    """Let the oracle treat some crystals of the first round as `moods` says (mood=place); return the keys of all."""
    keys = [one["key"] for one in read_json(found / "round_1" / "chosen.json")]
    for mood, place in moods.items():
        (folder / "moods" / keys[place]).write_text(mood)
    return keys


def test_failed_calculations_are_written_down_and_not_asked_for_again(found: Path, moody: Path) -> None:
    keys = in_a_mood(found, moody, fails=0, broken=2, partly=3)
    result = zoo("discover", "find.yaml", "rounds=2", "--out", "out", cwd=moody)
    assert result.returncode == 0, result.stderr
    rows = asked(moody / "out")
    assert [row["key"] for row in rows[:4]] == keys
    assert [row["status"] for row in rows[:4]] == ["failed", "done", "failed", "failed"]
    assert rows[0]["reason"] == "no convergence after 100 steps" and rows[0]["value"] == ""
    assert "NaN" in rows[2]["reason"]
    assert "'total'" in rows[3]["reason"] and "'electronic'" in rows[3]["reason"]
    calls = (moody / "calls").read_text().split()
    assert sorted(calls) == sorted(row["key"] for row in rows) and len(set(calls)) == 8
    split = read_json(moody / "out" / "round_2" / "model" / "seed_0" / "split.json")
    assert set(keys) & set(split["train"]) == {keys[1]}
    assert f"failed    {keys[0]}" in result.stdout
    assert "1 results, 3 failed" in result.stdout


def test_a_round_waits_for_what_somebody_else_brings(found: Path, moody: Path) -> None:
    keys = in_a_mood(found, moody, waits=1)
    result = zoo("discover", "find.yaml", "--out", "out", cwd=moody)
    assert result.returncode == 0, result.stderr
    assert "waits for 1 of 4" in result.stdout and "out/round_1/calculations" in result.stdout
    assert "zoo discover --resume out" in result.stdout
    assert (moody / "out" / "round_1" / "calculations" / keys[1] / "INPUT").is_file()
    assert not (moody / "out" / "round_1" / "results.json").exists()
    again = zoo("discover", "--resume", "out", cwd=moody)
    assert "waits for 1 of 4" in again.stdout
    calls = (moody / "calls").read_text().split()
    assert calls.count(keys[1]) == 2 and calls.count(keys[0]) == 1, "what has an outcome is not asked again"
    shutil.copytree(moody / "out", moody / "closed")
    (moody / "moods" / keys[1]).write_text("fine")
    assert zoo("discover", "--resume", "out", cwd=moody).returncode == 0
    assert [row["status"] for row in asked(moody / "out")] == ["done"] * 4
    (moody / "moods" / keys[1]).write_text("waits")
    assert zoo("discover", "--resume", "closed", "--give-up", cwd=moody).returncode == 0
    rows = asked(moody / "closed")
    assert rows[1]["status"] == "failed" and rows[1]["reason"].startswith("given up")
    for word in ("waits", "fine"):  # what is given up is the round that was waiting, not those to come
        for number in range(KNOWN, KNOWN + HIDDEN):
            (moody / "moods" / f"c-{number:04d}").write_text(word)
        more = zoo("discover", "--resume", "closed", *(["rounds=3", "--give-up"] if word == "waits" else []), cwd=moody)
        assert ("waits for 4 of 4" in more.stdout) == (word == "waits"), more.stderr
    assert [row["status"] for row in asked(moody / "closed")].count("failed") == 1
    refused(zoo("discover", "find.yaml", "--give-up", cwd=moody), "--resume")


def test_what_has_nothing_to_do_with_a_crystal_stops_all(found: Path, moody: Path) -> None:
    keys = in_a_mood(found, moody, stops=1)
    tracked = ("rounds=2", f"tracking={{enabled: true, uri: 'sqlite:///{moody}/mlflow.db'}}")
    said = ("the disk of the calculations is full", "zoo discover --resume out")
    refused(zoo("discover", "find.yaml", *tracked, "--out", "out", cwd=moody), *said)
    (moody / "moods" / keys[1]).write_text("surprises")
    said = ("'moody'", keys[1], "KeyError: 'nothing'")
    refused(zoo("discover", "--resume", "out", cwd=moody), *said)
    (moody / "moods" / keys[1]).write_text("fine")
    others = {f"c-{number:04d}" for number in range(KNOWN, KNOWN + HIDDEN)} - set(keys)
    for word, status in (("stops", "FAILED"), ("fine", "FINISHED")):  # in the second round
        for key in others:
            (moody / "moods" / key).write_text(word)
        changes = ("oracle.threads=2", "candidates={path: all.json}")  # neither changes what has come
        result = zoo("discover", "--resume", "out", *changes, cwd=moody)
        assert result.returncode == (2 if word == "stops" else 0), result.stderr
        assert parent_of(moody / "out", f"sqlite:///{moody}/mlflow.db").info.status == status
    assert [row["status"] for row in asked(moody / "out")] == ["done"] * 8
    for change, words in (("oracle.cutoff=20", "oracle differ"), ("top=9", "top differ")):
        result = zoo("discover", "--resume", "out", "rounds=3", change, cwd=moody)
        refused(result, words)
        assert "--resume" not in result.stderr
        assert parent_of(moody / "out", f"sqlite:///{moody}/mlflow.db").info.status == "FINISHED"


def test_an_oracle_tells_what_the_models_predict() -> None:
    total, other = (TensorTarget("total", quantity=quantity) for quantity in ("total dielectric", "stiffness"))
    refuse_other_target(total, {"total": total}, "mine")
    for less in ("", "dielectric"):
        refuse_other_target(total, {"total": TensorTarget("total", quantity=less)}, "mine")
    with pytest.raises(ZooError, match=r"'total'.*stiffness.*total dielectric"):
        refuse_other_target(total, {"total": other}, "mine")


def test_what_cannot_work_is_said_at_once(moody: Path) -> None:
    for changes, words in (
        (["oracle.name=absent"], ["'absent'", "apt install moody"]),
        (["oracle.name=other"], ["'other'", "'total'", "electronic"]),
        (["oracle.name=mody"], ["'moody'"]),
        (["oracle.kappa=1"], ["'kappa'"]),
        (["model.members=1"], ["'ucb'", "model.members=5"]),
        (["model.recipe=smal.yaml"], ["'smal.yaml'"]),
        (["model.change={trainig.max_epochs: 3}"], ["'trainig'", "'training'"]),
        (["training.max_epochs=5"], ["'training'", "'model.change={training.max_epochs: 5}'"]),
        (["candidates.dataset.path=nowhere.json"], ["nowhere.json"]),
        (["filters.unseen=false"], ["filters.unseen"]),
        (["round=1"], ["'round'", "'rounds'"]),
        (["start.share=1.5"], ["start.share"]),
        (["model.change={split.train: 10}"], ["split.train", "start.share"]),
        (["start.share=0.5", "model.change={auxiliary: [{name: petousis2017}]}"], ["auxiliary", "start.share hides"]),
        (["model.change={split.kind: formula}"], ["split.kind=formula", "split.kind: random"]),
    ):
        refused(zoo("discover", "find.yaml", *changes, "--out", "out", cwd=moody), *words)
        assert not (moody / "out").exists(), changes
    refused(zoo("discover", cwd=moody), "zoo recipes")
    refused(zoo("discover", "small.yaml", cwd=moody), "zoo run small.yaml")
    refused(zoo("run", "find.yaml", cwd=moody), "zoo discover find.yaml")
    refused(zoo("screen", "find.yaml", cwd=moody), "zoo discover find.yaml")
    refused(zoo("discover", "screen_total", cwd=moody), "zoo screen")
    refused(zoo("discover", "--resume", "moods", cwd=moody), "moods", "discover.yaml")
    too_strict = ("filters.max_atoms=1", "filters.min_band_gap=null", "--out", "none")
    refused(zoo("discover", "find.yaml", *too_strict, cwd=moody), "max_atoms 30")
    gaps = ("acquisition={name: expected-improvement}", "objective.name=figure-of-merit", "--out", "gaps")
    content = labelled(range(KNOWN))
    for entry in content.values():
        del entry["band_gap"]
    (moody / "known.json").write_text(json.dumps(content))
    refused(
        zoo("discover", "find.yaml", *gaps, cwd=moody),
        "figure-of-merit",
        "acquisition",
    )
    (moody / "known.json").write_text(json.dumps(labelled(range(5))))
    refused(zoo("discover", "find.yaml", "model.first=null", "--out", "few", cwd=moody), "too few")


@pytest.mark.parametrize("name", sorted(recipe.for_command("discover")))
def test_recipes_that_ship_are_read(name: str) -> None:
    from zoo.discovery.rounds import discovery_config

    config = discovery_config.read(name)
    assert config.name == name and config.training().target == name.split("_")[1]
    assert config.training().split.seed == 0 and config.training().seeds == (0, 1, 2, 3, 4)
    assert discovery_config.parse(config.content, name) == config
