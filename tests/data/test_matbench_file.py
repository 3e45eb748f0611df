"""Files about Matbench's dielectric task: the published layout, its folds, and one line for each wrong file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from zoo.data.matbench_file import COUNT, official_folds, read_ambiguous, read_matbench, read_published
from zoo.errors import ZooError


def salt(length: float) -> dict[str, Any]:
    return Structure(Lattice.cubic(length), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).as_dict()


def published_layout(index: list[Any]) -> dict[str, Any]:
    data = [[salt(4.0 + 0.001 * i), 1.5 + 0.01 * i] for i in range(len(index))]
    return {"index": index, "columns": ["structure", "n"], "data": data}


def write(path: Path, content: Any) -> Path:
    path.write_bytes(
        gzip.compress(json.dumps(content).encode()) if path.suffix == ".gz" else json.dumps(content).encode()
    )
    return path


def test_what_is_read(tmp_path: Path) -> None:
    found = read_matbench(write(tmp_path / "some.json.gz", published_layout([0, 5, 4763])))
    assert found.keys == ["mb-dielectric-0001", "mb-dielectric-0006", "mb-dielectric-4764"]
    assert found.indices.tolist() == [1.5, 1.51, 1.52]
    assert found.structures[1].lattice.a == pytest.approx(4.001) and found.structures[0].formula == "Cs1 Cl1"
    assert found.folds.tolist() == official_folds()[[0, 5, 4763]].tolist()
    assert len(found.missing()) == COUNT - 3 and "mb-dielectric-0002" in found.missing()
    named = read_matbench(write(tmp_path / "named.json", published_layout(found.keys)))
    assert named.keys == found.keys and (named.folds == found.folds).all()


def test_the_folds_are_of_like_size() -> None:
    assert sorted(np.bincount(official_folds()).tolist()) == [952, 953, 953, 953, 953]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": ["structure", "exfoliation_en"]}, "is not in the layout of matbench_dielectric"),
        ({"index": None}, "is not in the layout"),
        ({"index": [0, 1]}, "index has 2 entries, data 3"),
        ({"index": [0, 1, 4764]}, "the index holds '4764'"),
        ({"index": [0, 1, True]}, "the index holds 'True'"),
        ({"index": [0, 1, "mb-jdft2d-0003"]}, "the index holds 'mb-jdft2d-0003'"),
        ({"index": [0, 1, 1]}, "has mb-dielectric-0002 twice"),
        ({"data": [[salt(4), 1.5], [salt(4), 0.5], [salt(4), 1.5]]}, "mb-dielectric-0002: n is 0.5"),
        ({"data": [[salt(4), 1.5], [salt(4), None], [salt(4), 1.5]]}, "mb-dielectric-0002: n is None"),
        ({"data": [[salt(4), 1.5], [{}, 1.5], [salt(4), 1.5]]}, "mb-dielectric-0002: 'structure' is no dict"),
        ({"data": [[salt(4)], [], []]}, "mb-dielectric-0001: is no list of a structure and its n"),
    ],
)
def test_wrong_crystals(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "wrong.json", published_layout([0, 1, 2]) | change)
    with pytest.raises(ZooError) as refused:
        read_matbench(path)
    assert str(refused.value).startswith(str(path)) and words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is no valid JSON"), ("[1]", "must hold a JSON object, not a list"), (None, "no such file")],
)
def test_no_such_object(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "file.json"
    if text is not None:
        path.write_text(text)
    for read in (read_matbench, read_published):
        with pytest.raises(ZooError, match=words):
            read(path)


def test_published(tmp_path: Path) -> None:
    path = write(tmp_path / "published.json", {"coGN": {"mb-dielectric-0001": 2}})
    assert read_published(path) == {"coGN": {"mb-dielectric-0001": 2.0}}
    for content, words in (
        ({"coGN": [2.0]}, "'coGN' holds none"),
        ({"coGN": {}}, "'coGN' holds none"),
        ({"coGN": {"mb-dielectric-0001": "2"}}, "'coGN' predicts for mb-dielectric-0001 is no number"),
        ({"coGN": {"mb-dielectric-0001": float("nan")}}, "is no number"),
        ({"coGN": {"mb-dielectric-0001": 10**400}}, "is no number"),
    ):
        with pytest.raises(ZooError, match=words):
            read_published(write(path, content))


def test_ambiguous(tmp_path: Path) -> None:
    crystals = read_matbench(write(tmp_path / "some.json", published_layout([0, 5, 7])))
    fold = int(official_folds()[5])
    good: dict[str, Any] = {
        "mb-dielectric-0001": {"how": "unique", "n": 1.5},
        "mb-dielectric-0006": {"how": "ambiguous(2)", "fold": fold},
        "mb-dielectric-0008": {"how": "not ambiguous"},
        "mb-dielectric-0009": {"how": "ambiguous(3)"},
    }
    path = tmp_path / "sources.json"
    assert read_ambiguous(write(path, good), crystals) == {"mb-dielectric-0006"}
    for change, words in (
        ({"mb-dielectric-0001": {"n": 1.5}}, "says nothing of mb-dielectric-0001"),
        ({"mb-dielectric-0001": {"how": "unique", "n": 1.6}}, "n of mb-dielectric-0001 is 1.6 there, 1.5 here"),
        ({"mb-dielectric-0006": {"how": "unique", "fold": fold + 1}}, "fold of mb-dielectric-0006"),
        ({"mb-dielectric-0006": {"how": "unique", "n": 10**400}}, "n of mb-dielectric-0006 is 1000"),
        ({"mb-dielectric-0006": {"how": "unique", "fold": "x"}}, "fold of mb-dielectric-0006 is x there"),
    ):
        with pytest.raises(ZooError, match=words):
            read_ambiguous(write(path, good | change), crystals)


@pytest.mark.shared
def test_the_real_file(shared_data: Path) -> None:
    """The folds that follow from the published order are those that the file of sources has been given."""
    path = shared_data / "matbench_dielectric.json.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    crystals = read_matbench(path)
    assert crystals.missing() == ["mb-dielectric-0715", "mb-dielectric-0907", "mb-dielectric-1656"]
    assert np.bincount(crystals.folds).tolist() == [953, 952, 952, 952, 952]
    sources = shared_data / "matbench_dielectric_sources.json.gz"
    given = json.loads(gzip.decompress(sources.read_bytes()))
    assert [given[key]["fold"] for key in crystals.keys] == crystals.folds.tolist()
    assert len(read_ambiguous(sources, crystals)) == 138
    published = read_published(shared_data / "matbench_published.json.gz")
    assert all(set(found) == set(crystals.keys) for found in published.values())
    error = np.abs(np.array([published["DTNet"][key] for key in crystals.keys]) - crystals.indices)
    assert np.mean([error[crystals.folds == k].mean() for k in range(5)]) == pytest.approx(0.2378, abs=5e-5)
