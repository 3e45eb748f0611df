"""`zoo run` of a joint target, with force constants: from the recipe to the numbers of each part, and resumed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import springs
import torch
import yaml
from cli import refused, zoo
from quick import no_pictures

from zoo.config import recipe
from zoo.data.tensors import JOINT
from zoo.model import checkpoint
from zoo.storage.run_folder import RunFolder, read_history, read_json
from zoo.workflows.train import run

PARTS = ("electronic", "ionic", "total")
CONTENT = {
    "name": "tiny",
    "dataset": {"name": "petousis2017"},
    "target": "dielectric",
    "data": {"limit": 30},
    "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
    "readouts": {
        "electronic": {"name": "dtnet", "width": 8, "blocks": 1},
        "ionic": {"name": "born", "width": 8, "channels": 2},
    },
    "force_constants": {"potential": {"name": "pair-potential"}},
    "training": {"max_epochs": 2, "batch_size": 16, "learning_rate": 0.01},
    "tracking": {"enabled": False},
    "device": "cpu",
}


@pytest.fixture(scope="module", autouse=True)
def _pair_potential():
    with springs.pair_potential():
        yield


def written(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**copy.deepcopy(CONTENT), **changes}))
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = written(tmp_path_factory.mktemp("joint"))
    with no_pictures():
        changes = ("readouts.ionic.width=4", "seeds=[0, 1]", "split.seed=0")
        result = zoo("run", "tiny.yaml", *changes, "--out", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert "force constants at Γ of 30 crystals by pair-potential, cached" in result.stdout
    return folder


def test_the_errors_of_each_part(done: Path) -> None:
    """Those of the total where a single target has them, those of the others under their names."""
    metrics = read_json(done / "run" / "metrics.json")
    assert metrics["target"] == "dielectric" and set(metrics["parts"]) == {"electronic", "ionic"}
    assert read_json(done / "run" / "seed_0" / "split.json")["test"]
    for name, content in {"total": metrics, **metrics["parts"]}.items():
        for key in ("test", "val", "test_mean_baseline", "ensemble_test", "calibration"):
            assert content[key], f"{key} of {name}"
        assert np.isfinite(content["test"]["mae_ten"]["mean"]), name
    errors = [metrics["test"]["mae_ten"]["mean"], *(p["test"]["mae_ten"]["mean"] for p in metrics["parts"].values())]
    assert len(set(errors)) == 3, "each has its own"
    assert len(metrics["val_error"]) == 2


def test_predictions_add_up(done: Path) -> None:
    from zoo.evaluation.predictions import read_predictions

    place = RunFolder(done / "run").seed(0)
    parts = {}
    for target in JOINT.parts:
        parts[target.name] = read_predictions(place.predictions_of(target.name, "total"), "test", target)
    electronic, ionic, total = (parts[name] for name in PARTS)
    assert electronic.keys == ionic.keys == total.keys and len(total.keys) >= 3
    np.testing.assert_allclose(electronic.predicted + ionic.predicted, total.predicted, rtol=1e-4, atol=1e-4)
    assert (np.linalg.eigvalsh(ionic.predicted) > -1e-4).all()
    assert not np.allclose(electronic.true, total.true)


def test_the_loss_is_that_of_all_parts(done: Path) -> None:
    """The validation error that the best epoch is chosen by: the mean over the parts, each with as many labels."""
    result = read_json(RunFolder(done / "run").seed(0).result)
    parts = [result["val"], *(part["val"] for part in result["parts"].values())]
    mean = np.mean([part["all"]["mae_ten"] for part in parts])
    assert result["val_error"] == pytest.approx(mean, rel=1e-4)
    history = read_history(RunFolder(done / "run").seed(0))
    assert min(row["val_mae_ten"] for row in history) == pytest.approx(result["val_error"])


def test_the_model_folder_knows_its_target_and_its_potential(done: Path) -> None:
    from zoo.testing import PairPotential

    card, members = checkpoint.load(done / "run" / "model")
    assert card.target == JOINT and len(members) == 2
    assert set(card.calibrations) == set(PARTS) and card.calibration is card.calibrations["total"]
    assert card.potential_fingerprint == PairPotential(PairPotential.Hypers()).energy_fingerprint()
    assert card.recipe.readout.settings["ionic"]["width"] == 4, "the override"
    assert members[0].readout.readouts["ionic"].trunk[1].out_features == 4
    again = checkpoint.load(done / "run" / "model")[1]
    for one, other in zip(members[0].parameters(), again[0].parameters(), strict=True):
        assert torch.equal(one, other)


class Killed(BaseException):
    """Stands for a kill of the process: a BaseException, which no handler of the trained code catches."""


def test_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    config = recipe.parse(copy.deepcopy(CONTENT) | {"training": {**CONTENT["training"], "max_epochs": 3}}, "tiny")

    def kill(seed: int, row: dict) -> None:
        if row["epoch"] == 2:
            raise Killed

    with no_pictures():
        whole = run(config, RunFolder(tmp_path / "whole"), lambda line: None)
        with pytest.raises(Killed):
            run(config, RunFolder(tmp_path / "resumed"), lambda line: None, kill)
        resumed = run(config, RunFolder(tmp_path / "resumed"), lambda line: None)
    assert resumed == whole
    for name in ("predictions.csv", "predictions_electronic.csv", "predictions_ionic.csv"):
        one, other = (tmp_path / folder / "seed_0" / name for folder in ("whole", "resumed"))
        assert one.read_bytes() == other.read_bytes(), name


def test_crystals_with_one_label_are_used_for_it(tmp_path: Path) -> None:
    """Of a third of the crystals the electronic tensor alone is known, of a third the total alone."""
    from zoo.data.petousis2017 import Petousis2017

    records = [r for _, r in zip(range(36), Petousis2017(Petousis2017.Hypers()).records(), strict=False)]
    kept = (("electronic", "ionic"), ("electronic",), ("total",))
    content = {
        r.key: {"structure": r.structure.as_dict(), **{n: r.targets[n].tolist() for n in kept[i % 3]}}
        for i, r in enumerate(records)
    }
    (tmp_path / "mine.json").write_text(json.dumps(content))
    targets = {name: {"formula": "ij=ji", "quantity": f"{name} dielectric"} for name in PARTS}
    folder = written(
        tmp_path,
        dataset={"name": "file", "path": "mine.json", "targets": targets},
        split={"test": 0.3, "val": 0.3},
        data={"cleaning": None},
    )
    with no_pictures():
        result = zoo("run", "tiny.yaml", "--out", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    found = read_json(RunFolder(folder / "run").seed(0).result)
    sizes = {"total": found["test"]["all"]["n"]} | {k: v["test"]["all"]["n"] for k, v in found["parts"].items()}
    split = read_json(RunFolder(folder / "run").seed(0).split)["test"]
    labels = {key: kept[i % 3] for i, key in enumerate(content)}
    whole = [len(labels[key]) == 2 for key in split]
    assert sizes["electronic"] == sum("electronic" in labels[key] for key in split)
    assert sizes["ionic"] == sum(whole)
    assert sizes["total"] == sum(whole) + sum("total" in labels[key] for key in split)


def test_what_cannot_be_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path)
    out = ("--out", "run")
    potential = "force_constants.potential"
    refused(zoo("run", "tiny.yaml", f"{potential}=null", *out, cwd=folder), "'born' for 'ionic'", "has no energy")
    refused(zoo("run", "tiny.yaml", f"{potential}={{name: painn}}", *out, cwd=folder), "'painn' has no energy")
    refused(zoo("run", "tiny.yaml", f"{potential}={{name: pair-potentail}}", *out, cwd=folder), "'pair-potential'?")
    refused(zoo("run", "tiny.yaml", f"{potential}.dept=2", *out, cwd=folder), "'dept'", "'depth'?")
    refused(zoo("run", "tiny.yaml", "readouts.ionic.name=bron", *out, cwd=folder), "'bron'", "'born'?")
    refused(zoo("run", "tiny.yaml", "readout.name=dtnet", *out, cwd=folder), "leave one of them out")
    assert not (folder / "run").exists(), "all of this is seen before anything is read"
    monkeypatch.setattr("zoo.phonons.force_constants.MAX_ATOMS", 3)
    refused(zoo("run", "tiny.yaml", "data.limit=12", *out, cwd=folder), "atoms in the cell", "up to 3")
