"""MPtrj's form, in a made-up slice: `zoo data mptrj` streams it to extended XYZ."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import springs
from ase import units
from cli import refused, zoo
from mptrj_slice import mptrj_frame as frame

from zoo.data import mptrj


@pytest.fixture
def place(tmp_path: Path) -> Path:
    first = {"mp-7000-0-0": frame(10.0), "mp-7000-1-3": frame(corrected_total_energy=None)}
    lacking = copy.deepcopy(frame())
    del lacking["force"]
    others = {"mp-1-0-1": lacking, "mp-1-0-2": frame(stress=None), "mp-1-0-3": frame(force=[[0.0] * 3])}
    content = {"mp-7000": first, "mp-2": {}, "mp-1": others, "mp-3": {"mp-3-0-0": frame(-20.0, mp_id="mp-3")}}
    (tmp_path / "slice.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_labels_in_the_units_and_the_sign_of_ase(place: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(mptrj, "CHUNK", chunk)
    done = zoo("data", "mptrj", "slice.json", "--out", "x.extxyz", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "3 frames are in x.extxyz" in done.stdout
    assert "left out: 3 frames; the first: mp-1, mp-1-0-1: has no 'force'" in done.stderr
    first, second, third = ase.io.read(place / "x.extxyz", index=":")
    given = frame(10.0)
    structure = springs.quartz()
    assert first.positions == pytest.approx(structure.cart_coords, abs=1e-7)
    assert first.cell.array == pytest.approx(structure.lattice.matrix, abs=1e-7)
    assert list(first.numbers) == list(structure.atomic_numbers)
    assert first.get_potential_energy() == -71.5 and first.info["corrected_energy"] == -75.6
    assert first.get_forces() == pytest.approx(np.array(given["force"]), abs=1e-7)
    # 10 kbar = 1 GPa of pressure: ASE's stress is negative then.
    assert first.get_stress() == pytest.approx([-1 * units.GPa] * 3 + [0] * 3, abs=1e-12)
    assert first.info["crystal"] == "mp-7000" and first.info["key"] == "mp-7000-0-0"
    assert "corrected_energy" not in second.info
    assert third.info["crystal"] == "mp-3" and third.get_stress()[0] == pytest.approx(2 * units.GPa)


def test_a_limit_and_a_file_that_is_there(place: Path) -> None:
    done = zoo("data", "mptrj", "slice.json", "--out", "x.extxyz", "--limit", "1", cwd=place)
    assert done.returncode == 0 and len(ase.io.read(place / "x.extxyz", index=":")) == 1
    refused(zoo("data", "mptrj", "slice.json", "--out", "x.extxyz", cwd=place), "x.extxyz is there already")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the end of the file is there"),
        ("[]", "'{' is expected at character 0"),
        ('{"mp-1": 3}', "'{' is expected at character 9"),
        ('{"mp-1": {"a": {"structure": ', "a value of JSON is expected at character 15"),
        ('{"mp-1": {"a": {}} "mp-2"', "',' is expected at character 19"),
        ("{3: {}}", "a key is expected"),
        ('{"mp-1": {"a": []}}', "mp-1, a: is no JSON object"),
        ('{"mp-1": {"a": {"structure": {}}}}', "mp-1, a: 'structure' is no dict of a pymatgen Structure"),
        ("{}", "no frame can be used"),
    ],
)
def test_another_form_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.json").write_text(text)
    refused(zoo("data", "mptrj", "x.json", "--out", "x.extxyz", cwd=tmp_path), "x.json", words)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_numbers_that_are_none(tmp_path: Path) -> None:
    bad = {
        "a": frame(uncorrected_total_energy=float("nan")),
        "b": frame(force="much"),
        "c": frame(stress=[[1.0, 2.0], [3.0, 4.0]]),
    }
    (tmp_path / "x.json").write_text(json.dumps({"mp-1": bad}))
    found = [str(one) for one in mptrj.mptrj_frames(tmp_path / "x.json")]
    assert found == [
        "mp-1, a: 'uncorrected_total_energy' holds NaN or infinite numbers",
        "mp-1, b: 'force' does not hold numbers",
        "mp-1, c: 'stress' must be of shape (3, 3), it is (2, 2)",
    ]


def test_a_value_without_end_is_not_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MAX_FILE_MB", "0.001")
    (tmp_path / "x.json").write_text('{"mp-1": {"a": "' + "x" * 10_000_000)
    refused(zoo("data", "mptrj", "x.json", "--out", "x.extxyz", cwd=tmp_path), "a value of JSON is expected")
