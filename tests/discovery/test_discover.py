"""`zoo discover`: rounds of training, choosing and calculating."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cli import accept, refused, zoo
from discovered import HIDDEN, KNOWN, asked, labelled, started, tensor, write_discovery
from quick import no_pictures

import zoo as package
from zoo.config import plugins, recipe
from zoo.contract.target import TensorTarget
from zoo.discovery.rounds.start import refuse_other_target
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json, read_rows

pytestmark = pytest.mark.extended

if TYPE_CHECKING:
    from mlflow.entities import Run


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished discovery."""
    folder = tmp_path_factory.mktemp("found")
    write_discovery(folder, tracking={"enabled": True, "uri": f"sqlite:///{folder}/mlflow.db"})
    result = zoo("discover", "find.yaml", "--out", "out", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "printed").write_text(result.stdout)
    return folder / "out"


def test_each_round_asks_for_crystals_that_nobody_knew(found: Path) -> None:
    rows = asked(found)
    keys = [row["key"] for row in rows]
    assert [row["round"] for row in rows] == ["1"] * 4 + ["2"] * 4
    assert len(set(keys)) == 8 and not {f"c-{i:04d}" for i in range(KNOWN)} & set(keys)
    for row in rows:
        number = int(row["key"][2:])
        assert row["status"] == "done"
        assert float(row["total_xy"]) == pytest.approx(tensor(number)[0][1], abs=1e-5)
        assert float(row["value"]) == pytest.approx(np.trace(tensor(number)) / 3, rel=1e-5)
    scores = [float(row["score"]) for row in rows[:4]]
    assert scores == sorted(scores, reverse=True)


def test_what_came_is_trained_on_and_the_test_part_stays(found: Path) -> None:
    splits = [read_json(found / place / "model" / "seed_0" / "split.json") for place in ("round_1", "round_2")]
    splits.append(read_json(found / "round_3" / "model" / "seed_0" / "split.json"))
    assert [len(split["train"]) for split in splits] == [KNOWN - 6, KNOWN - 6 + 4, KNOWN - 6 + 8]
    assert all(sorted(split["val"]) == sorted(splits[0]["val"]) for split in splits)
    assert all(sorted(split["test"]) == sorted(splits[0]["test"]) for split in splits)
    assert {row["key"] for row in asked(found)} <= set(splits[2]["train"])
    labels = package.load(found / "round_3" / "model", device="cpu").reference
    assert labels is not None and labels.tensors is not None
    keys = [name["key"] for name in labels.names]
    first = asked(found)[0]["key"]
    np.testing.assert_allclose(labels.tensors[keys.index(first)], tensor(int(first[2:])), rtol=1e-5)


def test_what_it_prints_and_draws(found: Path) -> None:
    printed = (found.parent / "printed").read_text()
    highest = max(np.trace(tensor(i)) / 3 for i in range(KNOWN))
    for fact in ("24 crystals", "'total'", f"{highest:.4g}", "round 2", "4 results"):
        assert fact in printed
    rows = read_rows(found / "rounds.csv")
    assert [row["trained_on"] for row in rows] == ["18", "22"]
    values = [float(row["value"]) for row in asked(found)]
    assert float(rows[1]["best_so_far"]) == pytest.approx(max(highest, *values), rel=1e-4)
    off = np.mean([abs(float(row["value"]) - float(row["predicted"])) for row in asked(found)[:4]])
    assert float(rows[0]["mae_predicted"]) == pytest.approx(off, rel=1e-3)
    names = {path.name for path in (found / "figures").glob("*.png")}
    assert names == {"progress.png", "parity.png", "best.png"}


def parent_of(folder: Path, uri: str) -> Run:
    """The run of the whole discovery."""
    from mlflow import MlflowClient

    return MlflowClient(uri).get_run(read_json(folder / "mlflow.json")[uri]["runs"]["parent"])


