"""`zoo cache` and `zoo cache clear`, on caches that the zoo's own functions have filled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli import refused, zoo
from waiting import until

from zoo.cli.cache_command import WHAT, human
from zoo.storage import housekeeping
from zoo.storage.cache import building, content_key
from zoo.storage.housekeeping import KINDS, SINGLE

DAY = 86400.0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two entries each of graphs and embeddings, one of other kinds, and what is not deleted unless it is named."""
    root = tmp_path / "cache"
    monkeypatch.setenv("ZOO_CACHE", str(root))
    for kind, number in (("graphs", 2), ("embeddings", 2), ("crystals", 1), ("force_constants", 1)):
        for index in range(number):
            make(root, kind, index)
    single = content_key("a crystal")
    place(root / SINGLE / single[:2] / f"{single}.npz", 40)
    place(root / "datasets" / "dtnet-mp" / "mp_dielectric.json", 3000)
    place(root / "weights" / "tensornet" / "small.safetensors", 500)
    return root


def make(root: Path, kind: str, index: int) -> Path:
    entry = root / kind / content_key(kind, index)
    with building(entry) as partial:
        assert partial is not None
        place(partial / "values.npy", 1000)
    return entry


def place(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def age(entry: Path, days: float) -> None:
    then = time.time() - days * DAY
    for path in [entry, *entry.rglob("*")]:
        os.utime(path, (then, then))


def counts(root: Path) -> dict[str, int]:
    result = zoo("cache", "--json", cwd=root.parent)
    assert result.returncode == 0, result.stderr
    return {kind["kind"]: kind["entries"] for kind in json.loads(result.stdout)["kinds"]}


ALL = {"crystals": 1, "graphs": 2, "embeddings": 2, "force_constants": 1, SINGLE: 1, "datasets": 1, "weights": 1}


def test_the_list_says_how_much_there_is(cache: Path) -> None:
    assert counts(cache) == ALL
    shown = json.loads(zoo("cache", "--json", cwd=cache.parent).stdout)
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    assert shown["folder"] == str(cache)
    assert shown["bytes"] == size == sum(kind["bytes"] for kind in shown["kinds"])
    assert shown["being_written"] == shown["not_of_the_cache"] == shown["links_that_lead_out"] == []
    result = zoo("cache", cwd=cache.parent)
    assert result.returncode == 0 and result.stderr == ""
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.strip()}
    assert rows["graphs"][0] == "2"
    assert rows["datasets"][:3] == ["1", "3.0", "kB"]
    assert rows["total"][0] == "9"
    assert set(WHAT) == set(KINDS)


def test_every_kind_of_the_code_is_known() -> None:
    """A folder that some new code makes in the cache would else be taken for the user's."""
    texts = [path.read_text(encoding="utf-8") for path in (Path(__file__).parents[1] / "zoo").rglob("*.py")]
    named = {kind for text in texts for kind in re.findall(r'cache_root\(\)(?: if [^)]*\))? / "(\w+)"', text)}
    assert named >= {"graphs", "embeddings", "force_constants", "frame"}
    assert named <= set(KINDS)


def test_nothing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "none"))
    assert "is empty" in zoo("cache", cwd=tmp_path).stdout
    assert "nothing to delete" in zoo("cache", "clear", "--yes", cwd=tmp_path).stdout
    assert not (tmp_path / "none").exists(), "looking makes nothing"
    monkeypatch.setenv("ZOO_CACHE", str(place(tmp_path / "file", 3)))
    refused(zoo("cache", cwd=tmp_path), "is no folder", "ZOO_CACHE")


def test_clear_keeps_what_cost_a_download(cache: Path) -> None:
    result = zoo("cache", "clear", "--yes", cwd=cache.parent)
    assert result.returncode == 0, result.stderr
    assert "deleted 7 entries" in result.stdout
    assert "datasets and weights stay" in result.stdout
    assert counts(cache) == {"datasets": 1, "weights": 1}
    left = [path for path in cache.rglob("*") if path.is_file()]
    assert sorted(path.name for path in left) == ["mp_dielectric.json", "small.safetensors"], "no lock, no half"
    zoo("cache", "clear", "weights", "--yes", cwd=cache.parent)
    assert counts(cache) == {"datasets": 1}


def test_clear_of_kinds(cache: Path) -> None:
    zoo("cache", "clear", "graphs", "crystals", "--yes", cwd=cache.parent)
    assert counts(cache) == {kind: count for kind, count in ALL.items() if kind not in ("graphs", "crystals")}
    zoo("cache", "clear", "force_constants", "--yes", cwd=cache.parent)
    assert {"force_constants", SINGLE}.isdisjoint(counts(cache))
    refused(zoo("cache", "clear", "grahps", cwd=cache.parent), "'graphs'?")
    refused(zoo("cache", "clear", "graphs", "--older-than", "-1", cwd=cache.parent), "--older-than")
    refused(zoo("cache", "--json", "clear", cwd=cache.parent), "--json")


def test_single_crystals_alone(cache: Path) -> None:
    zoo("cache", "clear", SINGLE, "--yes", cwd=cache.parent)
    assert counts(cache) == {kind: count for kind, count in ALL.items() if kind != SINGLE}


