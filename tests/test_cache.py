"""Keys that never collide by framing, and entries that are whole or not there."""

import errno
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from waiting import until

from zoo.errors import ZooError, clear_disk_errors
from zoo.storage.cache import ArrayWriter, building, cache_root, content_key, give_back, open_array


def test_cache_root(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.setenv("ZOO_CACHE", "~/somewhere")
    assert cache_root() == Path.home() / "somewhere"
    monkeypatch.delenv("ZOO_CACHE")
    assert cache_root().name == "crystal-tensor-zoo"


def test_different_parts_have_different_keys():
    parts = [
        (),
        ("",),
        ("", ""),
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (b"abc",),
        (["a", "bc"],),
        ([["a"], "bc"],),
        ([["a", "bc"]],),
        ({"a": "bc"},),
        ({"a": ["bc"]},),
        (1,),
        (1.0,),
        (True,),
        ("1",),
        (None,),
        ("None",),
        (np.zeros(2),),
        (np.zeros(2, np.float32),),
        (np.zeros((2, 1)),),
        (np.zeros((1, 2)),),
        (np.zeros(16, np.uint8),),
        (np.zeros(2).tobytes(),),
        (0.1 + 0.2,),
        (0.3,),
        ("str 1\na",),
        (["str 1", "a"],),
    ]
    keys = [content_key(*part) for part in parts]
    for (one, a), (other, b) in itertools.combinations(zip(parts, keys, strict=True), 2):
        assert a != b, f"{one} and {other} have the same key"


def test_equal_content_has_equal_keys():
    array = np.arange(12.0).reshape(3, 4)
    assert content_key(array) == content_key(np.asfortranarray(array)) == content_key(array.astype(">f8"))
    assert content_key({"a": 1, "b": [2.0]}) == content_key({"b": (2.0,), "a": np.int64(1)})
    # The key itself must not change from one process or version to the next.
    assert content_key("ε", 1).startswith("be919508b2686b15")


def test_what_has_no_canonical_bytes_is_refused():
    for part in (object(), {1, 2}, np.array([object()])):
        with pytest.raises(TypeError, match="cannot hash"):
            content_key(part)


def test_an_entry_appears_when_the_block_ends(tmp_path):
    entry = tmp_path / "deep" / "entry"
    with building(entry) as folder:
        (folder / "file").write_text("content")
        assert not entry.exists()
    assert (entry / "file").read_text() == "content"
    with building(entry) as folder:
        assert folder is None


@pytest.mark.parametrize("resume", [False, True])
def test_a_failure_leaves_no_entry(tmp_path, resume):
    entry = tmp_path / "entry"
    with pytest.raises(KeyboardInterrupt), building(entry, resume) as folder:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt
    assert not entry.exists()
    with building(entry, resume) as folder:
        assert (folder / "half").exists() == resume
    assert entry.is_dir()


BUILD = """
import os, sys, time
from pathlib import Path
from zoo.storage.cache import building
entry = Path(sys.argv[1])
with building(entry) as folder:
    if folder is None:
        print("found")
    else:
        (folder / "begun").write_text("")
        while not Path(sys.argv[2]).exists():
            time.sleep(0.02)
        (folder / "done").write_text("")
        print("built")
"""


def start(entry, goes_on):
    """Build an entry; it waits halfway until a file is there."""
    command = [sys.executable, "-c", BUILD, str(entry), str(goes_on)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_of_two_processes_one_builds(tmp_path):
    entry = tmp_path / "entry"
    first = start(entry, tmp_path / "go.on")
    until((tmp_path / "entry.partial" / "begun").exists)
    second = start(entry, tmp_path / "go.on")
    assert "another process" in second.stderr.readline()
    (tmp_path / "go.on").touch()
    said = [process.communicate(timeout=300)[0].strip() for process in (first, second)]
    assert said == ["built", "found"]
    assert (entry / "done").exists()


def test_a_killed_process_leaves_no_entry_and_no_lock(tmp_path):
    entry = tmp_path / "entry"
    process = start(entry, tmp_path / "never")
    until((tmp_path / "entry.partial" / "begun").exists)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not entry.exists()
    with building(entry) as folder:
        assert list(folder.iterdir()) == []


def test_array_writer_streams_and_takes_up_after_the_last_whole_row(tmp_path):
    path = tmp_path / "rows.npy"
    values = np.arange(30, dtype=np.float32).reshape(10, 3)
    killed = ArrayWriter(path, "float32", (3,))
    killed.append(values[:4])
    with path.open("ab") as torn:  # 2 of the 12 bytes of a row; no close, so the header still says 0 rows
        torn.write(b"\x01\x02")
    again = ArrayWriter(path, "float32", (3,))
    assert again.rows == 4
    again.truncate(3)
    again.append(values[3:])
    again.close()
    np.testing.assert_array_equal(open_array(path), values)
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), values)
    with pytest.raises(ValueError, match="rows of shape"):
        ArrayWriter(path, "float32", (3,)).append(np.zeros((2, 4)))


def test_array_writer_without_rows(tmp_path):
    ArrayWriter(tmp_path / "none.npy", "<i2", (3,)).close()
    assert open_array(tmp_path / "none.npy").shape == (0, 3)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named(number):
    said = "no space left for /data/runs: free some, or choose another --out"
    with pytest.raises(ZooError, match=said), clear_disk_errors(Path("/data/runs"), fix="choose another --out"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_in_a_library(error):
    with pytest.raises(ZooError, match="no space left"), clear_disk_errors(Path("/data"), fix="free some"):
        raise error


@pytest.mark.skipif(sys.platform == "win32", reason="no RLIMIT_FSIZE there")
def test_a_full_disk_in_torch_save(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(ZooError, match="no space left"), clear_disk_errors(tmp_path, fix="free some"):
            torch.save(torch.ones(100_000), tmp_path / "weights.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_other_errors_pass():
    with pytest.raises(FileNotFoundError), clear_disk_errors(Path("/data"), fix="x"):
        raise FileNotFoundError(errno.ENOENT, "no such file")
    with pytest.raises(KeyError), clear_disk_errors(Path("/data"), fix="x"):
        raise KeyError("other")


def test_a_file_in_the_place_of_the_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match=r"file.*ZOO_CACHE"), building(tmp_path / "file" / "entry"):
        pass


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_what_may_not_be_written_is_named(number):
    said = f"cannot write in /data \\({os.strerror(number)}\\): use another"
    with pytest.raises(ZooError, match=said), clear_disk_errors(Path("/data"), fix="use another"):
        raise OSError(number, os.strerror(number))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell")
def test_pages_of_large_files_are_given_back(tmp_path):
    def held():
        return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")

    path, size = tmp_path / "large.npy", 48 << 20
    np.save(path, np.arange(size // 8))
    array = open_array(path)
    before = held()
    total = array.sum()
    assert held() > before + 0.9 * size
    give_back(2 * size)
    assert held() > before + 0.9 * size
    give_back(size // 4)
    assert held() < before + size // 4
    for start in range(0, len(array), 1000):
        total -= array[start : start + 1000].sum()
        give_back(size // 4)
        assert held() < before + size // 2
    assert total == 0  # what is read again is what was there
