"""`zoo screen` on a query of the Materials Project; a module in mp_api's place answers, as the real one would."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli import refused, zoo
from fake_mp_api import SECRET, Server, install
from pyarrow import parquet
from screened import crystal, save

from zoo.discovery import materials_project
from zoo.discovery.candidate_source import Source
from zoo.discovery.candidates import source_of
from zoo.discovery.screen_config import CandidateSource
from zoo.errors import ZooError


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """With `mp_api` installed, so to speak, and a key."""
    monkeypatch.setattr(materials_project, "AT_ONCE", 7)
    return install(monkeypatch)


@pytest.fixture
def query(recipe: dict) -> dict:
    """The recipe, on a query."""
    return {**recipe, "candidates": {"materials_project": {"max_atoms": 4}}}


def rows(folder: Path, *columns: str) -> list[dict]:
    found = (parquet.read_table(part).to_pylist() for part in sorted((folder / "parts").glob("*.parquet")))
    return [{name: row[name] for name in columns} for part in found for row in part]


def source(folder: Path | None = None, **query: Any) -> Source:
    return source_of(CandidateSource.model_validate({"materials_project": query}), folder)


def test_the_query_reaches_the_server(server: Server) -> None:
    given = {"chemsys": ["Ba-Ti-O", "Sr-*-O"], "elements": ["O"], "without": ["Pb"], "max_atoms": 4}
    list(source(**given, max_energy_above_hull=0.05, min_band_gap=0.5, experimental=True).found())
    ids, *batches = server.asked
    assert ids == {
        "material_ids": None, "fields": ["material_id"], "deprecated": False, "chemsys": ["Ba-Ti-O", "Sr-*-O"],
        "elements": ["O"], "exclude_elements": ["Pb"], "num_sites": (1, 4), "energy_above_hull": (0.0, 0.05),
        "band_gap": (0.5, 100.0), "theoretical": False,
    }  # fmt: skip
    assert [len(batch["material_ids"]) for batch in batches] == [7, 7, 7, 7, 7, 5]
    assert all(set(batch) == {"material_ids", "fields"} for batch in batches)


def test_nothing_is_asked_for_that_is_not_said(server: Server) -> None:
    all_of_them = source(max_atoms=None, max_energy_above_hull=None, min_band_gap=None)
    assert not server.asked, "asked before it must be"
    assert all_of_them.total() == 40
    assert server.asked == [{"material_ids": None, "fields": ["material_id"], "deprecated": False}]


def test_candidates_come_by_id_and_the_key_is_in_no_file(
    server: Server, query: dict, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = zoo("screen", str(save(query, tmp_path)), "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = rows(tmp_path / "out", "index", "key", "formula", "properties")
    assert [row["key"] for row in found] == sorted(server.known)
    for row in found:
        number = server.known[row["key"]]
        formula = crystal(number).reduced_formula
        assert row["formula"] == formula
        assert json.loads(row["properties"]) == {
            "band_gap": 1.0 + number / 10, "energy_above_hull": 0.0, "formula": formula, "space_group": 225,
            "theoretical": number % 2 == 0,
        }  # fmt: skip
    assert json.loads((tmp_path / "out" / "materials_project.json").read_text())["database"] == "2026.01.01"
    assert server.keys == [SECRET]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in result.stdout + result.stderr + "".join(capfd.readouterr())


def test_what_was_asked_for_stays_when_the_database_changes(
    server: Server, query: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(server.known)
    server.fails, server.after = RuntimeError("connection reset"), 4  # ids, and three batches
    refused(
        zoo("screen", str(save(query, tmp_path)), "--out", "out", cwd=tmp_path),
        "Materials Project", "connection reset", "--resume",
    )  # fmt: skip
    behind = len(rows(tmp_path / "out", "key"))
    assert behind == 16, "two chunks of eight"
    server.fails = None
    gone = before[30]
    del server.known[gone]
    server.known["mp-1"], server.known["mp-999"] = server.known["mp-1"], 3
    server.asked.clear()
    result = zoo("screen", "--resume", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert all(call["material_ids"] is not None for call in server.asked), "the query was asked again"
    assert server.asked[0]["material_ids"][0] == before[behind - 1], "what is behind was asked for again"
    found = rows(tmp_path / "out", "key", "status", "detail")
    assert [row["key"] for row in found] == before
    failed = [row for row in found if row["status"] == "failed"]
    assert [row["key"] for row in failed] == [gone]
    assert "no such crystal any more" in failed[0]["detail"]


def test_another_screening_asks_anew(server: Server, tmp_path: Path) -> None:
    assert source(tmp_path / "one").total() == 40
    server.known["mp-999"] = 3
    assert [source(tmp_path / name).total() for name in ("one", "two")] == [40, 41]


ANSWERS: dict[str, tuple[Callable[[], Exception], list[str]]] = {
    "refused": (
        lambda: RuntimeError("REST query returned with error status code 403 on URL https://x with message:\nno"),
        ["refuses the key in MP_API_KEY"],
    ),
    "malformed": (
        lambda: ValueError("Please obtain a valid API key from https://materialsproject.org/api\nand export it"),
        ["refuses the key in MP_API_KEY"],
    ),
    "silent": (lambda: ConnectionError("Max retries\nexceeded"), ["does not answer", "Max retries exceeded"]),
    "talkative": (lambda: RuntimeError(f"bad header x-api-key: {SECRET}"), ["does not answer", "x-api-key: ..."]),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_no_answer_is_one_line_without_the_key(case: str, server: Server) -> None:
    make, words = ANSWERS[case]
    server.fails = make()
    with pytest.raises(ZooError) as told:
        source().total()
    assert all(word in str(told.value) for word in words)
    assert "\n" not in str(told.value)
    assert SECRET not in str(told.value)
    assert told.value.__suppress_context__, "a traceback would tell more"


def test_a_missing_key_or_package_is_one_line(
    server: Server, query: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(query, tmp_path)
    monkeypatch.setenv("MP_API_KEY", " ")
    refused(zoo("screen", "mine.yaml", "--out", "out", cwd=tmp_path), "export MP_API_KEY")
    monkeypatch.setitem(sys.modules, "mp_api", None)
    monkeypatch.delitem(sys.modules, "mp_api.client")
    refused(zoo("screen", "mine.yaml", "--out", "out", cwd=tmp_path), 'pip install "crystal-tensor-zoo[mp]"')
    assert not server.asked


BAD = {
    "key in the recipe": ({"api_key": SECRET}, "'candidates.materials_project.api_key'"),
    "element": ({"elements": ["Xx"]}, "'Xx'"),
    "system": ({"chemsys": ["Ba-Tj-O"]}, "'Tj'"),
    "no system": ({"chemsys": []}, "chemsys"),
    "number": ({"max_atoms": 0}, "max_atoms"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_query_that_cannot_be_is_one_line(case: str, query: dict, tmp_path: Path) -> None:
    query["candidates"]["materials_project"], words = BAD[case]
    result = zoo("screen", str(save(query, tmp_path)), "--out", "out", cwd=tmp_path)
    refused(result, words)
    assert SECRET not in result.stderr


def test_one_source_at_a_time(query: dict, tmp_path: Path) -> None:
    query["candidates"]["path"] = "many.json"
    refused(
        zoo("screen", str(save(query, tmp_path)), "--out", "out", cwd=tmp_path),
        "path, dataset and materials_project",
    )


def test_a_source_without_a_folder_keeps_nothing(server: Server) -> None:
    asked = source()
    found = list(asked.found(38))
    assert [one.key for one in found] == sorted(server.known)[38:]
    assert [one.read() for one in found] == [crystal(server.known[one.key]) for one in found]
    del server.known[found[1].key]
    with pytest.raises(ZooError, match="Materials Project"):
        next(asked.found(39)).read()
