"""docs/guides/discovery.md: what it shows is run, on few crystals and a small model; espresso is replaced by replay."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from cli import zoo
from discovered import labelled, tensor, write_discovery
from pymatgen.core import Structure
from screened import crystal
from test_readme import blocks, commands

from zoo.api import CalculationFailed, Candidate
from zoo.storage.run_folder import read_json

pytestmark = pytest.mark.extended

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "discovery.md").read_text(encoding="utf-8")
MODEL = "model={recipe: small.yaml, members: 2}"
REPLAY = "oracle={name: replay, dataset: {name: file, path: known.json}}"
QUICK = {
    "runs/backtest": [
        "model={recipe: small.yaml, members: 2, change: {dataset.path: all.json}}",
        "start.share=0.5",
        "candidates.dataset={name: file, path: all.json}",
        "oracle.dataset={name: file, path: all.json}",
        "top=3",
    ],
    "runs/mine": [MODEL, "oracle={name: replay, dataset: {name: file, path: answers.json}}", "model.last=false"],
    "runs/cluster": [MODEL, "top=2", "rounds=1", "model.last=false"],
}


def test_the_guide_from_beginning_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_discovery(tmp_path)
    (tmp_path / "my_crystals").mkdir()
    answers = {}
    for number, (key, entry) in enumerate(labelled(range(100, 110)).items()):
        structure = Structure.from_dict(entry["structure"])
        structure.to(str(tmp_path / "my_crystals" / f"{key}.vasp"), fmt="poscar")
        answers[key] = {"structure": entry["structure"], "total": tensor(100 + number)}
    (tmp_path / "answers.json").write_text(json.dumps(answers))
    printed = []
    for words in commands(GUIDE):
        if "workers.kind=ray" in words:
            continue  # tests/discovery/test_ray.py
        arguments = words[1:]
        target = arguments.pop() if ">" in arguments else None
        out = arguments[-1]
        if arguments[0] == "discover" and "--out" in arguments:
            arguments += ["device=cpu", "filters.max_energy_above_hull=null", *QUICK[out]]
        if arguments[0] == "discover" and "--resume" in arguments and "DIR" in arguments:
            arguments = ["discover", "--resume", "runs/mine", *arguments[3:]]
        result = zoo(*[word for word in arguments if word != ">"], cwd=tmp_path)
        assert result.returncode == 0, f"zoo {' '.join(arguments)}: {result.stderr}"
        printed.append(result.stdout)
        if target is not None:
            (tmp_path / target).write_text(result.stdout)
    for name, kind in re.findall(r"^runs/backtest/(\S+?)(/?) ", GUIDE, flags=re.M):
        there = tmp_path / "runs" / "backtest" / name
        assert there.is_dir() if kind else there.is_file(), there
    waiting = [text for text in printed if "2 of 2 calculations" in text]
    assert len(waiting) == 2, "after the inputs were written, and where nothing had come"
    places = list((tmp_path / "runs" / "cluster" / "round_1" / "calculations").iterdir())
    assert all((place / "INCAR").is_file() and read_json(place / "outcome.json")["reason"] for place in places)


def test_its_oracle_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict = {}
    exec(next(block for block in blocks(GUIDE) if "Oracle" in block), shown)
    lab = tmp_path / "lab"
    lab.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\n"
        "text = pathlib.Path('POSCAR').read_text()\n"
        "if 'Li' in text: sys.exit(1)\n"
        "pathlib.Path('tensor.json').write_text(json.dumps([[3, 0, 0], [0, 4, 0], [0, 0, 5]]))\n"
    )
    lab.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    oracle = shown["Lab"](None)
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    told = oracle.tensors(Candidate("b", crystal(1)), tmp_path / "1")
    assert set(told) == set(oracle.targets()) and np.diag(told["total"]).tolist() == [3, 4, 5]
    with pytest.raises(CalculationFailed):
        oracle.tensors(Candidate("a", crystal(0)), tmp_path / "2")