def test_older_than(cache: Path) -> None:
    old = cache / "graphs" / content_key("graphs", 0)
    age(old, 40)
    assert counts(cache) == ALL, "to look at it is not to use it"
    zoo("cache", "clear", "--older-than", "50", "--yes", cwd=cache.parent)
    assert counts(cache) == ALL
    zoo("cache", "clear", "--older-than", "30", "--yes", cwd=cache.parent)
    assert not old.exists()
    assert counts(cache) == ALL | {"graphs": 1}


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_it_asks(cache: Path, answer: str, gone: bool) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "zoo", "cache", "clear", "graphs", "datasets"],
        input=answer, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "graphs: 2 entries" in result.stdout
    assert str(cache / "datasets" / "dtnet-mp") in result.stdout, "what is not computed anew is named one by one"
    assert ("nothing was deleted" in result.stdout) is not gone
    assert ("graphs" not in counts(cache)) is gone
    assert (cache / "datasets" / "dtnet-mp").exists() is not gone


def test_where_nobody_answers_nothing_is_deleted(cache: Path) -> None:
    command = [sys.executable, "-m", "zoo", "cache", "clear"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--yes" in result.stderr
    assert counts(cache) == ALL


HOLD = """
import sys, time
from pathlib import Path
from zoo.storage.cache import building
with building(Path(sys.argv[1]), resume=True) as partial:
    (partial / "half.npy").write_bytes(b"xx")
    time.sleep(600)
"""


@pytest.fixture
def at_work(cache: Path) -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Start a process that makes an entry and does not come to an end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(entry: Path) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "-c", HOLD, str(entry)]))
        until(lambda: (entry.with_name(f"{entry.name}.partial") / "half.npy").exists())
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_what_is_being_written_is_left_alone(cache: Path, at_work: Callable[[Path], subprocess.Popen[bytes]]) -> None:
    entry = cache / "graphs" / content_key("graphs", "new")
    process = at_work(entry)
    named = f"graphs/{entry.name}"
    assert f"being written: {named}" in zoo("cache", cwd=cache.parent).stdout
    result = zoo("cache", "clear", "graphs", "--yes", cwd=cache.parent)
    assert "deleted 2 entries" in result.stdout
    assert f"left alone: {named} is being written" in result.stdout
    assert (cache / "graphs" / f"{entry.name}.partial" / "half.npy").exists()
    process.kill()
    process.wait()
    assert "being written" not in zoo("cache", cwd=cache.parent).stdout
    zoo("cache", "clear", "graphs", "--yes", cwd=cache.parent)
    assert not list((cache / "graphs").iterdir()), "what a killed process has left is deleted"


def test_files_without_a_lock_go_by_their_time(cache: Path) -> None:
    key = content_key("on its way")
    half = place(cache / SINGLE / key[:2] / f"{key}.npz.4711.partial", 7)
    temporary = [
        place(cache / "run-ab12cd_9" / "rows.npy", 9),
        place(cache / "crystals" / "once-ab12cd_9" / "a.npy", 9),
    ]
    shown = zoo("cache", "clear", "--yes", cwd=cache.parent).stdout
    assert shown.count("is being written") == 3
    assert half.exists() and all(path.exists() for path in temporary)
    for path in (half, *temporary):
        age(path, 2 * housekeeping.STILL / DAY)
    zoo("cache", "clear", "--yes", cwd=cache.parent)
    assert not half.exists() and not any(path.parent.exists() for path in temporary)


def test_what_is_not_the_caches_stays(cache: Path) -> None:
    """$ZOO_CACHE may be a folder in which the user has other things, of the same names even."""
    mine = [
        place(cache / "thesis.tex", 3),
        place(cache / "graphs" / "figure.png", 3),
        place(cache / "datasets" / "survey" / "rows.csv", 3),
        place(cache / "weights" / "diary" / "kilos.txt", 3),
        place(cache / "run-baseline" / "recipe.yaml", 3),
        place(cache / SINGLE / "readme.txt", 3),
    ]
    assert counts(cache) == ALL
    result = zoo("cache", "clear", *KINDS, "--yes", cwd=cache.parent)
    assert all(path.exists() for path in mine)
    assert counts(cache) == {}
    assert "thesis.tex" in result.stderr and "and 1 more" in result.stderr


def test_links_that_lead_out_are_not_followed(cache: Path, tmp_path: Path) -> None:
    outside = place(tmp_path / "elsewhere" / content_key("graphs", "out") / "values.npy", 8)
    (cache / "graphs" / outside.parent.name).symlink_to(outside.parent)
    (cache / "frame").symlink_to(outside.parent.parent)
    (cache / "graphs" / content_key("graphs", 0) / "inner").symlink_to(outside.parent)
    assert counts(cache) == ALL
    result = zoo("cache", "clear", "--yes", cwd=cache.parent)
    assert result.returncode == 0, result.stderr
    assert outside.exists()
    assert result.stderr.count("is a link that leads out of the cache") == 2
    assert (cache / "frame").is_symlink()
    assert set(counts(cache)) == {"datasets", "weights"}


def test_what_cannot_be_deleted_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(housekeeping, "_erase", fail)
    refused(zoo("cache", "clear", "--yes", cwd=cache.parent), "cannot delete", "Permission denied")


def test_what_was_cleared_is_made_anew(cache: Path) -> None:
    zoo("cache", "clear", "graphs", "--yes", cwd=cache.parent)
    assert make(cache, "graphs", 0).is_dir()


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_449, "99.4 kB"), (99_960, "100 kB"), (1_234_567, "1.2 MB"),
     (999_600_000, "1.0 GB"), (5_000_000_000_000, "5.0 TB")],
)  # fmt: skip
def test_sizes(size: int, shown: str) -> None:
    assert human(size) == shown
