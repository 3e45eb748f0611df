"""`zoo screen` from a recipe to the chosen crystals."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cli import refused, zoo
from pyarrow import parquet
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar
from screened import MODEL, chosen, crystal, save

import zoo as package
from zoo.config import plugins
from zoo.config import recipe as recipes
from zoo.discovery import screen_config, screen_results
from zoo.discovery.candidates import FolderSource
from zoo.discovery.screen_folder import ScreenFolder
from zoo.discovery.top_k import Top

pytestmark = pytest.mark.extended


def parts(folder: Path) -> list[dict]:
    """Rows of all parts, in their order."""
    return [
        row for path in sorted((folder / "parts").glob("*.parquet")) for row in parquet.read_table(path).to_pylist()
    ]


def test_what_is_chosen_is_the_top_of_all_that_predict_says(recipe: dict, tmp_path: Path) -> None:
    result = zoo("screen", str(save(recipe, tmp_path)), "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    predictor = package.load(MODEL, device="cpu")
    members = np.stack(predictor.tensors([crystal(i) for i in range(40)]), axis=1)
    constants = np.trace(members, axis1=2, axis2=3) / 3
    scores = constants.mean(0) + 1.5 * constants.std(0, ddof=1)
    expected = np.argsort(-scores, kind="stable")[:6]
    rows = chosen(tmp_path / "out")
    assert [row["key"] for row in rows] == [f"c-{i:04d}" for i in expected]
    assert [int(row["rank"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, i in zip(rows, expected, strict=True):
        assert float(row["score"]) == pytest.approx(scores[i], rel=1e-4)
        assert float(row["std"]) == pytest.approx(constants[:, i].std(ddof=1), rel=1e-2)
        assert float(row["total_xy"]) == pytest.approx(members[:, i, 0, 1].mean(), abs=1e-4)
        assert row["formula"] == crystal(i).composition.reduced_formula
        assert row["novel"] in ("yes", "no")
        kinds = [doubt.kind for doubt in predictor.predict(crystal(i)).warnings]
        assert row["warnings"] == ", ".join(dict.fromkeys(kinds))
        place = tmp_path / "out" / "top" / f"{row['rank']}_{row['key']}"
        kept = Poscar.from_file(place.with_suffix(".vasp"), check_for_potcar=False).structure
        np.testing.assert_allclose(kept.lattice.matrix, crystal(i).lattice.matrix, atol=1e-6)  # the tensor's frame
        assert Structure.from_file(place.with_suffix(".cif")).matches(crystal(i))
    assert [row["index"] for row in parts(tmp_path / "out")] == list(range(40))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["candidates"], summary["predicted"], summary["chosen"]) == (40, 40, 6)
    warned = Counter(kind for row in parts(tmp_path / "out") for kind in row["warnings"].split(", ") if kind)
    assert warned and summary["warnings"] == warned
    for kind, count in warned.items():
        assert f"{kind} {count}" in result.stdout
    assert {"reading", "graphs", "encoder", "readout", "writing"} <= set(summary["speed"]["of_which"])
    for words in ("40 of 40", "candidates/s", "top.csv", "figure_of_merit.png", "objective.png"):
        assert words in result.stdout
    assert recipes.read_content(str(tmp_path / "out" / "screen.yaml"))[0]["acquisition"] == {"name": "ucb"}


def test_a_streamed_top_is_a_full_sort() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 50, 500).astype(float)  # with many ties
    top = Top(30)
    for index in random.permutation(500):
        assert top.takes(scores[index], index) or index not in np.argsort(-scores, kind="stable")[:30]
        top.push(scores[index], int(index))
    assert top.indices == np.argsort(-scores, kind="stable")[:30].tolist()


def test_each_source_gives_the_same(recipe: dict, tmp_path: Path) -> None:
    """A folder, CSV, extxyz, Parquet and a dataset, by the dataset plugin `file`: keys, properties, numbers."""
    structures = [crystal(i) for i in range(40)]
    gaps = [json.loads((tmp_path / "many.json").read_text())[f"c-{i:04d}"].get("band_gap") for i in range(40)]
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for i, structure in enumerate(structures):
        structure.to(str(tmp_path / "deep" / ("er" if i % 2 else "") / f"c-{i:04d}.vasp"), fmt="poscar")
    (tmp_path / "deep" / "notes.txt").write_text("no crystal")
    columns = {"key": [f"c-{i:04d}" for i in range(40)], "band_gap": gaps, "vector": [[0.0]] * 40}
    texts = {"structure": [json.dumps(s.as_dict()) for s in structures], "cif": [s.to(fmt="cif") for s in structures]}
    for column, text in texts.items():
        parquet.write_table(pa.table({**columns, column: text}), tmp_path / f"{column}.parquet", row_group_size=7)
    with (tmp_path / "many.csv").open("w") as file:
        file.write("key,cif,band_gap\n")
        file.writelines(f"c-{i:04d},deep/{'er/' if i % 2 else ''}c-{i:04d}.vasp,{gaps[i] or ''}\n" for i in range(40))
    from pymatgen.io.ase import AseAtomsAdaptor

    frames = [AseAtomsAdaptor.get_atoms(structure, msonable=False) for structure in structures]
    for i, frame in enumerate(frames):
        frame.info = {"key": f"c-{i:04d}"} | ({"band_gap": gaps[i]} if gaps[i] else {})
    import ase.io

    ase.io.write(tmp_path / "many.extxyz", frames)
    labelled = json.loads((tmp_path / "many.json").read_text())
    for entry in labelled.values():
        entry["total"] = np.eye(3).tolist()
    (tmp_path / "labelled.json").write_text(json.dumps(labelled))
    sources: dict[str, dict] = {
        name: {"path": name}
        for name in ("many.json", "many.csv", "many.extxyz", "structure.parquet", "cif.parquet", "deep")
    }
    sources["dataset"] = {"dataset": {"name": "file", "path": "labelled.json", "targets": {"total": {}}}}
    found = {}
    for name, source in sources.items():
        result = zoo("screen", str(save(recipe | {"candidates": source}, tmp_path)), "--out", f"o-{name}", cwd=tmp_path)
        assert result.returncode == 0, f"{name}: {result.stderr}"
        found[name] = {
            Path(row["key"]).name: (row["mean"], json.loads(row["properties"]).get("band_gap"))
            for row in parts(tmp_path / f"o-{name}")
        }
    for name, rows in found.items():
        assert rows.keys() == found["many.json"].keys(), name
        for key, (mean, gap) in rows.items():
            assert mean == pytest.approx(found["many.json"][key][0], rel=1e-4), (name, key)
            assert gap == (None if name == "deep" else found["many.json"][key][1]), (name, key)


def write_vasp(folder: Path, *names: str) -> None:
    """A crystal of its own in each file."""
    for number, name in enumerate(names):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Poscar(crystal(number)).write_file(place)


def test_keys_of_files_are_without_their_endings(tmp_path: Path) -> None:
    write_vasp(tmp_path, "b.VASP", "a.vasp", "a.poscar", "deep/POSCAR", "deep/POSCAR_1.2", "deep/CONTCAR.vasp", ".vasp")
    (tmp_path / "deep" / "mp-1.1.cif").write_text(crystal(1).to(fmt="cif"))
    found = list(FolderSource(tmp_path).found())
    keys = [".vasp", "a", "a", "b", "deep/CONTCAR", "deep/POSCAR", "deep/POSCAR_1.2", "deep/mp-1.1"]
    assert [one.key for one in found] == keys
    assert all(len(one.read()) == 2 for one in found)
    assert [one.key for one in FolderSource(tmp_path).found(3)] == keys[3:]


def test_training_crystals_in_a_folder_are_seen(recipe: dict, tmp_path: Path) -> None:
    seen = sorted(package.load(MODEL, device="cpu").card.seen)[:3]
    write_vasp(tmp_path / "mine", *(f"{key}.vasp" for key in seen), "new.vasp")
    path = str(save(recipe | {"candidates": {"path": "mine"}}, tmp_path))
    assert zoo("screen", path, "--out", "out", cwd=tmp_path).returncode == 0
    became = {row["key"]: row["reason"] for row in parts(tmp_path / "out")}
    assert became == dict.fromkeys(seen, "seen by the model") | {"new": None}


def test_of_two_files_of_one_crystal_one_is_chosen(recipe: dict, tmp_path: Path) -> None:
    write_vasp(tmp_path / "mine", "a.poscar", "b.vasp")
    shutil.copy(tmp_path / "mine" / "a.poscar", tmp_path / "mine" / "a.vasp")
    path = str(save(recipe | {"candidates": {"path": "mine"}}, tmp_path))
    assert zoo("screen", path, "--out", "out", cwd=tmp_path).returncode == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["filtered"] == {"a second one of this key": 1}
    assert sorted(row["key"] for row in chosen(tmp_path / "out")) == ["a", "b"]


def test_what_was_written_below_the_folder_is_no_candidate(recipe: dict, tmp_path: Path) -> None:
    write_vasp(tmp_path / "mine", "a.vasp", "b.vasp", "found/round_1/calculations/a/POSCAR")
    for name in ("discover.yaml", "run.json"):
        (tmp_path / "mine" / "found" / name).write_text("")
    write_vasp(tmp_path / "mine", "own/c.vasp")
    (tmp_path / "mine" / "own" / "screen.yaml").write_text("")  # a recipe beside crystals
    path = str(save(recipe | {"candidates": {"path": "mine"}}, tmp_path))
    for out in ("mine/first", "mine/deep/second"):
        assert zoo("screen", path, "--out", out, cwd=tmp_path).returncode == 0
        assert [row["key"] for row in parts(tmp_path / out)] == ["a", "b", "own/c"]
    # The folder itself is what was asked for.
    path = str(save(recipe | {"candidates": {"path": "mine/first"}}, tmp_path))
    assert zoo("screen", path, "--out", "third", cwd=tmp_path).returncode == 0
    assert len(parts(tmp_path / "third")) == 6


def test_without_a_key_there_is_no_candidate(recipe: dict, tmp_path: Path) -> None:
    content = {key: {"structure": crystal(i).as_dict()} for i, key in enumerate(("", " \n", "good"))}
    (tmp_path / "many.json").write_text(json.dumps(content))
    assert zoo("screen", str(save(recipe, tmp_path)), "--out", "out", cwd=tmp_path).returncode == 0
    became = {row["key"]: (row["status"], row["detail"]) for row in parts(tmp_path / "out")}
    assert became == {"": ("failed", "has no key"), " \n": ("failed", "has no key"), "good": ("predicted", None)}


def test_names_and_texts_that_are_no_unicode(recipe: dict, tmp_path: Path) -> None:
    write_vasp(tmp_path / "mine", "a.vasp")
    for name in (b"\xff.vasp", b"\xfe.vasp"):
        shutil.copy(tmp_path / "mine" / "a.vasp", os.fsencode(tmp_path / "mine") + b"/" + name)
    with open(os.fsencode(tmp_path / "mine") + b"/\xfe.vasp", "w") as file:  # noqa: PTH123
        file.write("broken")
    path = str(save(recipe | {"candidates": {"path": "mine"}}, tmp_path))
    result = zoo("screen", path, "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {row["key"]: row["status"] for row in parts(tmp_path / "out")} == {
        "a": "predicted", "\\udcff": "predicted", "\\udcfe": "failed",
    }  # fmt: skip
    content = {"\ud800": {"structure": crystal(1).as_dict(), "note\ud801": "\ud802"}}
    (tmp_path / "many.json").write_text(json.dumps(content))
    result = zoo("screen", path, "candidates.path=many.json", "--out", "json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (row,) = chosen(tmp_path / "json")
    assert row["key"] == "\\ud800" and row["note\\ud801"] == "\\ud802"


def test_facts_of_chosen_whatever_their_texts(recipe: dict, tmp_path: Path) -> None:
    """A text longer than the module csv reads, and a column of a name of ours."""
    long = "x" * 200_000
    content = {f"c-{i}": {"structure": crystal(i).as_dict(), "note": long, "novel": "maybe"} for i in range(3)}
    (tmp_path / "many.json").write_text(json.dumps(content))
    path = str(save(recipe, tmp_path))
    assert zoo("screen", path, "--out", "out", cwd=tmp_path).returncode == 0
    predictor = package.load(MODEL, device="cpu")
    config, folder = screen_config.read(path), ScreenFolder(tmp_path / "out")
    facts = screen_results.facts_of_chosen(config, folder, predictor.card.target)
    assert predictor.reference is not None and len(facts) == 3
    for one in facts:
        (row,) = (row for row in parts(tmp_path / "out") if row["key"] == one["key"])
        assert one["novel"] is (row["novelty"] > predictor.reference.threshold)
        assert one["properties"]["note"] == long
    json.dumps(facts, allow_nan=False)


def test_what_is_left_out_is_counted_by_its_reason(recipe: dict, tmp_path: Path) -> None:
    def entry(structure: Structure, **properties: object) -> dict:
        return {"structure": structure.as_dict(), **properties}

    salt = crystal(1)
    silicon = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]])
    content = {
        "good": entry(salt, band_gap=5.0, energy_above_hull=0.0),
        "stable?": entry(salt, band_gap=5.0),
        "metal": entry(salt, band_gap=0.0),
        "unstable": entry(salt, band_gap=5.0, energy_above_hull=0.02),
        "unknown gap": entry(salt),
        "not a number": entry(salt, band_gap=float("nan")),
        "a text": entry(salt, band_gap="wide"),
        "beyond all numbers": entry(salt, band_gap=10**400),
        "large": entry(salt * (3, 2, 2), band_gap=5.0),
        "lead": entry(salt.copy().replace_species({"Na": "Pb"}), band_gap=5.0),
        "silicon": entry(silicon, band_gap=0.6),
        "mp-10086": entry(salt, band_gap=5.0),
        "broken": {"structure": {"lattice": 1}, "band_gap": 5.0},
        "close": entry(Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]]), band_gap=5.0),
    }
    (tmp_path / "many.json").write_text(json.dumps(content))
    recipe |= {
        "objective": {"name": "figure-of-merit"},
        "filters": {"min_band_gap": 0.01, "without": ["Pb"], "elements": ["Na", "Cl", "Br", "Pb"]},
    }
    result = zoo("screen", str(save(recipe, tmp_path)), "--out", "out", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    became = {row["key"]: row["reason"] for row in parts(tmp_path / "out")}
    no_gap = dict.fromkeys(("unknown gap", "not a number", "a text", "beyond all numbers"), "no band_gap")
    assert became == no_gap | {
        "good": None, "stable?": None, "metal": "min_band_gap", "unstable": "max_energy_above_hull",
        "large": "max_atoms", "lead": "without", "silicon": "elements", "mp-10086": "seen by the model",
        "broken": "not readable", "close": "not predicted",
    }  # fmt: skip
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["filtered"] == dict(Counter(r for r in became.values() if r and not r.startswith("not")))
    assert summary["failed"] == {"not readable": 1, "not predicted": 1}
    assert "no band_gap 4" in result.stdout and {row["key"] for row in chosen(tmp_path / "out")} == {"good", "stable?"}
    details = {row["key"]: row["detail"] for row in parts(tmp_path / "out")}
    assert "no dict of a pymatgen Structure" in details["broken"] and "NaCl" in details["close"]


def test_elements_that_the_encoder_lacks(recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo_nequip import NequIP

    monkeypatch.setattr(NequIP, "elements", lambda self: frozenset({3, 9, 12, 17}))
    assert zoo("screen", str(save(recipe, tmp_path)), "--out", "out", cwd=tmp_path).returncode == 0
    for row in parts(tmp_path / "out"):
        known = {site.specie.symbol for site in crystal(row["index"])} <= {"Li", "F", "Mg", "Cl"}
        assert row["reason"] == (None if known else "elements unknown to the encoder")


def test_no_molecular_crystals_where_the_objective_wants_none(recipe: dict, tmp_path: Path) -> None:
    dry_ice = Structure.from_spacegroup("Pa-3", Lattice.cubic(5.62), ["C", "O"], [[0, 0, 0], [0.1185] * 3])
    content = {"ice": {"structure": dry_ice.as_dict()}, "salt": {"structure": crystal(1).as_dict()}}
    (tmp_path / "many.json").write_text(json.dumps(content))
    path = str(save(recipe, tmp_path))
    for out, objective, expected in (("a", "anisotropy", {"salt"}), ("b", "polycrystalline", {"salt", "ice"})):
        result = zoo("screen", path, f"objective.name={objective}", "--out", out, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert {row["key"] for row in chosen(tmp_path / out)} == expected
    assert {row["key"]: row["reason"] for row in parts(tmp_path / "a")} == {"ice": "molecular", "salt": None}
    forced = ("filters.non_molecular=false", "objective.name=anisotropy")
    assert zoo("screen", path, *forced, "--out", "c", cwd=tmp_path).returncode == 0
    assert {row["key"] for row in chosen(tmp_path / "c")} == {"salt", "ice"}


def test_expected_improvement_is_over_the_best_of_the_training_crystals(recipe: dict, tmp_path: Path) -> None:
    path = str(save(recipe | {"acquisition": {"name": "expected-improvement"}}, tmp_path))
    result = zoo("screen", path, "--out", "a", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    labels = package.load(MODEL, device="cpu").reference.tensors
    best = np.trace(labels, axis1=1, axis2=2).max() / 3
    assert f"{best:.4g} so far" in result.stdout
    assert json.loads((tmp_path / "a" / "run.json").read_text())["facts"]["best so far"] == pytest.approx(best)
    assert "0.5 so far" in zoo("screen", path, "best=0.5", "--out", "b", cwd=tmp_path).stdout
    merit = zoo("screen", path, "objective.name=figure-of-merit", "--out", "c", cwd=tmp_path)
    refused(merit, "expected-improvement", "best=NUMBER")
    far = zoo("screen", path, "best=1e6", "--out", "far", cwd=tmp_path)
    assert far.returncode == 0, far.stderr
    scores = [row["score"] for row in parts(tmp_path / "far")]
    assert np.isfinite(scores).all() and len(set(scores)) == 40
    best = [f"c-{i:04d}" for i in np.argsort(scores)[::-1][:6]]
    assert [row["key"] for row in chosen(tmp_path / "far")] == best
    assert not (tmp_path / "c").exists()


STRANGER = '''
import numpy as np
from zoo.api import Hypers, Objective


class Stiffness(Hypers):
    """Keys of it."""

    weight: float = 1.0
    """Of the gap."""


class Weighted(Objective):
    """A stranger's."""

    Hypers = Stiffness
    properties = ("band_gap",)

    def values(self, tensors, properties):
        gaps = np.array([each["band_gap"] for each in properties])
        values = tensors[:, 2, 2] + self.hypers.weight * gaps
        return np.where(gaps > 6, np.nan, values)


