"""Bad input from outside ends in one line and exit code 2, in every command that reads it."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from ase.build import bulk
from ase.io import write
from cli import refused, zoo
from pymatgen.io.ase import AseAtomsAdaptor

from zoo.config import recipe
from zoo.config.yaml_text import MOST_LEVELS, parse_yaml
from zoo.data import reading
from zoo.errors import ZooError
from zoo.graphs import store
from zoo.inference.prediction import Prediction
from zoo.inference.predictor import Predictor
from zoo.model import tensor_model
from zoo.storage import cache, checksums
from zoo.storage.user_path import user_path
from zoo.training.trainer import read_checkpoint
from zoo_sevennet import checkpoint as sevennet
from zoo_tensornet import checkpoint as tensornet

MODEL = Path(__file__).parent / "checkpoints" / "format_3"


@pytest.mark.parametrize("depth", [MOST_LEVELS + 1, 300, 3_000, 100_000])
class TestNesting:
    def test_in_a_recipe(self, small: dict, depth: int, tmp_path: Path) -> None:
        nested = "[" * depth + "]" * depth
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(small) + f"description: {nested}\n")
        refused(zoo("run", "mine.yaml", cwd=tmp_path), "mine.yaml", "nested")

    def test_in_an_override(self, small: dict, depth: int, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(small))
        for override in ("seeds=", "readout.more=", "sweep.grid.seeds="):
            result = zoo("run", "mine.yaml", override + "[" * depth + "]" * depth, cwd=tmp_path)
            refused(result, override.removeprefix("sweep."), "nested")
            assert len(result.stderr) < 400

    def test_in_a_model_folder(self, depth: int, tmp_path: Path) -> None:
        def change(card: dict) -> None:
            card["recipe"]["seeds"] = "HERE"

        folder = model(tmp_path, change)
        text = (folder / "model.json").read_text()
        (folder / "model.json").write_text(text.replace('"HERE"', "[" * depth + "]" * depth))
        with pytest.raises(ZooError, match=r"model.json") as caught:
            Predictor.load(folder)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text", ["2020-13-45", "!!bool maybe", "!!timestamp no", "9" * 5_000, "[[", "{[]: 1}", "&a [*a]"]
)
def test_yaml_that_is_none(text: str) -> None:
    with pytest.raises(ZooError, match=r"YAML|nested"):
        parse_yaml(text)


def test_anchors_that_repeat_without_end() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ZooError, match="100,000"):
        parse_yaml("\n".join(lines))
    assert parse_yaml("{a: &a [1, 2], b: *a}") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    "values", [{"description": ["x" * 10_000] * 10_000}, {"x" * 10_000: 1}, {"seeds": "1" * 10_000}]
)
def test_of_a_long_value_the_beginning_is_told(values: dict, small: dict) -> None:
    with pytest.raises(ZooError) as caught:
        recipe.parse(small | values, "mine.yaml")
    assert len(str(caught.value)) < 600


def model(folder: Path, change) -> Path:
    """A model folder whose model.json was changed."""
    shutil.copytree(MODEL, folder / "model")
    path = folder / "model" / "model.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))
    return folder / "model"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"members": []}, "members"),
        ({"format_version": -1}, "format version"),
        ({"format_version": True}, "format version"),
        ({"format_version": 99, "versions": []}, "99"),
        ({"target": {"name": "total", "quantity": ["dielectric"]}}, r"target\.quantity"),
        ({"target": {"name": "total", "parts": [{"name": 1}]}}, r"target\.parts\.0\.name"),
        ({"calibration": {"n": 1, "scales": {"tensor": {"floor": "1.5", "quantiles": {}}}}}, r"tensor\.floor"),
        ({"calibrations": {"x": {"n": 1, "scales": {"tensor": {"floor": 1, "quantiles": {"0.9": ""}}}}}}, r"0\.9"),
        ({"versions": None}, "versions"),
        ({"seen": [["mp-1"]]}, r"seen\.0"),
        ({"metrics": "x"}, "metrics"),
        ({"metrics": {"n_train": "many"}}, "n_train"),
        ({"metrics": {"test": {"mae_ten": 1.5}}}, "mae_ten"),
        ({"metrics": {"test": {"mae_ten": {"mean": 10**400}}}}, "mean"),
        ({"metrics": {"calibration": {"test": {"tensor": {"levels": {"0.9": 1}}}}}}, r"levels\.0\.9"),
    ],
)
def test_a_card_that_cannot_be(values: dict, word: str, tmp_path: Path) -> None:
    folder = model(tmp_path, lambda card: card.update(values))
    with pytest.raises(ZooError, match=word):
        Predictor.load(folder)


def test_the_list_of_models_names_a_damaged_one_among_the_others(tmp_path: Path) -> None:
    model(tmp_path / "runs" / "mine", lambda card: card["metrics"].update(test=[]))
    model(tmp_path / "runs" / "other", lambda card: None)
    result = zoo("models", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    parts = {one["model"]: one["parts"] for one in json.loads(result.stdout)}
    assert "metrics.test" in parts["runs/mine"]
    assert parts["runs/other"] == "nequip + dtnet"


@pytest.mark.parametrize("below", ["nan", "inf"])
def test_a_largest_eigenvalue_that_is_none(below: str, tmp_path: Path) -> None:
    refused(zoo("evaluate", str(MODEL), "petousis2017", "--below", below, cwd=tmp_path), "--below", below)


@pytest.mark.parametrize("width", [1e9, 10**9])
def test_a_width_beyond_all_memory(width: float, tmp_path: Path) -> None:
    folder = model(tmp_path, lambda card: card["recipe"]["readout"].update(width=width))
    with pytest.raises(ZooError, match=r"width: .*4096"):
        Predictor.load(folder)


def test_a_model_that_does_not_fit_into_memory(small: dict) -> None:
    config = recipe.parse(small, "mine.yaml")
    target = Predictor.load(MODEL).card.target
    with (
        mock.patch("zoo_dtnet.DTNet.__init__", side_effect=RuntimeError("can't allocate memory: 1 byte")),
        pytest.raises(ZooError, match=r"dtnet .*memory"),
    ):
        tensor_model.build(config.encoder, config.readout, target)


def test_a_home_folder_of_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = bulk("NaCl", "rocksalt", a=5.64)
    bad, answer = Predictor.load(MODEL).predict_each(["~nouser/x.cif", good])
    assert isinstance(bad, ZooError) and "~nouser/x.cif" in str(bad)
    assert isinstance(answer, Prediction)
    refused(zoo("predict", str(MODEL), "~nouser/x.cif", cwd=tmp_path), "~nouser/x.cif")
    monkeypatch.setenv("ZOO_CACHE", "~nouser/cache")
    with pytest.raises(ZooError, match="ZOO_CACHE: ~nouser/cache"):
        cache.cache_root()
    assert user_path("~/x") == Path.home() / "x"


@pytest.mark.parametrize(
    "where", [(reading, "_write", 1), (store, "_write", 1), (checksums, "seal", 1), (checksums, "seal", 3)]
)
def test_a_cache_that_is_deleted_meanwhile(
    where: tuple, small: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, turn = where
    place = tmp_path / "cache"
    monkeypatch.setenv("ZOO_CACHE", str(place))
    original, calls = getattr(module, name), []

    def deleting(*arguments, **options):
        calls.append(1)
        if len(calls) == turn:
            shutil.rmtree(place)
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, deleting)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(small))
    refused(zoo("run", "mine.yaml", "--out", "out", cwd=tmp_path), "deleted", str(place))


def test_a_mapped_file_that_is_deleted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHECKED_AT_ONCE", 0)
    with cache.building(tmp_path / "entry") as partial:
        assert partial is not None
        file = cache.ArrayWriter(partial / "rows.npy", "<f8")
        file.append(torch.zeros(10).numpy())
        file.close()
    rows = cache.open_array(tmp_path / "entry" / "rows.npy")
    shutil.rmtree(tmp_path / "entry")
    with pytest.raises(ZooError, match=r"rows.npy was deleted"):
        rows[0]


class Harmful:
    """An object that a safe reader does not make."""


@pytest.mark.parametrize("kind", ["pickle", "torchscript"])
@pytest.mark.parametrize("read", [read_checkpoint, sevennet.read, tensornet._state])
def test_nobody_is_told_to_read_without_safety(read, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    if kind == "pickle":
        torch.save({"model": Harmful()}, path)
    else:
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    with pytest.raises(ZooError, match=r"last.pt") as caught:
        read(path)
    assert "weights_only" not in str(caught.value)


def test_a_damaged_best_checkpoint_of_a_finished_seed(small: dict, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(small | {"training": {"max_epochs": 1, "batch_size": 16}}))
    assert zoo("run", "mine.yaml", "--out", "out", cwd=tmp_path).returncode == 0
    for name in ("metrics.json", "model"):  # as if the run had been killed before its end
        place = tmp_path / "out" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    best = tmp_path / "out" / "seed_0" / "best.pt"
    best.write_bytes(pickle.dumps({"not": Harmful()}))
    result = zoo("run", "--resume", "out", cwd=tmp_path)
    refused(result, "best.pt")
    assert "weights_only" not in result.stderr


TOGETHER = {
    "a run that is resumed by another recipe": (("run", "dtnet_total", "--resume", "run"), "--resume"),
    "a run that is resumed with a change": (("run", "--resume", "run", "--out", "other"), "--resume"),
    "a pretraining that is resumed with a change": (("pretrain", "--resume", "run", "--out", "other"), "--resume"),
    "a refit that is resumed with other members": (("refit", "--resume", "run", "--members", "2"), "--resume"),
    "a search that is resumed elsewhere": (("discover", "--resume", "run", "--out", "other"), "--out"),
    "no tolerance": (("data", "check", "petousis2017", "--tolerance", "0"), "--tolerance"),
    "no symmetry": (("data", "check", "petousis2017", "--symprec", "0"), "--symprec"),
    "a file in no folder": (("data", "mptrj", "empty.json", "--out", "nowhere/x.extxyz"), "nowhere"),
    "two crystals of one spectrum": (("spectrum", "run", "two.extxyz"), "two.extxyz"),
    "a checked file without a tensor that can be read": (("data", "check", "unread.json"), "mine"),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_what_does_not_go_together_leaves_nothing_behind(what: str, tmp_path: Path) -> None:
    arguments, word = TOGETHER[what]
    (tmp_path / "empty.json").write_text("{}")
    copper = bulk("Cu")
    write(tmp_path / "two.extxyz", [copper, copper])
    structure = AseAtomsAdaptor.get_structure(copper).as_dict()
    (tmp_path / "unread.json").write_text(json.dumps({"mine": {"structure": structure, "total": [1, 2, 3]}}))
    before = sorted(tmp_path.iterdir())
    refused(zoo(*arguments, cwd=tmp_path), word)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", [("run", "dtnet_total"), ("pretrain", "pretrain_teanet")])
def test_processes_are_started_once(command: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torchrun each process would start others."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(zoo(*command, "--processes", "2", cwd=tmp_path), "--processes")
    assert not list(tmp_path.iterdir())
