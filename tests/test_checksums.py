"""A flipped byte, a cut or an empty file: what the cache holds is made anew, anything else is refused in one line."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli import accept, refused, zoo

from zoo.data.petousis2017 import Petousis2017
from zoo.errors import ZooError
from zoo.storage import cache, checksums
from zoo.storage.cache import ArrayWriter, building, open_array
from zoo.storage.checksums import BLOCK, CheckedArray, Damaged
from zoo.storage.run_folder import read_json, read_rows, write_json, write_rows, write_text
from zoo.training.trainer import read_checkpoint

DAMAGE = ("flipped", "cut", "empty")


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flipped": content, "cut": content[: len(content) // 2], "empty": b""}[kind])


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_small_file_is_refused_until_its_change_is_accepted(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "numbers.json"
    write_json(path, {"a": 1.5, "b": [1, 2, 3]})
    assert read_json(path) == {"a": 1.5, "b": [1, 2, 3]}
    damage(path, kind)
    with pytest.raises(Damaged, match=r"numbers.json is damaged .*checksums.json") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)
    path.write_text('{"a": 2}')
    accept(path)
    assert read_json(path) == {"a": 2}


def test_rows_and_texts_are_checked_as_well(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [{"x": 1}, {"x": 2}])
    write_text(tmp_path / "recipe.yaml", "name: x\n")
    damage(tmp_path / "rows.csv", "flipped")
    damage(tmp_path / "recipe.yaml", "cut")
    with pytest.raises(Damaged):
        read_rows(tmp_path / "rows.csv")
    with pytest.raises(Damaged):
        checksums.verify(tmp_path / "recipe.yaml")


def test_a_kill_between_checksum_and_file_leaves_either_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target == path:
            raise KeyboardInterrupt
        return replace(self, target)

    for _ in range(3):  # once more after the kill, and again
        monkeypatch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_json(path, 2)
        monkeypatch.undo()
        assert read_json(path) == 1
    write_json(path, 2)
    assert read_json(path) == 2


def test_the_checksums_themselves_may_be_damaged(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    text = (tmp_path / "checksums.json").read_bytes()
    states = (b'{"size": [2], "blocks": []}', b'{"size": true, "blocks": []}', b'{"size": 2, "blocks": 3}')
    types = (*(b'{"a.json": [%b]}' % state for state in states), b'{"a.json": []}')
    names = (text.replace(b"}\n", b'}, "\\u0000": []}', 1), text.replace(b'"a.json"', b'"\\ud800"'))
    for wrong in (b"", b"[]", b'{"a.json": [{}]}', b'{"a.json": 3}', b"[" * 100_000, *types, *names):
        (tmp_path / "checksums.json").write_bytes(wrong)
        with pytest.raises(Damaged, match=r"checksums.json is damaged"):
            read_json(tmp_path / "a.json")
    (tmp_path / "checksums.json").unlink()
    assert read_json(tmp_path / "a.json") == 1


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, np.ndarray]]:
    """An entry with a file of three blocks, which count as too large to be read at once."""
    monkeypatch.setattr(cache, "CHECKED_AT_ONCE", BLOCK)
    values = np.arange(3 * BLOCK // 8 - 1000, dtype=np.float64).reshape(-1, 2)
    with building(tmp_path / "entry") as partial:
        assert partial is not None
        file = ArrayWriter(partial / "values.npy", "<f8", (2,))
        file.append(values)
        file.close()
    yield tmp_path / "entry" / "values.npy", values


def test_a_large_array_is_checked_block_by_block(large: tuple[Path, np.ndarray]) -> None:
    path, values = large
    content = bytearray(path.read_bytes())
    content[BLOCK + 100] ^= 1
    path.write_bytes(content)
    with building(path.parent) as partial:
        assert partial is None, "its content is not read here"
    array = open_array(path)
    assert isinstance(array, CheckedArray) and len(array) == len(values)
    np.testing.assert_array_equal(array[:100], values[:100])
    np.testing.assert_array_equal(array[-3], values[-3])
    np.testing.assert_array_equal(array[5:5], values[5:5])
    for read in (lambda: array[100 : len(values)], lambda: array[BLOCK // 16 + 10], lambda: np.asarray(array)):
        with pytest.raises(Damaged, match=r"values.npy is damaged"):
            read()


def test_a_large_array_that_is_whole_reads_as_the_file(large: tuple[Path, np.ndarray]) -> None:
    path, values = large
    np.testing.assert_array_equal(np.asarray(open_array(path)), values)
    assert cache.content_key(open_array(path)) == cache.content_key(values)
    path.write_bytes(path.read_bytes()[:-8])
    with building(path.parent) as partial:
        assert partial is not None, "its size is looked at"


RECIPE = {
    "name": "small",
    "dataset": {"name": "file", "path": "crystals.json", "targets": {"total": {}}},
    "target": "total",
    "encoder": {"name": "sevennet"},
    "readout": {"name": "dtnet", "width": 4, "blocks": 1},
    "training": {"max_epochs": 2},
    "tracking": {"enabled": False},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its recipe, and the cache that it filled, which no other test touches."""
    place = tmp_path_factory.mktemp("damaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(place / "cache"))
        records = [record for record, _ in zip(Petousis2017(Petousis2017.Hypers()).records(), range(16), strict=False)]
        crystals = {r.key: {"structure": r.structure.as_dict(), "total": r.targets["total"].tolist()} for r in records}
        (place / "crystals.json").write_text(json.dumps(crystals))
        (place / "small.yaml").write_text(yaml.safe_dump(RECIPE))
        assert zoo("run", "small.yaml", "--out", "run", cwd=place).returncode == 0
    return place


def cache_files(place: Path) -> list[Path]:
    """All files of the entries, without locks and checksums."""
    found = (path for path in (place / "cache").rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path for path in found if not path.name.startswith((".", "checksums")))


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_in_the_cache_is_made_anew(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Every file of every entry: the result is that of an untouched cache, and a line tells of each entry."""
    shutil.copytree(trained / "cache", tmp_path / "cache")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    kinds = {path.parent.parent.name for path in cache_files(tmp_path)}
    assert kinds == {"crystals", "embeddings", "frame", "graphs", "tensors"}
    for path in cache_files(tmp_path):
        damage(path, kind)
    result = zoo("run", "small.yaml", "--out", str(tmp_path / "run"), cwd=trained)
    assert result.returncode == 0, result.stderr
    for name in kinds:
        assert any(f"cache/{name}/" in line and "is made anew" in line for line in caplog.messages), name
    assert read_json(tmp_path / "run" / "metrics.json") == read_json(trained / "run" / "metrics.json")


FILES = (
    "recipe.yaml",
    "run.json",
    "seed_0/result.json",
    "seed_0/split.json",
    "seed_0/predictions.csv",
    "seed_0/history.csv",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_of_a_run_stops_its_resumption(trained: Path, tmp_path: Path, name: str, kind: str) -> None:
    """All that a finish reads."""
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    damage(tmp_path / "run" / name, kind)
    refused(zoo("run", "--resume", "run", cwd=tmp_path), Path(name).name, "damaged")


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_a_flipped_number_of_a_checkpoint_is_seen(trained: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = bytearray((trained / "run" / "seed_0" / name).read_bytes())
    with zipfile.ZipFile(trained / "run" / "seed_0" / name) as file:
        largest = max(file.infolist(), key=lambda info: info.file_size)
        tensor = file.read(largest)
    content[content.index(tensor) + len(tensor) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZooError, match=f"{name} is damaged"):
        read_checkpoint(path)
    for kind in ("cut", "empty"):
        damage(path, kind)
        with pytest.raises(ZooError, match=f"{name} is damaged"):
            read_checkpoint(path)


def test_a_history_that_was_cut_is_that_of_the_checkpoint_again(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    for name in ("metrics.json", "seed_0/result.json", "seed_0/checksums.json"):
        (tmp_path / "run" / name).unlink()
    before = (trained / "run" / "seed_0" / "history.csv").read_bytes()
    (tmp_path / "run" / "seed_0" / "history.csv").write_bytes(before[:-20])
    assert zoo("run", "--resume", "run", cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "seed_0" / "history.csv").read_bytes() == before
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == read_json(trained / "run" / "metrics.json")


@pytest.mark.parametrize("name", ["metrics.json", "seed_0/split.json", "seed_0/predictions.csv", "seed_0/best.pt"])
def test_a_damaged_file_of_a_run_is_not_sent(trained: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    damage(tmp_path / "run" / name, "flipped")
    refused(zoo("track", "run", cwd=tmp_path), Path(name).name, "damaged")


def test_the_end_of_a_run_reads_checkpoints_with_care(trained: Path, tmp_path: Path) -> None:
    """The model folder must not be made of a damaged one."""
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    damage(tmp_path / "run" / "seed_0" / "best.pt", "flipped")
    refused(zoo("run", "--resume", "run", cwd=tmp_path), "best.pt", "damaged")
