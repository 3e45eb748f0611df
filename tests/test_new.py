"""`zoo new` writes packages that pass the zoo's checks as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli import refused, zoo
from stranger import Environment
from test_boundaries import imports

from zoo.cli.new import RUN

LEAST = {"encoder": 40, "readout": 15, "dataset": 4}  # tests that pass, of the suites in the template


@pytest.mark.parametrize("name", ["tests", "true", "none", "class"])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    refused(zoo("new", "encoder", name, cwd=tmp_path), f"'{name}'")


@pytest.mark.parametrize("kind", RUN)
def test_what_is_generated_passes_its_tests_and_trains(kind: str, tmp_path: Path) -> None:
    result = zoo("new", kind, f"rather-{kind}9", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / f"rather-{kind}9"
    for path in (p for p in folder.rglob("*") if p.is_file()):
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("my-plugin", "my_plugin", "MyPlugin", "KIND", 'zoo>=0"')), path
    (module,) = folder.glob("*/__init__.py")
    assert module.parent.name == f"rather_{kind}9"
    assert {name for name in imports(module) if name.startswith("zoo")} == {"zoo.api"}
    commands = result.stdout.split("next: ")[1].splitlines()
    assert all(line.strip() in (folder / "README.md").read_text() for line in commands[1:])

    there = Environment.with_installed(folder, tmp_path / "installed")
    listed = json.loads(there.zoo("list", f"rather-{kind}9", "--json", cwd=tmp_path))
    assert [(entry["kind"], entry["error"]) for entry in listed] == [(kind, None)]
    assert there.passes_its_tests(folder) >= LEAST[kind]
    small = [f"{RUN[kind].split()[-1]}", "training.max_epochs=1", "data.limit=16", "tracking.enabled=false"]
    if kind != "dataset":
        small[0] = f"{kind}={{name: rather-{kind}9}}"
    else:
        small += [f"dataset={{name: rather-{kind}9}}"]
    if kind != "encoder":
        small += ["encoder={name: nequip, cutoff: 3.5, layers: 1, channels: 4}"]
    if kind != "readout":
        small += ["readout={name: dtnet, width: 8, blocks: 1}"]
    assert "MAE_ten" in there.zoo("run", "nequip_dtnet_total", *small, "--out", "run", cwd=tmp_path)


BAD = {
    "My Encoder": ["no name for a package", "my-encoder"],
    "my_encoder": ["no name for a package", "my-encoder"],
    "../up": ["no name for a package"],
    "nequip": ["'nequip' is the name of an installed encoder"],
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
    refused(zoo("new", "encoder", "mine", cwd=tmp_path), "cannot write in mine")
