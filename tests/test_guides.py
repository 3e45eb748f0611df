"""docs/guides: what they show is run, training on a small model."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pyarrow as pa
import pytest
import springs
import torch
import yaml
from cli import zoo
from e3nn import o3
from fake_mp_api import install
from mlflow import MlflowClient
from mptrj_slice import mptrj_frame
from pretraining.labels import write_labelled, write_salts
from pyarrow import parquet
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from screened import crystal
from test_readme import blocks, commands
from tiny_labels import phonondb_row, write_phonondb

from zoo.config import plugins, recipe
from zoo.data.elastic2015 import Elastic2015
from zoo.data.petousis2017 import Petousis2017
from zoo.errors import ZooError
from zoo.graphs.graph import collate, crystal_graph
from zoo.phonons.potentials import with_energy
from zoo.storage.run_folder import RunFolder, read_json

pytestmark = pytest.mark.extended

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = (DOCS / "guides" / "your_own_tensors.md").read_text(encoding="utf-8")
QUICK = [
    "training.max_epochs=1",
    "data.limit=60",
    "encoder={name: nequip, cutoff: 3.0, layers: 1, channels: 8}",
    "device=cpu",
]
FEWER = {"seeds=[0,1,2,3,4]": "seeds=[0,1,2]"}
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
    content = read_json(RunFolder(folder / "runs" / "mine").result)
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
        content = RECIPES[0] | section
        (folder / "other.yaml").write_text(yaml.safe_dump(content))
        result = zoo("run", "other.yaml", "--out", f"runs/{number}", *QUICK, cwd=folder)
        assert result.returncode == 0, result.stderr
        assert (folder / f"runs/{number}/metrics.json").is_file()


PROCESSES = (Path(__file__).parents[1] / "docs" / "guides" / "gpus_and_processes.md").read_text(encoding="utf-8")
TINY = ["training.max_epochs=2", "data.limit=20", *QUICK[2:], "readout.width=8", "tracking.enabled=false"]


def test_one_run_in_two_processes_and_on_with_it_in_one(folder: Path) -> None:
    """In the order of the page; the run is stopped in between, as far as its folder can tell."""
    begin, go_on = commands(PROCESSES)
    begun = zoo(*begin[1:], *TINY, cwd=folder)
    assert begun.returncode == 0, begun.stderr
    run = RunFolder(folder / go_on[-1])
    before = read_json(run.result)
    for path in (run.result, run.seed(0).result):
        path.unlink()
    resumed = zoo(*go_on[1:], cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert read_json(run.result)["test"]["mae_ten"]["mean"] == pytest.approx(
        before["test"]["mae_ten"]["mean"], rel=1e-4
    )


def test_the_line_for_torchrun(folder: Path) -> None:
    """What stands before -m is torchrun's, and tests/training/test_processes.py starts its processes with it."""
    (line,) = [shlex.split(block) for block in blocks(PROCESSES) if block.startswith("torchrun")]
    _, command, *arguments = line[line.index("-m") :]
    asked = [sys.executable, "-m", command, *arguments, *TINY, "training.precision=bfloat17"]
    done = subprocess.run(asked, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2 and "training.precision" in done.stderr, done.stderr


def test_its_yaml_is_of_a_recipe() -> None:
    (section,) = [yaml.safe_load(block) for block in blocks(PROCESSES) if block.startswith("training:")]
    assert recipe.Training(**section["training"]).batch_edges == 20000


ASKING = (DOCS / "guides" / "asking.md").read_text(encoding="utf-8")


def test_the_guide_to_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, with a small model in the place of the recipes'."""
    monkeypatch.chdir(tmp_path)
    quartz = Structure.from_spacegroup(
        "P3_121", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.2144]]
    )
    quartz.to("quartz.cif")
    (tmp_path / "my_folder").mkdir()
    quartz.to(str(tmp_path / "my_folder" / "quartz.json"))
    ase.io.write(tmp_path / "relaxed.traj", AseAtomsAdaptor.get_atoms(quartz))
    (tmp_path / "many.json").write_text(json.dumps({"mp-149": quartz.as_dict()}))
    readout = ["readout.width=8", "split.val=0.3"]
    shown: dict = {}
    for block in blocks(ASKING):
        for words in commands(f"```\n{block}```"):
            arguments = [name for word in words[1:] for name in expanded(word, tmp_path)]
            arguments = arguments[: arguments.index(">")] if ">" in arguments else arguments
            if arguments[0] == "run":
                arguments = [FEWER.get(word, word) for word in arguments] + [*QUICK, *readout]
            result = zoo(*arguments, cwd=tmp_path)
            # Of two models that have learned next to nothing either may be the better one, or neither.
            expected = int(arguments[0] == "promote" and "its validation error is higher" in result.stdout)
            assert result.returncode == expected, f"zoo {' '.join(arguments)}: {result.stderr}"
        if "zoo predict" not in block and "zoo run" not in block:
            exec(block, shown)
    client = MlflowClient("sqlite:///mlflow.db")
    tracked = client.get_run(client.get_model_version("dtnet-total", "1").run_id).data.metrics
    assert 0 <= tracked["test_coverage_90"] <= 1 and tracked["test_mae_ten_ensemble"] > 0
    assert shown["answer"].coverage == 0.8 and len(shown["answer"].nearest) == 3
    assert set(shown["answers"].dataframe()["formula"]) == {"GaAs", "SiO2"}
    assert isinstance(shown["found"], ZooError)
    named = re.findall(r"`(\w+)`", ASKING[ASKING.index("| attribute |") : ASKING.index("`answer.as_dict()`")])
    assert all(hasattr(shown["answer"], name) for name in named), named


