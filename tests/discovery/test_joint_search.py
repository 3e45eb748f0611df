"""`zoo screen` and `zoo discover` with a model of electronic, ionic and total tensor together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import springs
import yaml
from cli import refused, zoo
from discovered import HIDDEN, KNOWN, MODEL, asked, labelled, tensor, write_discovery
from quick import no_pictures
from screened import chosen, crystal

import zoo as package
from zoo.api import Encoder
from zoo.graphs.crystal import Crystal
from zoo.phonons import force_constants
from zoo.storage.run_folder import read_json, read_rows

pytestmark = pytest.mark.extended

PARTS = ("electronic", "ionic", "total")
TINY = {"name": "dtnet", "width": 8, "blocks": 1}


def parts_of(number: int) -> dict[str, np.ndarray]:
    """Labels of a made crystal; those of highest ionic tensor are not those of highest total one."""
    ionic, electronic = np.array(tensor(number)), (2 + number * 7 % 13) * np.eye(3)
    return {"electronic": electronic, "ionic": ionic, "total": electronic + ionic}


def with_all(numbers: range, *names: str) -> dict[str, Any]:
    """Return crystals with the named ones of the three tensors, as content of a JSON file of the dataset `file`."""
    return {
        key: entry | {"total": None} | {name: parts_of(int(key[2:]))[name].tolist() for name in names}
        for key, entry in labelled(numbers).items()
    }


def write_joint(folder: Path, **changes: Any) -> None:
    """find.yaml of a joint model: electronic and ionic tensor are known, the oracle tells all three."""
    described = {name: {"quantity": f"{name} dielectric"} for name in PARTS}
    write_discovery(folder, **changes)
    find = yaml.safe_load((folder / "find.yaml").read_text())
    answers = {"name": "file", "path": "all.json", "targets": described}
    find |= {"candidates": {"dataset": answers}, "oracle": {"name": "replay", "dataset": answers}}
    (folder / "find.yaml").write_text(yaml.safe_dump(find | changes))
    small = {key: value for key, value in MODEL.items() if key != "readout"} | {"target": "dielectric"}
    small["readouts"] = {"electronic": TINY, "ionic": TINY}
    small["dataset"] = {**MODEL["dataset"], "targets": {name: described[name] for name in ("electronic", "ionic")}}
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    (folder / "known.json").write_text(json.dumps(with_all(range(KNOWN), "electronic", "ionic")))
    (folder / "all.json").write_text(json.dumps(with_all(range(KNOWN + HIDDEN), *PARTS)))


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished discovery of high ionic constants."""
    folder = tmp_path_factory.mktemp("joint")
    write_joint(folder, part="ionic", tracking={"enabled": True, "uri": f"sqlite:///{folder}/mlflow.db"})
    result = zoo("discover", "find.yaml", "--out", "out", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "printed").write_text(result.stdout)
    return folder / "out"


