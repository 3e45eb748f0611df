"""Datasets made of datasets: some crystals of one, several as one; a split that is kept when crystals come."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli import refused, zoo
from pymatgen.core import Lattice, Structure

from zoo.config import plugins
from zoo.config.dataset_settings import Splitting
from zoo.contract.plugin import Dataset
from zoo.data.splits import split
from zoo.errors import ZooError

ROCK_SALT = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def made(name: str, **settings: object) -> Dataset:
    return plugins.load("dataset", name)(plugins.hypers("dataset", name, settings))


def write(path: Path, keys: str) -> dict[str, str]:
    """A file dataset with a record for each letter."""
    content = {key: {"structure": ROCK_SALT.as_dict(), "total": np.diag([3.0, 3, ord(key)]).tolist()} for key in keys}
    path.write_text(json.dumps(content))
    return {"name": "file", "path": str(path)}


def test_some_crystals_of_a_dataset_by_key(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("c\n\na\n")
    subset = made("subset", dataset=write(tmp_path / "all.json", "abcd"), path=str(tmp_path / "keys.txt"))
    assert [record.key for record in subset.records()] == ["a", "c"]
    assert list(subset.targets()) == ["total"]
    before = subset.fingerprint()
    (tmp_path / "keys.txt").write_text("a\nc\n")
    assert subset.fingerprint() == before, "their order does not matter"
    (tmp_path / "keys.txt").write_text("a\n")
    assert subset.fingerprint() != before
    (tmp_path / "keys.txt").write_text("a\nx\ny\n")
    with pytest.raises(ZooError, match="'file' has no 'x', nor 1 more"):
        list(subset.records())
    (tmp_path / "keys.txt").unlink()
    with pytest.raises(ZooError, match=r"keys.txt"):
        subset.fingerprint()


def test_keys_that_a_line_does_not_hold_are_in_a_json_file(tmp_path: Path) -> None:
    keys = [" a", "b\n", "c\u2028d"]
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    content = {key: {"structure": ROCK_SALT.as_dict(), "total": np.eye(3).tolist()} for key in [*keys, "a", "b"]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    file = {"name": "file", "path": str(tmp_path / "all.json")}
    subset = made("subset", dataset=file, path=str(tmp_path / "keys.json"))
    assert sorted(record.key for record in subset.records()) == sorted(keys)
    for text, words in (('{"a": 1}', "must be a list of keys"), ("[1]", "must be a list of keys"), ("[", "be read")):
        (tmp_path / "keys.json").write_text(text)
        with pytest.raises(ZooError, match=words):
            subset.fingerprint()


def test_several_datasets_as_one(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.json", "ab"), write(tmp_path / "2.json", "cd")
    joined = made("joined", datasets=[first, second])
    assert [record.key for record in joined.records()] == ["a", "b", "c", "d"]
    before = joined.fingerprint()
    write(tmp_path / "2.json", "cde")
    assert joined.fingerprint() != before
    with_mp = made("joined", datasets=[{"name": "petousis2017"}, first | {"targets": {"other": {}}}])
    assert set(with_mp.targets()) == {"electronic", "ionic", "total", "other"}
    assert "CC0" in with_mp.licence
    with pytest.raises(ZooError, match="'total' of 'file'"):
        made("joined", datasets=[first, second | {"targets": {"total": {"unit": "GPa"}}}])
    with pytest.raises(ZooError, match="no dataset 'fil'"):
        made("joined", datasets=[{"name": "fil"}])
    with pytest.raises(ZooError, match="unknown key"):
        made("joined", datasets=[first | {"pth": "x"}])


def test_a_key_in_both_is_told(tmp_path: Path) -> None:
    write(tmp_path / "1.json", "ab")
    (tmp_path / "2.json").write_text((tmp_path / "1.json").read_text())
    both = "dataset={name: joined, datasets: [{name: file, path: 1.json}, {name: file, path: 2.json}]}"
    result = zoo("run", "nequip_dtnet_total", both, "tracking.enabled=false", "--out", "out", cwd=tmp_path)
    refused(result, "record a: a second record with this key")


def test_a_split_is_kept_when_crystals_come(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"val": ["b"], "test": ["d", "a"], "train": ["c"]}))
    kept = Splitting(kind="file", path=str(path))
    found = split(list("gabcdef"), ["X"] * 7, kept, seed=3)
    assert (found.train, found.val, found.test) == (["c", "e", "f", "g"], ["b"], ["d", "a"])
    fewer = split(list("gabcdef"), ["X"] * 7, kept.model_copy(update={"train": 2}), seed=3)
    assert len(fewer.train) == 2 and set(fewer.train) < set(found.train)
    with pytest.raises(ZooError, match="names 'd'"):
        split(list("abc"), ["X"] * 3, kept, seed=0)
    with pytest.raises(ZooError, match="no crystal to train"):
        split(list("abd"), ["X"] * 3, kept, seed=0)
    for content, said in (
        ({"val": ["a"]}, "is no split"),
        ({"val": ["a"], "test": ["a"]}, "none in common"),
        ({"val": [], "test": ["a"]}, "must hold crystals"),
        ([1], "is no split"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ZooError, match=said):
            split(list("abc"), ["X"] * 3, kept, seed=0)
    path.write_text("{")
    with pytest.raises(ZooError, match="cannot be read"):
        split(list("abc"), ["X"] * 3, kept, seed=0)
    with pytest.raises(ValueError, match="go together"):
        Splitting(kind="file")


def test_replay_tells_what_the_dataset_holds(tmp_path: Path) -> None:
    from zoo.api import CalculationFailed, Candidate

    settings = {"dataset": write(tmp_path / "all.json", "ab")}
    oracle = plugins.load("oracle", "replay")(plugins.hypers("oracle", "replay", settings))
    assert list(oracle.targets()) == ["total"] and oracle.missing() is None
    told = oracle.tensors(Candidate("b", ROCK_SALT), tmp_path)
    assert np.diag(told["total"]).tolist() == [3, 3, ord("b")]
    with pytest.raises(CalculationFailed, match="crystal 'c'"):
        oracle.tensors(Candidate("c", ROCK_SALT), tmp_path)
    turned = Structure(Lattice(np.roll(ROCK_SALT.lattice.matrix, 1, axis=1)), ROCK_SALT.species, ROCK_SALT.frac_coords)
    with pytest.raises(CalculationFailed, match="cell or frame"):
        oracle.tensors(Candidate("b", turned), tmp_path)