def test_rounds_are_runs_below_one_run(found: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{found.parent}/mlflow.db"
    client = MlflowClient(uri)
    parent = parent_of(found, uri)
    assert parent.info.status == "FINISHED" and parent.data.params["acquisition.name"] == "ucb"
    assert [m.value for m in client.get_metric_history(parent.info.run_id, "trained_on")] == [18, 22]
    below = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", order_by=["start_time"]
    )
    assert [run.info.run_name for run in below] == ["find round 1", "find round 2", "find"]
    assert below[0].data.metrics["done"] == 4
    training = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{below[0].info.run_id}'")
    assert len(training) == 1 and "val_mae_ten_mean" in training[0].data.metrics
    versions = client.search_model_versions("name='find'")
    assert len(versions) == 1 and versions[0].run_id == below[2].info.run_id
    files = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"asked.csv", "rounds.csv", "figures", "discover.yaml", "summary.json"} <= files
    again = zoo("track", "out", cwd=found.parent)
    assert again.returncode == 0 and "2 rounds" in again.stdout, again.stderr
    assert len(client.search_runs([parent.info.experiment_id])) == 3 + 1 + 3 * 3 - 1


def test_it_is_finished_and_goes_on_for_more_rounds(found: Path, tmp_path: Path) -> None:
    shutil.copytree(found.parent, tmp_path, dirs_exist_ok=True)
    refused(zoo("discover", "--resume", "out", cwd=tmp_path), "out", "rounds=N")
    result = zoo("discover", "--resume", "out", "rounds=3", "tracking.enabled=false", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = asked(tmp_path / "out")
    assert len({row["key"] for row in rows}) == 12
    assert [row for row in rows if row["round"] != "3"] == asked(found)
    split = read_json(tmp_path / "out" / "round_4" / "model" / "seed_0" / "split.json")
    assert len(split["train"]) == KNOWN - 6 + 12, "the last model is of the last round"
    more = ("rounds=4", "top=3")
    refused(zoo("discover", "--resume", "out", *more, cwd=tmp_path), "top differ")


def told(folder: Path) -> list[list[dict[str, str]]]:
    """Both tables, without the time that was taken."""
    tables = (asked(folder), read_rows(folder / "rounds.csv"))
    return [[{name: v for name, v in row.items() if name != "seconds"} for row in table] for table in tables]


def test_killed_in_each_of_its_steps_it_finds_the_same(found: Path, tmp_path: Path) -> None:
    """SIGKILL as soon as a step has left its first trace: nobody is asked for twice, nobody is lost."""
    write_discovery(tmp_path)
    start = ["find.yaml", "--out", "out"]
    first = ("start.json", "round_1/model/seed_0/last.pt", "round_1/screen/run.json", "round_1/chosen.json")
    then = ("round_2/model/seed_1/split.json", "round_2/screen/parts/000000.parquet", "round_3/model")
    killed = 0
    for step in (*first, *then):
        place = tmp_path / "out" / step
        if place.exists():
            continue
        process = started("discover", *start, cwd=tmp_path)
        while process.is_alive() and not place.exists():
            time.sleep(0.002)
        killed += process.is_alive()
        process.kill()
        process.join()
        start = ["--resume", "out"]
    assert killed >= 5
    result = zoo("discover", "--resume", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert told(tmp_path / "out") == told(found)
    for number in (1, 2):
        names = (tmp_path / "out" / f"round_{number}" / "results.json", found / f"round_{number}" / "results.json")
        assert read_json(names[0]) == read_json(names[1])


@no_pictures()
def test_a_search_ends_where_no_candidate_is_left(tmp_path: Path) -> None:
    write_discovery(tmp_path, top=20)
    changes = ("rounds=5", "model.members=1", "acquisition.name=random")
    result = zoo("discover", "find.yaml", *changes, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    out = next((tmp_path / "runs").iterdir())
    assert sorted(row["key"] for row in asked(out)) == [f"c-{i:04d}" for i in range(KNOWN, KNOWN + HIDDEN)]
    assert "of 54 candidates" in result.stdout and "before 54" in result.stdout
    assert len(list(out.glob("round_*/model"))) == 3, "the third found nothing to choose"
    more = labelled(range(KNOWN + HIDDEN, KNOWN + HIDDEN + 3))
    (tmp_path / "more.json").write_text(json.dumps(more))
    answers = "oracle={name: replay, dataset: {name: file, path: more.json}}"
    refused(zoo("discover", "--resume", str(out), answers, cwd=tmp_path), "oracle")
    (tmp_path / "all.json").write_text(json.dumps(json.loads((tmp_path / "all.json").read_text()) | more))
    result = zoo("discover", "--resume", str(out), "candidates={path: more.json}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {row["key"] for row in asked(out) if row["round"] == "3"} == set(more)


def test_a_full_disk_tells_how_to_go_on(found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(found.parent, tmp_path, dirs_exist_ok=True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zoo.discovery.rounds.loop.round_results.write", full)
    result = zoo("discover", "--resume", "out", "rounds=3", "tracking.enabled=false", cwd=tmp_path)
    refused(result, "no space left", "zoo discover --resume out")


def test_a_share_of_a_dataset_is_hidden_and_replayed(tmp_path: Path) -> None:
    write_discovery(tmp_path)
    changes = ("model.change={dataset.path: all.json}", "start.share=0.5", "rounds=1", "model.last=false")
    result = zoo("discover", "find.yaml", *changes, "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    known = read_json(tmp_path / "out" / "known.json")
    split = read_json(tmp_path / "out" / "round_1" / "model" / "seed_0" / "split.json")
    assert len(known) == 27 and {*split["train"], *split["val"], *split["test"]} == set(known)
    assert not set(known) & {row["key"] for row in asked(tmp_path / "out")}
    first = zoo("discover", "find.yaml", *changes, "model.first=out/round_1/model", "--out", "again", cwd=tmp_path)
    assert first.returncode == 0 and "epoch" not in first.stdout, first.stderr
    assert [row["key"] for row in asked(tmp_path / "again")] == [row["key"] for row in asked(tmp_path / "out")]
    other = (*changes, "start.seed=1", "model.first=out/round_1/model", "--out", "other")
    refused(zoo("discover", "find.yaml", *other, cwd=tmp_path), "model.first", "other crystals")
    longer = ("model.change={dataset.path: all.json, training.max_epochs: 3}", "start.share=0.5", "rounds=1")
    refused(
        zoo("discover", "find.yaml", *longer, "model.first=out/round_1/model", "--out", "longer", cwd=tmp_path),
        "model.first",
        "training",
    )


def test_what_is_known_under_another_key_is_not_asked_for(found: Path, tmp_path: Path) -> None:
    """c-0100 is the crystal that would be chosen first, known; c-0101 the second one, out of the range to train on."""
    first, second = (asked(found)[place]["key"] for place in (0, 1))
    number = int(first[2:])
    write_discovery(tmp_path)
    entry = labelled(range(number, number + 1))[first]
    extreme = {**labelled(range(int(second[2:]), int(second[2:]) + 1))[second], "total": (500 * np.eye(3)).tolist()}
    known = json.loads((tmp_path / "known.json").read_text()) | {"c-0100": entry, "c-0101 ": extreme, " c-0102": entry}
    (tmp_path / "known.json").write_text(json.dumps(known))
    (tmp_path / "small.yaml").write_text(
        (tmp_path / "small.yaml").read_text().replace("deduplicate: false", "deduplicate: true")
    )
    changes = ("rounds=1", "top=30", "model.last=false", "acquisition.name=greedy", "model.members=1")
    result = zoo("discover", "find.yaml", *changes, "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert not {first, second} & {row["key"] for row in asked(tmp_path / "out")}
    counts = read_json(tmp_path / "out" / "round_1" / "screen" / "summary.json")["filtered"]
    assert counts["known under another key"] >= 2


def test_the_same_crystal_is_chosen_once(found: Path, tmp_path: Path) -> None:
    """Under two keys (only where a training would leave one out), and under one key twice."""
    write_discovery(tmp_path)
    some = labelled(range(KNOWN, KNOWN + 6))
    twice = [{"key": key, **entry} for key, entry in some.items()]
    twice += [{**entry, "key": f"again-{entry['key']}"} for entry in twice] + twice
    (tmp_path / "twice.json").write_text(json.dumps(twice))
    (tmp_path / "answers.json").write_text(json.dumps({entry["key"]: entry for entry in twice}))
    answers = "oracle={name: replay, dataset: {name: file, path: answers.json}}"
    changes = (
        "candidates={path: twice.json}",
        answers,
        "rounds=1",
        "top=9",
        "chunk=5",
        "model.last=false",
        "model.members=1",
    )
    for deduplicate, expected in ((True, 6), (False, 9)):
        text = (tmp_path / "small.yaml").read_text()
        (tmp_path / "small.yaml").write_text(
            text.replace("deduplicate: false", f"deduplicate: {str(deduplicate).lower()}")
        )
        out = f"out-{expected}"
        result = zoo("discover", "find.yaml", *changes, "acquisition.name=greedy", "--out", out, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        keys = [row["key"] for row in asked(tmp_path / out)]
        assert len(keys) == len(set(keys)) == expected
        (tmp_path / "small.yaml").write_text(text)


def test_a_limit_and_crystals_without_the_target_do_not_mix_up_the_rounds(tmp_path: Path) -> None:
    """Results come in whatever their keys; what the dataset holds without a label may be asked for."""
    write_discovery(tmp_path)
    content = labelled(range(KNOWN + HIDDEN))
    for key in list(content)[KNOWN:]:
        del content[key]["total"]
    (tmp_path / "known.json").write_text(json.dumps(content))
    changes = ("model.change={data.limit: 20, dataset.targets: {total: {quantity: total dielectric}, other: {}}, "
               "data.on_bad_record: skip}")  # fmt: skip
    result = zoo(
        "discover", "find.yaml", changes, "model.members=1", "acquisition.name=greedy", "--out", "out", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert [row["trained_on"] for row in read_rows(tmp_path / "out" / "rounds.csv")] == ["16", "20"]
    assert not {row["key"] for row in asked(tmp_path / "out")} & {f"c-{i:04d}" for i in range(KNOWN)}


def test_it_goes_on_elsewhere(found: Path, tmp_path: Path) -> None:
    """From another folder, after it was moved, and where it was stopped between a round's results and its tables."""
    shutil.copytree(found.parent, tmp_path / "moved")
    out = tmp_path / "moved" / "out"
    (out / "summary.json").unlink()
    shutil.rmtree(out / "figures")
    asked_before = asked(out)
    (out / "asked.csv").unlink()
    (out / "rounds.csv").write_text("".join((out / "rounds.csv").read_text().splitlines(keepends=True)[:2]))
    accept(out / "rounds.csv")
    tracked = zoo("track", "moved/out", "--uri", f"sqlite:///{tmp_path}/other.db", cwd=tmp_path)
    assert tracked.returncode == 0 and "1 rounds" in tracked.stdout, tracked.stderr
    for name in ("metrics.json", "seed_1/result.json"):  # in the midst of the last training
        (out / "round_3" / "model" / name).unlink()
    result = zoo("discover", "--resume", "moved/out", "tracking.enabled=false", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert asked(out) == asked_before and (out / "figures" / "best.png").is_file()
    assert read_rows(out / "rounds.csv") == read_rows(found / "rounds.csv")
    assert str(tmp_path) in (out / "round_3" / "model" / "recipe.yaml").read_text()


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
    """What is chosen in the first round, of which some shall be in a mood."""
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
        (["candidates.dataset.path=nowhere.json"], ["nowhere.json"]),
        (["filters.unseen=false"], ["filters.unseen"]),
        (["round=1"], ["'round'", "'rounds'"]),
        (["start.share=1.5"], ["start.share"]),
        (["model.change={split.train: 10}"], ["split.train", "start.share"]),
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
    too_strict = ("filters.max_atoms=1", "--out", "none")
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
    assert config.name == name and config.training().target == "total"
    assert config.training().split.seed == 0 and config.training().seeds == (0, 1, 2, 3, 4)
    assert discovery_config.parse(config.content, name) == config