@pytest.fixture
def screening(joint: Path, tmp_path: Path) -> Path:
    """The folder with mine.yaml, of the models of the first round."""
    content = {
        "name": "mine",
        "model": str(joint / "round_1" / "model"),
        "candidates": {"path": str(joint.parent / "all.json")},
        "top": 5,
        "chunk": 16,
        "device": "cpu",
        "filters": {"unseen": False, "min_band_gap": 0.01},
        "objective": {"name": "polycrystalline"},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_a_screening_goes_by_the_part_that_is_named(joint: Path, screening: Path) -> None:
    """And by the total where none is; the table has the tensors of all."""
    predictor = package.load(joint / "round_1" / "model", device="cpu")
    raw = predictor.ask([crystal(i) for i in range(KNOWN + HIDDEN)])
    found = {}
    for part in (*PARTS, None):
        with no_pictures():
            said = () if part is None else (f"part={part}",)
            result = zoo("screen", "mine.yaml", *said, "--out", f"o-{part}", cwd=screening)
        assert result.returncode == 0, result.stderr
        name = part or "total"
        assert f"chosen by {name}" in result.stdout
        members = np.stack([answer.tensors[name] for answer in raw], axis=1)
        constants = np.trace(members, axis1=2, axis2=3) / 3
        scores = constants.mean(0) + 1.5 * constants.std(0, ddof=1)
        rows = chosen(screening / f"o-{part}")
        best = [scores[int(row["key"][2:])] for row in rows]  # some of these crystals are alike but for rounding
        np.testing.assert_allclose(best, np.sort(scores)[:-6:-1], rtol=1e-5)
        for row in rows:
            assert float(row["score"]) == pytest.approx(scores[int(row["key"][2:])], rel=1e-4) and row["part"] == name
            for one in PARTS:
                mean = raw[int(row["key"][2:])].tensors[one].mean(0)
                assert float(row[f"{one}_xz"]) == pytest.approx(mean[0, 2], abs=1e-4), one
        assert read_json(screening / f"o-{part}" / "summary.json")["part"] == name
        found[name] = [row["key"] for row in rows]
    assert found["ionic"] != found["total"] != found["electronic"]


def test_a_stopped_screening_goes_on_with_its_part(screening: Path) -> None:
    with no_pictures():
        assert zoo("screen", "mine.yaml", "part=ionic", "--out", "whole", cwd=screening).returncode == 0
        shutil.copytree(screening / "whole", screening / "cut")
        (screening / "cut" / "summary.json").unlink()
        sorted((screening / "cut" / "parts").glob("*.parquet"))[-1].unlink()
        refused(zoo("screen", "--resume", "cut", "part=total", cwd=screening), "part")
        assert zoo("screen", "--resume", "cut", cwd=screening).returncode == 0
    assert (screening / "cut" / "top.csv").read_text() == (screening / "whole" / "top.csv").read_text()


def test_a_part_that_is_not_predicted_is_refused(joint: Path, screening: Path) -> None:
    refused(
        zoo("screen", "mine.yaml", "part=magnetic", cwd=screening), "part", "electronic, ionic, total", "'magnetic'"
    )
    best = ("part=ionic", "acquisition={name: expected-improvement}")
    refused(zoo("screen", "mine.yaml", *best, cwd=screening), "best=NUMBER")
    shutil.copytree(joint.parent, screening / "search")
    refused(zoo("discover", "find.yaml", "part=magnetic", cwd=screening / "search"), "part", "ionic", "'magnetic'")
    partly = "oracle={name: replay, dataset: {name: file, path: all.json, targets: {electronic: {}}}}"
    refused(zoo("discover", "find.yaml", partly, cwd=screening / "search"), "'ionic'", "electronic")


def test_each_round_asks_for_the_highest_of_its_part(joint: Path) -> None:
    rows = asked(joint)
    assert [row["round"] for row in rows] == ["1"] * 4 + ["2"] * 4
    for row in rows:
        labels = parts_of(int(row["key"][2:]))
        assert row["status"] == "done" and float(row["value"]) == pytest.approx(np.trace(labels["ionic"]) / 3, rel=1e-5)
        for name, label in labels.items():
            assert float(row[f"{name}_yy"]) == pytest.approx(label[1, 1], rel=1e-5)
            assert row[f"predicted_{name}_yy"]
        constant = sum(float(row[f"predicted_ionic_{i}{i}"]) for i in "xyz") / 3
        assert float(row["predicted"]) == pytest.approx(constant, rel=1e-4)
    highest = max(np.trace(parts_of(i)["ionic"]) / 3 for i in range(KNOWN))
    printed = (joint.parent / "printed").read_text()
    assert f"{highest:.4g}" in printed and "polycrystalline of ionic" in printed
    assert read_json(joint / "start.json")["best"] == pytest.approx(highest)
    assert read_json(joint / "summary.json")["part"] == "ionic"
    errors = read_json(joint / "round_1" / "model" / "metrics.json")["parts"]["ionic"]["val"]["mae_ten"]["mean"]
    assert float(read_rows(joint / "rounds.csv")[0]["validation_error"]) == pytest.approx(errors, rel=1e-4)


def test_all_parts_that_came_are_trained_on(joint: Path) -> None:
    """The answers of a round have all three labels, what is known at the start two."""
    last = joint / "round_3" / "model"
    assert {row["key"] for row in asked(joint)} <= set(read_json(last / "seed_0" / "split.json")["train"])
    assert package.load(last, device="cpu").card.target.name == "dielectric"
    results = read_json(joint / "round_1" / "results.json")
    for key, entry in results.items():
        for name, label in parts_of(int(key[2:])).items():
            np.testing.assert_allclose(entry[name], label, atol=1e-9)


def test_it_goes_on_and_is_sent(joint: Path, tmp_path: Path) -> None:
    shutil.copytree(joint.parent, tmp_path, dirs_exist_ok=True)
    refused(zoo("discover", "--resume", "out", "rounds=3", "part=total", cwd=tmp_path), "part")
    with no_pictures():
        result = zoo("discover", "--resume", "out", "rounds=3", "tracking.enabled=false", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [row["round"] for row in asked(tmp_path / "out")] == ["1"] * 4 + ["2"] * 4 + ["3"] * 4
    tracked = zoo("track", "out", "--uri", f"sqlite:///{tmp_path}/other.db", cwd=tmp_path)
    assert tracked.returncode == 0 and "3 rounds" in tracked.stdout, tracked.stderr


def test_force_constants_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Force constants of known crystals and candidates are computed once, by the first round that needs them."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    write_joint(tmp_path, acquisition={"name": "greedy"}, model={"recipe": "small.yaml", "members": 1})
    small = yaml.safe_load((tmp_path / "small.yaml").read_text())
    small["readouts"]["ionic"] = {"name": "born", "width": 8, "channels": 2}
    small["force_constants"] = {"potential": {"name": "pair-potential"}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    computed: list[str] = []
    compute = force_constants.force_constants

    def counted(potential: Encoder, crystals: Sequence[Crystal]) -> list[force_constants.ForceConstants]:
        computed.extend(crystal.positions.tobytes().hex() for crystal in crystals)
        return compute(potential, crystals)

    monkeypatch.setattr(force_constants, "force_constants", counted)
    with springs.pair_potential(), no_pictures():
        result = zoo("discover", "find.yaml", "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [row["round"] for row in asked(tmp_path / "out")] == ["1"] * 4 + ["2"] * 4
    assert len(computed) == len(set(computed)) == KNOWN + HIDDEN


def test_the_total_follows_where_the_oracle_tells_two(tmp_path: Path) -> None:
    """And what lacks one of them has failed."""
    write_joint(tmp_path, rounds=1, top=30, model={"recipe": "small.yaml", "members": 1, "last": False})
    answers = with_all(range(KNOWN + HIDDEN), "electronic", "ionic")
    del answers["c-0030"]["ionic"]
    (tmp_path / "all.json").write_text(json.dumps(answers))
    with no_pictures():
        result = zoo("discover", "find.yaml", "acquisition.name=greedy", "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = {row["key"]: row for row in asked(tmp_path / "out")}
    assert rows["c-0030"]["status"] == "failed" and "'total'" in rows["c-0030"]["reason"]
    done = next(row for row in rows.values() if row["status"] == "done")
    total = np.trace(parts_of(int(done["key"][2:]))["total"]) / 3
    assert float(done["value"]) == pytest.approx(total, rel=1e-5)
