"""Make tests/saved: one of each thing that a user keeps, by the zoo as it is: python scripts/make_saved.py ZOO FOLDER.

ZOO is the command to make them with. What is in tests/saved was made by commit d6a843d, before the core was laid out
anew: every later version must load it, predict with it, serve it and go on where it was stopped (tests/test_saved.py).
"""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from pymatgen.core import Lattice, Structure

PLACEHOLDER = "@SAVED@"
"""Stands in the saved files for the folder in which they were made."""
SMALL = {
    "name": "small_total",
    "dataset": {"name": "petousis2017"},
    "target": "total",
    "data": {"limit": 40},
    "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
    "readout": {"name": "dtnet", "width": 8, "blocks": 1},
    "split": {"seed": 0},
    "training": {"max_epochs": 40, "batch_size": 16},
    "seeds": [0, 1],
    "device": "cpu",
}
METALS, NONMETALS = ("Li", "Na", "K", "Mg", "Ca", "Sr", "Zn", "Al"), ("F", "Cl", "Br", "O", "S", "Se")


def crystal(number: int) -> Structure:
    """A distorted rock salt of its own for each number."""
    random = np.random.default_rng(number)
    species = [METALS[number % len(METALS)], NONMETALS[number % len(NONMETALS)]]
    cell = random.uniform(3.6, 4.6) * np.array([[0, 0.7, 0.7], [0.7, 0, 0.7], [0.7, 0.7, 0]])
    return Structure(Lattice(cell @ (np.eye(3) + 0.04 * random.normal(size=(3, 3)))), species, [[0, 0, 0], [0.5] * 3])


def labelled(count: int) -> str:
    """Crystals with invented tensors, as the dataset `file` reads them."""
    entries = {}
    for number in range(count):
        part = np.random.default_rng(1000 + number).normal(size=(3, 3))
        tensor = ((3 + number % 11) * np.eye(3) + 0.2 * (part + part.T)).tolist()
        entries[f"c-{number:04d}"] = {"structure": crystal(number).as_dict(), "total": tensor}
    return json.dumps(entries)


class Maker:
    """Runs the command `zoo` in one folder."""

    def __init__(self, command: str, folder: Path) -> None:
        self.command = str(Path(command).absolute())
        self.folder = folder

    def zoo(self, *arguments: str) -> str:
        """Run it to its end; what it printed."""
        done = subprocess.run([self.command, *arguments], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def killed(self, *arguments: str, when: Callable[[], bool]) -> None:
        """Run it, and kill it as soon as `when` is true."""
        process = subprocess.Popen([self.command, *arguments], cwd=self.folder, start_new_session=True)
        while not when():
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()


def main(command: str, folder: Path) -> None:
    """Make everything in an empty folder."""
    folder.mkdir(parents=True)
    make = Maker(command, folder)
    write = lambda name, content: (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))  # noqa: E731
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    salt.to(str(folder / "NaCl.cif"))
    crystal(3).to(str(folder / "low.cif"))
    (folder / "known.json").write_text(labelled(24))
    (folder / "all.json").write_text(labelled(54))
    off = {"tracking": {"enabled": False}}
    write("small.yaml", SMALL)
    write("sweep.yaml", SMALL | off | {"name": "grid", "seeds": [0], "sweep": {"grid": {"readout.width": [4, 8]}}})
    search = {"trials": 3, "search": {"readout.width": {"choices": [4, 8]}}, "storage": "sqlite:///study.db"}
    write("optuna.yaml", SMALL | off | {"name": "search", "seeds": [0], "sweep": {"optuna": search}})
    screen = {"name": "mine", "model": "run", "candidates": {"path": "all.json"}, "top": 6, "chunk": 8, "device": "cpu"}
    write("screen.yaml", screen | {"filters": {"min_band_gap": None, "max_energy_above_hull": None}})
    model = SMALL | off | {"name": "known", "dataset": {"name": "file", "path": "known.json"}}
    write("known.yaml", model | {"data": {"deduplicate": False}})
    everything = {"name": "file", "path": "all.json"}
    find = {"name": "find", "model": {"recipe": "known.yaml", "members": 2}, "candidates": {"dataset": everything}}
    find |= {"oracle": {"name": "replay", "dataset": everything}, "rounds": 2, "top": 4, "device": "cpu"}
    write("discover.yaml", find | off | {"filters": {"min_band_gap": None, "max_energy_above_hull": None}})

    rows = lambda path: path.read_text().count("\n") if path.is_file() else 0  # noqa: E731
    make.zoo("run", "small.yaml", "--out", "run")
    make.killed("run", "small.yaml", "tracking.enabled=false", "training.max_epochs=60", "--out", "run_killed",
                when=lambda: rows(folder / "run_killed/seed_1/history.csv") > 5)  # fmt: skip
    make.zoo("run", "sweep.yaml", "--out", "sweep")
    make.killed("run", "sweep.yaml", "training.max_epochs=60", "--out", "sweep_killed",
                when=lambda: rows(folder / "sweep_killed/cells/width-8/seed_0/history.csv") > 5)  # fmt: skip
    make.zoo("run", "optuna.yaml", "--out", "optuna")
    make.zoo("screen", "screen.yaml", "--out", "screen")
    make.killed("screen", "screen.yaml", "chunk=4", "--out", "screen_killed",
                when=lambda: (folder / "screen_killed/parts/000004.parquet").is_file())  # fmt: skip
    make.zoo("discover", "discover.yaml", "--out", "discover")
    make.killed("discover", "discover.yaml", "--out", "discover_killed",
                when=lambda: rows(folder / "discover_killed/round_2/model/seed_1/history.csv") > 5)  # fmt: skip
    make.zoo("embed", "run", "NaCl.cif", "low.cif", "--out", "features.npz")
    make.zoo("embed", "run", "NaCl.cif", "low.cif", "--out", "features.parquet")
    expected = json.loads(make.zoo("predict", "run", "NaCl.cif", "low.cif", "--format", "json", "--neighbours", "2"))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    slim(folder)


def slim(folder: Path) -> None:
    """Take out what nothing reads, and the names of this machine's folders."""
    for path in [*folder.rglob("*.png"), *folder.rglob("card.html"), *folder.rglob(".lock"), *folder.rglob("*.lock")]:
        path.unlink(missing_ok=True)
    with (folder / "mlflow.db").open("rb") as source, gzip.open(folder / "mlflow.db.gz", "wb", 9) as target:
        shutil.copyfileobj(source, target)
    (folder / "mlflow.db").unlink()
    here = str(folder.absolute())
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".yaml", ".csv", ".md", ".journal") or path.name == "MLmodel":
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(here, PLACEHOLDER), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
