"""Everything that was saved before the core was laid out anew still loads, answers, is served and goes on."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from cli import zoo
from mlflow import MlflowClient
from scoring import free_port, running

import zoo as package
from zoo.config import recipe
from zoo.errors import ZooError
from zoo.storage.run_folder import RunFolder, read_history, read_json
from zoo.tracking.promote import contest

ARCHIVE = Path(__file__).parent / "saved" / "saved.tar.gz"
MADE_IN = "/tmp/wt/fx"  # as the database has it; text files have @SAVED@
TEXTS = {".json", ".yaml", ".csv", ".md", ""}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A fresh copy of it all, with the paths of this test."""
    folder = tmp_path / "saved"
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in TEXTS and "@SAVED@" in (text := path.read_text(encoding="utf-8")):
            path.write_text(text.replace("@SAVED@", str(folder)), encoding="utf-8")
    (folder / "mlflow.db").write_bytes(gzip.decompress((folder / "mlflow.db.gz").read_bytes()))
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                if "CHAR" in kind or "TEXT" in kind:
                    database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (MADE_IN, str(folder)))
    return folder


def expected(folder: Path) -> list[dict[str, Any]]:
    """What `zoo predict run NaCl.cif low.cif` answered then."""
    answers: list[dict[str, Any]] = json.loads((folder / "expected.json").read_text())
    return answers


def assert_answers(found: list[dict[str, Any]], folder: Path) -> None:
    for answer, then in zip(found, expected(folder), strict=True):
        # What is a hundred-thousandth of the largest component is written as zero since format 5.
        least = 1e-5 * np.abs(then["tensor"]).max()
        np.testing.assert_allclose(answer["tensor"], then["tensor"], rtol=1e-4, atol=least)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_answers(saved: Path) -> None:
    with contextlib.chdir(saved):
        found = package.load("run", "cpu").predict(["NaCl.cif", "low.cif"], neighbours=2)
    assert_answers([one.as_dict() for one in found], saved)
    then = expected(saved)[0]
    assert [one["key"] for one in found[0].as_dict()["nearest"]] == [one["key"] for one in then["nearest"]]


def test_a_registered_model_answers(saved: Path) -> None:
    with contextlib.chdir(saved):
        done = zoo("predict", "small-total", "NaCl.cif", "low.cif", "--format", "json", cwd=saved)
    assert done.returncode == 0, done.stderr
    assert_answers(json.loads(done.stdout), saved)


@pytest.mark.extended
def test_the_logged_code_of_a_registered_model_is_served(saved: Path) -> None:
    """Plain `mlflow models serve` runs the code of then, whose imports are of the old layout."""
    port = free_port()
    argv = ["mlflow", "models", "serve", "-m", "models:/small-total@champion", "--env-manager", "local"]
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{saved}/mlflow.db"}
    inputs = [{"cif": (saved / name).read_text()} for name in ("NaCl.cif", "low.cif")]
    with running([*argv, "-p", str(port)], port, saved, env) as server:
        assert_answers(server.answers(inputs), saved)


def test_a_killed_run_goes_on(saved: Path) -> None:
    folder = RunFolder(saved / "run_killed")
    before = read_history(folder.seed(1))
    # The seed that was under way ends after a few epochs more, not after all of its sixty.
    text = folder.recipe.read_text(encoding="utf-8")
    assert "max_epochs: 60\n" in text
    folder.recipe.write_text(text.replace("max_epochs: 60\n", "max_epochs: 10\n"), encoding="utf-8")
    done = zoo("run", "--resume", "run_killed", cwd=saved)
    assert done.returncode == 0, done.stderr
    history = read_history(folder.seed(1))
    assert len(history) == 10 and history[:4] == before[:4]
    assert read_json(folder.result)["seeds"] == [0, 1]


@pytest.mark.extended
def test_sweeps_go_on(saved: Path) -> None:
    done = zoo("run", "--resume", "sweep_killed", cwd=saved)
    assert done.returncode == 0, done.stderr
    for name in ("sweep", "sweep_killed"):
        cells = [row for row in rows(saved / name / "table.csv") if row["crystal_system"] == "all"]
        assert [row["readout.width"] for row in cells] == ["4", "8"]
    done = zoo("run", "--resume", "optuna", cwd=saved)
    assert done.returncode == 0, done.stderr
    assert len([row for row in rows(saved / "optuna" / "table.csv") if row["crystal_system"] == "all"]) == 3


