"""docs/guides: what they show is run, training on a small model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli import zoo
from test_readme import blocks, commands

from zoo.data.elastic2015 import Elastic2015
from zoo.data.petousis2017 import Petousis2017
from zoo.run_folder import RunFolder, read_json

GUIDE = (Path(__file__).parents[1] / "docs" / "guides" / "your_own_tensors.md").read_text(encoding="utf-8")
QUICK = [
    "training.max_epochs=1",
    "data.limit=60",
    "encoder={name: nequip, cutoff: 3.0, layers: 1, channels: 8}",
    "device=cpu",
]
RECIPES = [yaml.safe_load(block) for block in blocks(GUIDE) if block.startswith(("name: mine", "dataset:"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guide")


def expanded(word: str, folder: Path) -> list[str]:
    """As a shell does."""
    if "*" not in word:
        return [word]
    return sorted(str(path.relative_to(folder)) for path in folder.glob(word))


def test_the_guide_from_beginning_to_end(folder: Path) -> None:
    (folder / "mine.yaml").write_text(yaml.safe_dump(RECIPES[0]))
    for words in commands(GUIDE):
        arguments = [name for word in words[1:] for name in expanded(word, folder)]
        if arguments[0] == "run":
            arguments += QUICK
        if arguments[0] == "predict":
            arguments = arguments[:5]
        result = zoo(*arguments, cwd=folder)
        assert result.returncode == 0, f"zoo {' '.join(arguments)}: {result.stderr}"
    content = read_json(RunFolder(folder / "runs" / "mine").metrics)
    assert content["target"] == "total" and content["test"]["mae_anisotropy"]["mean"] is not None


def test_the_header_of_the_guide_is_that_of_an_export(folder: Path) -> None:
    shown = next(block for block in blocks(GUIDE) if block.startswith("key,cif")).splitlines()
    with (folder / "my_data" / "tensors.csv").open() as file:
        header = file.readline().strip().split(",")
    assert set(shown[0].split(",")) <= set(header)
    assert len(shown[0].split(",")) == len(shown[1].split(","))


def test_the_other_sections_are_recipes(folder: Path) -> None:
    """Elasticity and one tensor an atom, with the files that the guide speaks of."""
    stiffness = {
        record.key: {"structure": record.structure.as_dict(), "stiffness": record.targets["elasticity"].tolist()}
        for record in sorted(Elastic2015(Elastic2015.Hypers()).records(), key=lambda r: r.key)[:40]
    }
    (folder / "my_data" / "stiffness.json").write_text(json.dumps(stiffness))
    rng = np.random.default_rng(0)
    born = {
        record.key: {
            "structure": record.structure.as_dict(),
            "born": [None, *rng.normal(size=(len(record.structure) - 1, 3, 3)).tolist()],
        }
        for record in sorted(Petousis2017(Petousis2017.Hypers()).records(), key=lambda r: r.key)[:40]
        if len(record.structure) > 1
    }
    (folder / "my_data" / "born.json").write_text(json.dumps(born))
    assert len(RECIPES) == 3
    for number, section in enumerate(RECIPES[1:]):
        recipe = RECIPES[0] | section
        (folder / "other.yaml").write_text(yaml.safe_dump(recipe))
        result = zoo("run", "other.yaml", "--out", f"runs/{number}", *QUICK, cwd=folder)
        assert result.returncode == 0, result.stderr
        assert (folder / f"runs/{number}/metrics.json").is_file()
