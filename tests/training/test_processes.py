"""Two processes on the CPU train what one trains; either goes on where the other was stopped."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from cli import refused, zoo
from pair import recorded_gradients
from test_readme import blocks

from zoo.config import recipe
from zoo.data.petousis2017 import Petousis2017
from zoo.storage.run_folder import RunFolder, read_history, read_json
from zoo.workflows.train import run

pytestmark = pytest.mark.extended

PAIR = Path(__file__).with_name("pair.py")
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "gpus_and_processes.md"
SMALL = {
    "name": "small",
    "dataset": {"name": "file", "path": "crystals.json", "targets": {"total": {}}},
    "target": "total",
    "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
    "readout": {"name": "dtnet", "width": 8, "blocks": 1, "dropout": 0.0},
    "training": {"max_epochs": 4, "batch_size": 5, "learning_rate": 0.01, "weight_average": 0.2},
    "tracking": {"enabled": False},
    "device": "cpu",
}
RECIPES = {
    "whole": SMALL,
    "begun_by_one": SMALL,
    "stopped": SMALL,
    "ended": SMALL,
    # Second derivatives, batches by edges, and of ten crystals one in validation: a process without any.
    "edges": SMALL
    | {
        "data": {"limit": 10},
        "readout": {"name": "strain", "width": 8},
        "training": {"max_epochs": 2, "batch_edges": 60, "learning_rate": 0.001},
    },
    "diverges": SMALL | {"training": {"learning_rate": 1e30}},
}


class Killed(BaseException):
    """Stands for a kill of the process: a BaseException, which no handler of the trained code catches."""


def train(folder: Path, name: str, on_epoch=None) -> dict:
    config = recipe.parse(yaml.safe_load((folder.parent / f"{name}.yaml").read_text()), name)
    return run(config, RunFolder(folder / name), lambda line: None, on_epoch)


def kill_at_two(seed: int, row: dict) -> None:
    if row["epoch"] == 2:
        raise Killed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """one/ holds what one process has trained, two/ what two have."""
    folder = tmp_path_factory.mktemp("processes")
    records = sorted(Petousis2017(Petousis2017.Hypers()).records(), key=lambda record: record.key)[:24]
    content = {r.key: {"structure": r.structure.as_dict(), "total": r.targets["total"].tolist()} for r in records}
    (folder / "crystals.json").write_text(json.dumps(content))
    for name, content in RECIPES.items():
        content["dataset"]["path"] = str(folder / "crystals.json")
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    for name in ("whole", "edges"):
        with recorded_gradients(folder / f"gradients_{name}.pt"):
            train(folder / "one", name)
    with pytest.raises(Killed):
        train(folder / "two", "begun_by_one", kill_at_two)
    (line,) = [shlex.split(block) for block in blocks(GUIDE.read_text()) if block.startswith("torchrun")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *line[1 : line.index("-m")]]
    ended = subprocess.run([*torchrun, str(PAIR), str(folder)], capture_output=True, text=True, timeout=300)
    assert (folder / "left_alone.txt").is_file(), ended.stderr
    return folder


def told(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"told_{rank}.json").read_text())


def same(folder: Path, one: str, two: str) -> None:
    """The same to the rounding of sums in another order."""
    a, b = (read_history(RunFolder(folder / path).seed(0)) for path in (one, two))
    assert len(a) == len(b) > 1
    for before, after in zip(a, b, strict=True):
        assert after == pytest.approx(before, rel=1e-4)
    content = [read_json(RunFolder(folder / path).result) for path in (one, two)]
    for part in ("val", "test"):
        for name in ("mae_ten", "frobenius"):
            assert content[1][part][name]["mean"] == pytest.approx(content[0][part][name]["mean"], rel=1e-3), name


@pytest.mark.parametrize("name", ["whole", "edges"])
def test_two_processes_train_what_one_trains(folder: Path, name: str) -> None:
    same(folder, f"one/{name}", f"two/{name}")
    assert told(folder, 0)["metrics"] == told(folder, 1)["metrics"], "what the last one did, all know"


@pytest.mark.parametrize("name", ["whole", "edges"])
def test_gradients_of_uneven_shares_are_those_of_one_process(folder: Path, name: str) -> None:
    """Batches of five crystals in shares of two and three; batches by edges, of which a process may have none."""
    one = torch.load(folder / f"gradients_{name}.pt", weights_only=True)
    for rank in (0, 1):
        steps = torch.load(folder / f"gradients_{name}_{rank}.pt", weights_only=True)
        assert len(steps) == len(one) == 3
        # Later steps start from weights that differ by rounding already.
        for ours, theirs in zip(steps[0], one[0], strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert (ours - theirs).norm() <= 1e-6 * max(float(theirs.norm()), 1e-3)


def test_two_processes_go_on_where_one_was_killed(folder: Path) -> None:
    same(folder, "one/whole", "two/begun_by_one")


def test_two_processes_that_were_stopped_train_what_two_train_bit_for_bit(folder: Path) -> None:
    whole, stopped = (RunFolder(folder / "two" / name) for name in ("whole", "stopped"))
    assert stopped.seed(0).history.read_bytes() == whole.seed(0).history.read_bytes()
    assert read_json(stopped.result) == read_json(whole.result)


def test_one_process_goes_on_where_two_were_ended(folder: Path) -> None:
    """And on the way: the one that is left when the other dies says so, and does not wait."""
    assert "another process of this run has ended" in (folder / "left_alone.txt").read_text()
    assert not RunFolder(folder / "two" / "ended").finished
    train(folder / "two", "ended")
    same(folder, "one/whole", "two/ended")


def test_the_first_process_alone_writes(folder: Path) -> None:
    assert any(path.endswith("history.csv") for path in told(folder, 0)["written"])
    assert told(folder, 1)["written"] == []


def test_a_checkpoint_does_not_tell_how_many_there_were(folder: Path) -> None:
    shapes = [
        {name: value.shape for name, value in flat(torch.load(path, weights_only=True)).items()}
        for path in (folder / "one/whole/seed_0/last.pt", folder / "two/whole/seed_0/last.pt")
    ]
    assert shapes[0] == shapes[1]


def flat(content: dict, prefix: str = "") -> dict[str, torch.Tensor]:
    found = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, torch.Tensor):
            found[f"{prefix}{name}"] = value
    return found


def test_a_loss_of_nan_ends_all(folder: Path) -> None:
    for rank in (0, 1):
        assert "lower training.learning_rate" in told(folder, rank)["diverged"]


def test_what_cannot_be_trained_in_several_processes_is_refused(tmp_path: Path) -> None:
    refused(zoo("run", "ablation_bonds", "--processes", "2", cwd=tmp_path), "a sweep trains each cell in one process")
    refused(zoo("run", "dtnet_total", "device=mps", "--processes", "2", cwd=tmp_path), "'mps' is for one process")
