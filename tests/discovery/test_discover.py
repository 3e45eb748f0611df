"""`zoo discover`: rounds of training, choosing and calculating."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cli import accept, refused, zoo
from discovered import HIDDEN, KNOWN, asked, labelled, parent_of, started, tensor, write_discovery
from quick import no_pictures

import zoo as package
from zoo.storage.run_folder import read_json, read_rows

pytestmark = pytest.mark.extended

if TYPE_CHECKING:
    pass


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
    assert len(training) == 1 and "test_mae_ten" in training[0].data.metrics
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
