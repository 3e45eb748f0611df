"""A screening that is stopped, in whatever way, goes on where it was: no candidate is lost or counted twice."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli import accept, refused, zoo
from pyarrow import parquet
from screened import MODEL, crystal, save, write_json

from zoo.discovery.screen_folder import ScreenFolder

pytestmark = pytest.mark.extended

COUNT = 150


def keys(folder: Path) -> list[str]:
    paths = sorted((folder / "parts").glob("*.parquet"))
    return [key for path in paths for key in parquet.read_table(path, columns=["key"])["key"].to_pylist()]


def results(folder: Path) -> dict[str, bytes]:
    """All that follows from the candidates; not what tells of time."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted((folder / "top").iterdir())}
    summary = json.loads((folder / "summary.json").read_text())
    del summary["speed"]
    return found | {"top.csv": (folder / "top.csv").read_bytes(), "summary": json.dumps(summary).encode()}


def test_killed_again_and_again_the_result_is_the_same(recipe: dict, tmp_path: Path) -> None:
    """SIGKILL at random times, most of them while a part is computed or written."""
    write_json(tmp_path / "many.json", COUNT)
    save(recipe | {"chunk": 2, "top": 10}, tmp_path)
    assert zoo("screen", "mine.yaml", "--out", "whole", cwd=tmp_path).returncode == 0
    when = random.Random(0)
    command = [sys.executable, "-m", "zoo", "screen"]
    start = ["mine.yaml", "--out", "killed"]
    kills = 0
    for wanted in (5, 15, 25):
        with subprocess.Popen(
            [*command, *start], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as run:
            while run.poll() is None and len(list((tmp_path / "killed" / "parts").glob("*.parquet"))) < wanted:
                time.sleep(0.002)
            time.sleep(when.uniform(0, 0.03))
            if run.poll() is None:
                run.send_signal(signal.SIGKILL)
                kills += 1
        assert keys(tmp_path / "killed") == [f"c-{i:04d}" for i in range(len(keys(tmp_path / "killed")))]
        start = ["--resume", "killed"]
    assert kills == 3 and not (tmp_path / "killed" / "summary.json").exists()
    result = zoo("screen", "--resume", "killed", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert keys(tmp_path / "killed") == [f"c-{i:04d}" for i in range(COUNT)]
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    assert len(json.loads((tmp_path / "killed" / "run.json").read_text())["resumed"]) == 3


@pytest.fixture
def stopped(recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """After 16 of 40 candidates by Ctrl-C."""
    save(recipe, tmp_path)
    add = ScreenFolder.add

    def interrupted(self: ScreenFolder, number: int, table: object) -> None:
        if number == 2:
            raise KeyboardInterrupt
        add(self, number, table)

    with monkeypatch.context() as patched:
        patched.setattr(ScreenFolder, "add", interrupted)
        result = zoo("screen", "mine.yaml", "--out", "out", cwd=tmp_path)
    assert result.returncode == 130
    assert "zoo screen --resume out" in result.stderr.strip().splitlines()[-1]
    assert len(keys(tmp_path / "out")) == 16
    return tmp_path


def test_after_ctrl_c_it_goes_on(stopped: Path) -> None:
    assert zoo("screen", "mine.yaml", "--out", "whole", cwd=stopped).returncode == 0
    (stopped / "out" / "parts" / "000002.parquet.partial").write_bytes(b"PAR1 half")
    result = zoo("screen", "--resume", "out", "device=cpu", "chunk=5", cwd=stopped)
    assert result.returncode == 0, result.stderr
    assert keys(stopped / "out") == keys(stopped / "whole")
    assert results(stopped / "out") == results(stopped / "whole")
    refused(zoo("screen", "--resume", "out", cwd=stopped), "out is finished")


def test_stopped_before_the_results_it_still_makes_them(stopped: Path) -> None:
    assert zoo("screen", "--resume", "out", cwd=stopped).returncode == 0
    before = results(stopped / "out")
    for name in ("summary.json", "top.csv"):
        (stopped / "out" / name).unlink()
    shutil.rmtree(stopped / "out" / "top")
    result = zoo("screen", "--resume", "out", cwd=stopped)
    assert result.returncode == 0, result.stderr
    assert "all candidates" in result.stdout
    assert results(stopped / "out") == before


def test_other_candidates_are_refused(stopped: Path) -> None:
    content = json.loads((stopped / "many.json").read_text())
    (stopped / "many.json").write_text(json.dumps({"new": content["c-0001"], **content}))
    said = ("candidates", "number 16", "'c-0015'", "'c-0014'")
    refused(zoo("screen", "--resume", "out", cwd=stopped), *said)
    (stopped / "many.json").write_text(json.dumps(dict(list(content.items())[:9])))
    refused(zoo("screen", "--resume", "out", cwd=stopped), "number 16", "'c-0015'", "fewer")
    (stopped / "many.json").write_text(json.dumps({**content, "new": {"structure": crystal(99).as_dict()}}))
    assert zoo("screen", "--resume", "out", cwd=stopped).returncode == 0, "more at the end do no harm"
    assert keys(stopped / "out")[-1] == "new"


def test_a_folder_with_a_name_that_is_no_text_goes_on(recipe: dict, tmp_path: Path) -> None:
    """Keys are found again, though the folder of the screening is among the files."""
    save(recipe, tmp_path)
    (tmp_path / "files").mkdir()
    name = os.fsencode(tmp_path / "files") + b"/%d-\xff.vasp"
    for i in range(6):
        (tmp_path / "files" / "one.vasp").write_text(crystal(i).to(fmt="poscar"))
        os.rename(tmp_path / "files" / "one.vasp", name % i)  # noqa: PTH104
    arguments = ("mine.yaml", "candidates.path=files", "chunk=2")
    assert zoo("screen", *arguments, "--out", "files/out", cwd=tmp_path).returncode == 0
    before = results(tmp_path / "files" / "out")
    assert keys(tmp_path / "files" / "out") == [f"{i}-\\udcff" for i in range(6)]
    (tmp_path / "files" / "out" / "summary.json").unlink()
    (tmp_path / "files" / "out" / "parts" / "000002.parquet").unlink()
    result = zoo("screen", "--resume", "files/out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert results(tmp_path / "files" / "out") == before


def test_another_recipe_or_model_is_refused(stopped: Path) -> None:
    for change in ("top=5", "objective.name=anisotropy", "filters.max_atoms=3"):
        said = change.split("=")[0].split(".")[0]
        refused(zoo("screen", "mine.yaml", change, "--resume", "out", cwd=stopped), f"{said} differ")
    text = (stopped / "out" / "screen.yaml").read_text()
    (stopped / "out" / "screen.yaml").write_text(text.replace("name: ucb", "name: greedy"))
    accept(stopped / "out" / "screen.yaml")
    refused(zoo("screen", "--resume", "out", cwd=stopped), "acquisition differ")
    (stopped / "out" / "screen.yaml").write_text(text)
    shutil.copytree(MODEL, stopped / "moved")
    shutil.copytree(MODEL, stopped / "changed")
    shutil.copy(MODEL / "member_0.safetensors", stopped / "changed" / "member_1.safetensors")
    refused(zoo("screen", "mine.yaml", "model=changed", "--resume", "out", cwd=stopped), "another model")
    assert zoo("screen", "mine.yaml", "model=moved", "--resume", "out", cwd=stopped).returncode == 0


def test_a_missing_or_damaged_part_is_told(stopped: Path) -> None:
    first = stopped / "out" / "parts" / "000000.parquet"
    kept = first.read_bytes()
    first.unlink()
    refused(zoo("screen", "--resume", "out", cwd=stopped), "000000.parquet is missing")
    first.write_bytes(kept[:100])
    refused(zoo("screen", "--resume", "out", cwd=stopped), "000000.parquet is damaged")


def test_two_do_not_write_in_one_folder(stopped: Path) -> None:
    with ScreenFolder(stopped / "out").alone():
        refused(zoo("screen", "--resume", "out", cwd=stopped), "another process", "out")
