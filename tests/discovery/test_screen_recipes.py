"""Recipes of `zoo screen`: the one that ships, and those that are refused, each in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ase.io
import pyarrow as pa
import pytest
from cli import refused, zoo
from pyarrow import parquet
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter
from screened import MODEL, chosen, crystal, save
from test_screen import parts

import zoo as package
from zoo.config import recipe as recipes
from zoo.discovery import screen_config

pytestmark = pytest.mark.extended


def test_the_shipped_recipe_is_listed_commented_and_runs(tmp_path: Path) -> None:
    from test_recipe import assert_commented

    path = recipes.shipped()["screen_total"]
    assert_commented(path)
    config = screen_config.read("screen_total")
    said = recipes.read_content("screen_total")[0]
    # Every key is there, with the default that the code has.
    assert said.keys() == screen_config.Screen.model_fields.keys()
    assert (
        said["filters"].keys() == screen_config.Filters.model_fields.keys()
        and config.filters == screen_config.Filters()
    )
    assert "screen_total" in zoo("recipes", cwd=tmp_path).stdout
    result = zoo("screen", "screen_total", f"model={MODEL}", "top=3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "runs").glob("screen_total-*")
    assert "gap, eV" in result.stdout
    assert all(float(row["band_gap"]) >= 2 for row in chosen(folder)), "insulators alone"
    assert len(chosen(folder)) == 3
    seen = set(package.load(MODEL, device="cpu").card.seen)
    assert json.loads((folder / "summary.json").read_text())["filtered"]["seen by the model"] == len(seen)


def test_without_known_gaps_the_constant_alone_ranks(recipe: dict, tmp_path: Path) -> None:
    """A recipe that says nothing of its objective, on structures that come without properties."""
    del recipe["objective"], recipe["filters"]
    (tmp_path / "mine").mkdir()
    for number in range(5):
        crystal(number).to(str(tmp_path / "mine" / f"{number}.json"))
    path = str(save(recipe | {"candidates": {"path": "mine"}, "top": 5}, tmp_path))
    of_merit = zoo("screen", path, "--out", "a", cwd=tmp_path)
    of_constant = zoo("screen", path, "objective.name=polycrystalline", "--out", "b", cwd=tmp_path)
    assert of_merit.returncode == of_constant.returncode == 0
    assert "of 5 of these it is unknown: 2 eV" in of_merit.stdout and "unknown" not in of_constant.stdout
    merit, plain = chosen(tmp_path / "a"), chosen(tmp_path / "b")
    assert [row["key"] for row in merit] == [row["key"] for row in plain]
    assert float(merit[0]["mean"]) == pytest.approx(2 * float(plain[0]["mean"]), rel=1e-4)


def test_a_folder_of_files_of_many(recipe: dict, tmp_path: Path) -> None:
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    frames = [AseAtomsAdaptor.get_atoms(crystal(number)) for number in range(3)]
    ase.io.write(tmp_path / "mine" / "a.traj", frames)
    (tmp_path / "mine" / "b.cif").write_text("".join(str(CifWriter(crystal(number))) for number in (3, 4)))
    ase.io.write(tmp_path / "mine" / "deep" / "c.xsf", AseAtomsAdaptor.get_atoms(crystal(5)))
    (tmp_path / "mine" / "deep" / "d.json").write_text('{"about": "something else"}')
    (tmp_path / "mine" / "z.cif").write_text("data_x\n")
    path = str(save(recipe | {"candidates": {"path": "mine"}}, tmp_path))
    result = zoo("screen", path, "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    keys = {row["key"]: row["status"] for row in parts(tmp_path / "out")}
    read = ["a.traj#1", "a.traj#2", "a.traj#3", "b.cif#1", "b.cif#2", "deep/c"]
    assert keys == dict.fromkeys(read, "predicted") | {"z": "failed"}


def test_each_recipe_goes_to_its_command(recipe: dict, tmp_path: Path) -> None:
    refused(zoo("run", "screen_total", cwd=tmp_path), "zoo screen", "screen_total")
    refused(zoo("data", "check", "screen_total", cwd=tmp_path), "zoo screen")
    refused(zoo("screen", "dtnet_total", cwd=tmp_path), "zoo run dtnet_total")
    refused(zoo("screen", "ablation_layers", cwd=tmp_path), "zoo run ablation_layers")


BAD: dict[str, tuple[list[str], list[str]]] = {
    "no recipe": ([], ["zoo screen screen_total"]),
    "no such recipe": (["screen_totl"], ["Did you mean 'screen_total'?"]),
    "a misspelt key": (["mine.yaml", "filters.max_atom=3"], ["'filters.max_atom'", "'max_atoms'"]),
    "a misspelt section": (["mine.yaml", "aquisition.name=ucb"], ["'aquisition'", "'acquisition'"]),
    "a bad value": (["mine.yaml", "top=0"], ["top", "0"]),
    "no element": (["mine.yaml", "filters.without=[Xx]"], ["'Xx'"]),
    "an unknown objective": (["mine.yaml", "objective.name=polycrystaline"], ["'polycrystalline'"]),
    "an unknown acquisition": (["mine.yaml", "acquisition.name=greed"], ["'greedy'"]),
    "a key of another": (["mine.yaml", "acquisition.name=greedy", "acquisition.kappa=1"], ["'kappa'"]),
    "two sources": (
        ["mine.yaml", "candidates.dataset={name: petousis2017}"],
        ["path, dataset and materials_project"],
    ),
    "no source": (["mine.yaml", "candidates={}"], ["path, dataset and materials_project"]),
    "an unknown dataset": (["mine.yaml", "candidates={dataset: {name: petousis}}"], ["'petousis2017'"]),
    "no such file": (["mine.yaml", "candidates.path=none.json"], ["none.json"]),
    "a best that is none": (["mine.yaml", "best=.nan"], ["best", "finite"]),
    "a long name": (["mine.yaml", f"candidates.path={'c' * 300}"], ["candidates.path: ccc"]),
    "a recipe of a long name": (["r" * 300], ["'rrr"]),
    "no number": (
        ["mine.yaml", "acquisition={name: ucb, kappa: .nan}"],
        ["acquisition 'ucb'", "kappa", "finite"],
    ),
    "another format": (["mine.yaml", "candidates.path=notes.txt"], ["notes.txt", "is empty"]),
    "an empty folder": (["mine.yaml", "candidates.path=empty"], ["empty", "no file of crystals"]),
    "broken JSON": (["mine.yaml", "candidates.path=broken.json"], ["broken.json", "JSON"]),
    "broken Parquet": (["mine.yaml", "candidates.path=broken.parquet"], ["broken.parquet"]),
    "no key": (["mine.yaml", "candidates.path=keys.parquet"], ["'key'", "'keys'"]),
    "no structure": (["mine.yaml", "candidates.path=bare.parquet"], ["'structure'", "'cif'"]),
    "no such model": (["mine.yaml", "model=runs/none"], ["runs/none"]),
    "nothing left": (["mine.yaml", "filters.max_atoms=1"], ["of 40 candidates", "max_atoms 40"]),
    "not a text": (["odd.yaml"], ["odd.yaml", "text"]),
    "out and resume": (["--resume", "x", "--out", "y"], ["--out"]),
    "no such screening": (["--resume", "empty"], ["empty", "screen.yaml"]),
    "not empty": (["mine.yaml", "--out", "full"], ["zoo screen --resume full"]),
    "one member": (["mine.yaml", "model=single"], ["'ucb'", "seeds=", "acquisition.name=greedy"]),
    "of atoms": (["mine.yaml", "model=atoms"], ["one tensor an atom"]),
    "of another rank": (["mine.yaml", "model=piezo"], ["'polycrystalline'", "ijk=ikj"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str, recipe: dict, tmp_path: Path) -> None:
    save(recipe, tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.parquet").write_text("PAR1")
    (tmp_path / "odd.yaml").write_text("candidates: {path: many.json}\n1: 2\n")
    parquet.write_table(pa.table({"keys": ["a"], "cif": [""]}), tmp_path / "keys.parquet")
    parquet.write_table(pa.table({"key": ["a"]}), tmp_path / "bare.parquet")
    for model, change in {
        "single": {"members": 1},
        "atoms": {"target": {"per_atom": True}},
        "piezo": {"target": {"formula": "ijk=ikj", "quantity": ""}},
    }.items():
        if f"model={model}" in BAD[name][0]:
            stand_in(tmp_path / model, change)
    arguments, words = BAD[name]
    refused(zoo("screen", *arguments, cwd=tmp_path), *words)


def stand_in(folder: Path, change: dict) -> None:
    """A model like MODEL, of one member or of another target."""
    from zoo.model import checkpoint, tensor_model

    card = json.loads((MODEL / "model.json").read_text())
    card["calibration"] = None
    card["members"] = card["members"][: change.get("members", 1)]
    card["target"] |= change.get("target", {})
    if "target" in change:
        card["recipe"]["readout"] = {"name": "matten"}
        card["recipe"]["encoder"]["cutoff"] = 3.0
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(card))
    read = checkpoint.read_card(folder)
    config = tensor_model.build(read.recipe.encoder, read.recipe.readout, read.target)
    checkpoint.save(folder, read, [config.learned().state_dict()])
    for name in ("reference.safetensors", "reference.json"):
        shutil.copy(MODEL / name, folder)