class Wrong(Objective):
    """Of the wrong shape."""

    def values(self, tensors, properties):
        return tensors


class Broken(Objective):
    """Raises."""

    def values(self, tensors, properties):
        return properties[0]["nothing"]
'''


def test_a_strangers_objective(recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger_objective.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(str(tmp_path))
    ours = plugins.entry_points

    def theirs(group: str, **selection: str) -> list[EntryPoint]:
        points = [
            EntryPoint(n, f"stranger_objective:{n.title()}", "zoo.objectives") for n in ("weighted", "wrong", "broken")
        ]
        more = [p for p in points if group == p.group and p.name == selection.get("name", p.name)]
        return [*ours(group=group, **selection), *more]

    monkeypatch.setattr(plugins, "entry_points", theirs)
    plugins.registered.cache_clear()
    try:
        settings = ("objective.name=weighted", "objective.weight=1000")
        result = zoo("screen", str(save(recipe, tmp_path)), *settings, "--out", "out", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        reasons = Counter(row["reason"] for row in parts(tmp_path / "out"))
        assert reasons["no band_gap"] == 8 and reasons["not defined"] > 0
        gaps = [row["band_gap"] for row in chosen(tmp_path / "out")]
        assert gaps == ["5.5"] * 4 + ["4.5"] * 2  # the widest where it is defined
        wrong = zoo("screen", "mine.yaml", "objective.name=wrong", "--out", "wrong", cwd=tmp_path)
        refused(wrong, "'wrong'", "(8, 3, 3)")
        broken = zoo("screen", "mine.yaml", "objective.name=broken", "--out", "broken", cwd=tmp_path)
        refused(broken, "'broken'", "KeyError: 'nothing'")
        refused(zoo("screen", "mine.yaml", "objective.name=wieghted", cwd=tmp_path), "'weighted'")
        bad = ("objective.name=weighted", "objective.wieght=1")
        refused(zoo("screen", "mine.yaml", *bad, cwd=tmp_path), "'wieght'", "'weight'")
        assert "weighted" in zoo("list", cwd=tmp_path).stdout
    finally:
        plugins.registered.cache_clear()