@pytest.mark.extended
def test_a_killed_screening_goes_on_to_the_same_end(saved: Path) -> None:
    done = zoo("screen", "--resume", "screen_killed", cwd=saved)
    assert done.returncode == 0, done.stderr
    found, whole = rows(saved / "screen_killed" / "top.csv"), rows(saved / "screen" / "top.csv")
    assert [row["key"] for row in found] == [row["key"] for row in whole]
    np.testing.assert_allclose([float(r["score"]) for r in found], [float(r["score"]) for r in whole], rtol=1e-4)


@pytest.mark.extended
def test_a_killed_discovery_goes_on(saved: Path) -> None:
    done = zoo("discover", "--resume", "discover_killed", cwd=saved)
    assert done.returncode == 0, done.stderr
    found, whole = rows(saved / "discover_killed" / "asked.csv"), rows(saved / "discover" / "asked.csv")
    assert [row["key"] for row in found] == [row["key"] for row in whole]


def test_embedding_files_are_what_they_were(saved: Path) -> None:
    again = zoo("embed", "run", "NaCl.cif", "low.cif", "--out", "again.npz", cwd=saved)
    assert again.returncode == 0, again.stderr
    then, now = np.load(saved / "features.npz"), np.load(saved / "again.npz")
    assert set(then.files) == set(now.files)
    for name in then.files:
        if then[name].dtype.kind == "f":
            np.testing.assert_allclose(now[name], then[name], rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(now[name], then[name])
    assert pyarrow.parquet.read_table(saved / "features.parquet").num_rows > 0


@pytest.mark.extended
def test_runs_of_then_can_be_sent(saved: Path) -> None:
    for name in ("run", "sweep", "discover"):
        done = zoo("track", name, "--uri", f"sqlite:///{saved}/other.db", cwd=saved)
        assert done.returncode == 0, done.stderr
    assert MlflowClient(f"sqlite:///{saved}/other.db").get_registered_model("small-total")


@pytest.mark.extended
def test_a_champion_of_then_meets_a_challenger_of_now(saved: Path) -> None:
    """The metrics of their runs have other names: what is compared is their predictions."""
    (saved / "run" / "mlflow.json").unlink()
    (saved / "run" / "checksums.json").unlink(missing_ok=True)
    sent = zoo("track", "run", "--uri", f"sqlite:///{saved}/mlflow.db", cwd=saved)
    assert sent.returncode == 0 and "(challenger)" in sent.stdout, sent.stderr
    found = contest("small-total", None, f"sqlite:///{saved}/mlflow.db")
    assert found is not None and found.challenger != found.champion
    assert found.validation.mean == pytest.approx(0, abs=1e-6)
    client = MlflowClient(f"sqlite:///{saved}/mlflow.db")
    old, new = (
        client.get_run(client.get_model_version("small-total", version).run_id).data.metrics
        for version in (found.champion, found.challenger)
    )
    assert old["test_mae_ten_mean"] == new["test_mae_ten"] and "test_mae_ten_mean" not in new


@pytest.mark.parametrize("backend", ["compiled", "cuequivariance", "segments"])
def test_a_recipe_with_a_backend_that_was_cut(small: dict, backend: str) -> None:
    assert recipe.parse(small | {"convolution": {"backend": backend}}, "old").convolution.backend == "auto"


def test_a_cut_backend_is_told_of_in_one_line(small: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe.parse(small | {"graph": {"backend": "vesin"}}, "old").graph.backend == "auto"
    (line,) = capsys.readouterr().err.splitlines()
    assert "graph.backend" in line and "vesin" in line and "auto" in line
    with pytest.raises(ZooError, match=r"'images'\?"):
        recipe.parse(small | {"graph": {"backend": "imagse"}}, "old")


def test_old_names_warn() -> None:
    with pytest.warns(DeprecationWarning, match=r"zoo\.convolution\.paths\.TensorProductPath"):
        from zoo.api import Path as OldPath
    with pytest.warns(DeprecationWarning, match=r"zoo\.inference\.predictor"):
        import importlib
        import sys

        sys.modules.pop("zoo.predictor", None)
        old = importlib.import_module("zoo.predictor")
    from zoo.api import TensorProductPath
    from zoo.inference.predictor import Predictor

    assert OldPath is TensorProductPath and old.Predictor is Predictor
