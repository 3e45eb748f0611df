"""`zoo new` writes packages that pass the zoo's checks as they are."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli import refused, zoo
from screened import MODEL, write_json
from stranger import Environment
from test_boundaries import imports

from zoo.cli.new_command import RUN
from zoo.storage.run_folder import read_json

# Tests that pass, of the suites in the template.
LEAST = {"encoder": 40, "readout": 15, "dataset": 4, "objective": 4, "acquisition": 4, "oracle": 4}


@pytest.mark.parametrize("name", ["tests", "true", "none", "class"])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    refused(zoo("new", "encoder", name, cwd=tmp_path), f"'{name}'")


@dataclass(frozen=True)
class Generated:
    """A package of each kind, all installed in one environment: that takes most of the time.

    Attributes:
        place: folder that holds them.
        said: what `zoo new` printed.
        tests: name of each test that pytest ran, the suites of all packages together -> PASSED, ...
        listed: what `zoo list` tells of all plugins.
    """

    place: Path
    said: dict[str, str]
    tests: dict[str, str]
    listed: list[dict[str, Any]]

    def folder(self, kind: str) -> Path:
        return self.place / f"rather-{kind}9"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    place = tmp_path_factory.mktemp("new")
    said = {}
    for kind in RUN:
        result = zoo("new", kind, f"rather-{kind}9", cwd=place)
        assert result.returncode == 0, result.stderr
        said[kind] = result.stdout
    folders = [place / f"rather-{kind}9" for kind in RUN]
    there = Environment.with_installed(folders[0], place / "installed", *folders[1:])
    suites = ["pytest", "-v", *map(str, folders)]
    commands = (["list", "--json"], discovery(place), screening(place))
    tested, listed, *_ = there.each(suites, *(["zoo", *words] for words in commands), cwd=place)
    tests = dict(re.findall(r"^(\S+::\S+) ([A-Z]+)", tested, flags=re.M))
    return Generated(place, said, tests, json.loads(listed))


def discovery(place: Path) -> list[str]:
    """The encoder, the readout and the dataset make the models of a round, for which the oracle calculates."""
    write_json(place / "asked.json", 12)
    parts = ", ".join(f"{kind}: {{name: rather-{kind}9}}" for kind in ("encoder", "readout", "dataset"))
    change = f"model.change={{{parts}, target: total, training.max_epochs: 1}}"
    small = ["model.recipe=nequip_dtnet_total", "model.members=2", "model.last=false", change, "rounds=1", "top=12"]
    small += [
        "candidates={path: asked.json}",
        "filters.min_band_gap=0.01",
        "oracle={name: rather-oracle9}",
        "tracking.enabled=false",
        "device=cpu",
    ]
    return ["discover", "discover_total", *small, "--out", "discover"]


def screening(place: Path) -> list[str]:
    """By the objective and the acquisition."""
    write_json(place / "many.json", 30)
    plugins = [f"{kind}={{name: rather-{kind}9}}" for kind in ("objective", "acquisition")]
    small = [f"model={MODEL}", "candidates={path: many.json}", "best=2.0", "device=cpu"]
    return ["screen", "screen_total", *small, *plugins, "--out", "screen"]


@pytest.mark.extended
@pytest.mark.parametrize("kind", RUN)
def test_what_is_generated_is_found_and_passes_its_tests(kind: str, generated: Generated) -> None:
    folder = generated.folder(kind)
    for path in (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"):
        text = path.read_text(encoding="utf-8")
        words = ("my-plugin", "my_plugin", "MyPlugin", "KIND", "CHECKS", 'zoo>=0"')
        assert not any(word in text for word in words), path
    (module,) = folder.glob("*/__init__.py")
    assert module.parent.name == f"rather_{kind}9"
    assert {name for name in imports(module) if name.startswith("zoo")} == {"zoo.api"}
    commands = generated.said[kind].split("next: ")[1].splitlines()
    assert all(line.strip() in (folder / "README.md").read_text() for line in commands[1:])
    listed = [entry for entry in generated.listed if entry["name"] == folder.name]
    assert [(entry["kind"], entry["error"]) for entry in listed] == [(kind, None)]
    passed = [test for test, came in generated.tests.items() if f"rather_{kind}9" in test and came == "PASSED"]
    assert len(passed) >= LEAST[kind]


@pytest.mark.extended
def test_what_is_generated_trains_and_calculates(generated: Generated) -> None:
    with (generated.place / "discover" / "asked.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["key"] for row in rows if row["status"] == "done"} == {"c-0000", "c-0003", "c-0009"}  # LiF, MgO, NaO
    split = read_json(generated.place / "discover" / "round_1" / "model" / "seed_0" / "split.json")
    assert len(split["train"]) == 12 and "RbF" in split["train"]  # of the sixteen alkali halides


@pytest.mark.extended
def test_what_is_generated_screens(generated: Generated) -> None:
    with (generated.place / "screen" / "top.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert float(row["band_gap"]) >= 2.0
        assert 0 <= float(row["score"]) <= 1


BAD = {
    "My Encoder": ["no name", "my-encoder"],
    "my_encoder": ["no name", "my-encoder"],
    "../up": ["no name"],
    "nequip": ["installed encoder"],
    "torch": ["module 'torch'", "zoo-torch"],
    "class": ["module 'class'"],
    "embedding": ["Embedding", "my-embedding"],
    "taken": ["taken exists already"],
}


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_cannot_be_is_one_clear_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    refused(zoo("new", "encoder", name, cwd=tmp_path), *BAD[name])
    assert [path.name for path in tmp_path.iterdir()] == ["taken"], "something was written"


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    refused(zoo("new", "decoder", "mine", cwd=tmp_path), "decoder", "encoder")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*arguments: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    refused(zoo("new", "encoder", "mine", cwd=tmp_path), "mine")