def test_the_convolution_of_the_page_is_equivariant() -> None:
    example = next(b for b in blocks((DOCS / "convolution.md").read_text(encoding="utf-8")) if "convolve(" in b)
    shown: dict = {}
    exec(example, shown)
    crystal = next(iter(Petousis2017(Petousis2017.Hypers()).records())).structure
    batch = collate([crystal_graph(crystal, 5.0)])
    scalars, vectors = torch.randn(batch.n_atoms, 1, 16), torch.randn(batch.n_atoms, 3, 16)
    turn = -o3.rand_matrix()  # improper
    turned = dataclasses.replace(batch, positions=batch.positions @ turn.T, cell=batch.cell @ turn.T)
    with torch.no_grad():
        found = shown["interact"](batch, scalars, vectors)
        again = shown["interact"](turned, scalars, turn @ vectors)
    assert [x.shape[1:] for x in found] == [(1, 16), (3, 32)]
    torch.testing.assert_close(again[0], found[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again[1], turn @ found[1], rtol=1e-4, atol=1e-5)


SCREENING = (DOCS / "guides" / "screening.md").read_text(encoding="utf-8")


def test_the_guide_to_screening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, with a small ensemble, few candidates, and the objective of the page."""
    monkeypatch.chdir(tmp_path)
    server = install(monkeypatch)  # in the Materials Project's place
    (tmp_path / "my_crystals").mkdir()
    keys, texts = ["a", "b", "c"], [crystal(number).to(fmt="cif") for number in range(3)]
    for key, text in zip(keys, texts, strict=True):
        (tmp_path / "my_crystals" / f"{key}.cif").write_text(text)
    parquet.write_table(pa.table({"key": keys, "cif": texts, "band_gap": [1.0, 2.0, 3.0]}), tmp_path / "many.parquet")
    for words in commands(SCREENING):
        arguments = words[1:]
        if arguments[0] == "run":
            arguments = [FEWER.get(word, word) for word in arguments] + [*QUICK, "readout.width=8"]
        target = arguments.pop() if ">" in arguments else None
        result = zoo(*[word for word in arguments if word != ">"], cwd=tmp_path)
        assert result.returncode == 0, f"zoo {' '.join(arguments)}: {result.stderr}"
        if target is not None:
            (tmp_path / target).write_text(result.stdout)
    for name, kind in re.findall(r"^runs/first/(\S+?)(/?) ", SCREENING, flags=re.M):
        there = tmp_path / "runs" / "first" / name
        assert there.is_dir() if kind else there.is_file(), there
    assert len(list((tmp_path / "runs" / "second" / "top").glob("*.cif"))) == 3
    assert server.asked[0]["chemsys"] == ["Ba-*-O"]
    shown: dict = {}
    exec(next(block for block in blocks(SCREENING) if "Objective" in block), shown)
    assert shown["OutOfPlane"](None).values(np.array([np.diag([1.0, 2.0, 3.0])]), [{}]).tolist() == [3]
    for kind in ("objective", "acquisition"):
        ours = {name for name, point in plugins.available(kind).items() if point.value.startswith("zoo.")}
        assert ours <= set(re.findall(r"^\| `([a-z-]+)` \|", SCREENING, flags=re.M)), kind


PRETRAINING = (DOCS / "guides" / "pretraining.md").read_text(encoding="utf-8")


@pytest.mark.sevennet
def test_the_guide_to_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, on a few salts, with springs in the place of phonondb2018."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path)
    halides = [(alkali, halide) for alkali in ("Li", "K", "Rb", "Cs") for halide in ("F", "Cl", "Br")]
    write_phonondb(tmp_path, [phonondb_row(f"mp-99{i}", 1 + 0.1 * i, species=pair) for i, pair in enumerate(halides)])
    write_salts(tmp_path)
    springs = f"sources=[{{name: phonondb2018, path: {tmp_path}}}, {{name: file, path: teacher.extxyz}}]"
    small = ["encoder.layers=1", "encoder.channels=4", "encoder.cutoff=4.0", "validation=0.2"]
    tiny = ["encoder.cutoffs=[3.0]", "encoder.channels=4", "validation=0.3"]
    more = {"runs/potential": small, "runs/tuned": [springs]}
    more |= {"runs/teanet": tiny, "runs/teanet_forces": ["validation=0.3"]}
    salts = ["dataset={name: file, path: salts.json, targets: {total: {}, ionic: {}}}", "split.val=0.2"]
    for words in commands(PRETRAINING):
        arguments = words[1:]
        if arguments[0] == "label":
            arguments += ["--limit", "4", "--device", "cpu"]
        else:
            arguments += ["training.max_epochs=1", "tracking.enabled=false", "device=cpu"]
        if arguments[0] == "pretrain":
            arguments += ["without_twins_of=null", "training.warm_up=0", *more[words[-1]]]
        elif arguments[0] == "run":
            arguments += [*salts, "readout.width=8", *(small[:3] if "nequip" in words[2] else [])]
        result = zoo(*arguments, cwd=tmp_path)
        assert result.returncode == 0, f"zoo {' '.join(arguments)}: {result.stderr}"
    for name in re.findall(r"^\| (`.*`) \|", PRETRAINING, flags=re.M)[1:]:
        assert all((tmp_path / "runs/potential" / file).is_file() for file in re.findall(r"`([^`]+)`", name)), name
    (block,) = [block for block in blocks(PRETRAINING) if "import zoo" in block]
    exec(block, {})


POTENTIALS = (DOCS / "guides" / "potentials.md").read_text(encoding="utf-8")


@pytest.mark.sevennet
def test_the_guide_to_potentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, on a slice of what takes long, and of data sets that are not here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_cifs").mkdir()
    springs.salt().to(filename=str(tmp_path / "my_cifs" / "salt.cif"))
    (tmp_path / "MPtrj_2022.9_full.json").write_text(json.dumps({"mp-7000": {"mp-7000-0-0": mptrj_frame()}}))
    for words in commands(POTENTIALS):
        shorter = ("--limit", "2") if words[1] == "label" else ()
        result = zoo(*words[1:], *shorter, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert words[1] != "list" or "an energy" in result.stdout.lower()
    there = find_spec("ase_db_backends") is not None
    ending = "aselmdb" if there else "db"  # the same rows in SQLite
    (tmp_path / "omat24" / "val").mkdir(parents=True)
    (mptrj,) = ase.io.read("mptrj.extxyz", index=":")
    ase.db.connect(tmp_path / "omat24" / "val" / f"data0000.{ending}").write(mptrj)
    shown: dict = {}
    for block in blocks(POTENTIALS):
        if "import" in block:
            exec(block.replace("*.aselmdb", f"*.{ending}"), shown)
    (omat24,) = ase.io.read("omat24.extxyz", index=":")
    assert omat24.info["key"] == "data0000-1"
    assert omat24.get_potential_energy() == mptrj.get_potential_energy()
    assert np.allclose(omat24.get_forces(), mptrj.get_forces()) and np.allclose(omat24.get_stress(), mptrj.get_stress())
    made = {frame.info["kind"]: frame.info for frame in shown["frames"]}
    assert set(made) == {"itself"} | set(
        re.findall(r"^\| `([a-z ]+)` \| (?:Gauss|a random|both|two)", POTENTIALS, flags=re.M)
    )
    assert {"rattle", "strain", "swap"} <= made["swapped"].keys()
    atoms = shown["atoms"]
    assert atoms.cell.lengths() * 2**0.5 == pytest.approx(4.25, abs=0.05)
    assert shown["hessian"].shape == (2, 3, 2, 3)
    assert shown["hessian"].sum(2).abs().max() < 1e-8  # the acoustic sum rule
    assert any(p.grad is not None for p in shown["mine"].parameters())
    assert np.isfinite(atoms.get_potential_energy())
    table = POTENTIALS[: POTENTIALS.index("| any other")]
    named = re.findall(r"^\| `(\w+)` \|", table, flags=re.M)
    assert set(named) == set(with_energy())
