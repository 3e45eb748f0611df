"""The untouched works that are tortured, each made when it is first asked for: small, and with checksums."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from torture import child, inject

OFF = {"tracking": {"enabled": False}, "device": "cpu"}
SMALL: dict[str, Any] = {
    "name": "small",
    "target": "total",
    "encoder": {"name": "sevennet"},
    "readout": {"name": "dtnet", "width": 4, "blocks": 1},
    "split": {"seed": 0},
    "training": {"max_epochs": 2},
    **OFF,
}


class Made:
    """A folder with everything, and the seconds that it took to make.

    Attributes:
        place: the folder.
        case: the folder in which the commands of a case work, which is not there between cases.
        seconds: spent on making, which no kind has to pay for.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.seconds, self._depth = place, 0.0, 0
        self.crystals = place / "crystals.json"
        self.cache = place / "cache"
        self.case = place / "case"
        self.cache_of_discovery = place / "cache of the discovery"
        self.env = {"ZOO_CACHE": str(self.cache)}
        self.timed(self._write_inputs)

    def timed(self, make: Callable[[], Any]) -> Any:
        """Do what is no torture itself."""
        began = time.monotonic()
        self._depth += 1
        try:
            return make()
        finally:
            self._depth -= 1
            if not self._depth:
                self.seconds += time.monotonic() - began

    def zoo(self, *arguments: str, **env: str) -> None:
        """A command that has to do well."""
        ended = child.zoo(*arguments, cwd=self.place, log=self.place / "log", env=self.env | env)
        assert ended.returncode == 0, f"zoo {' '.join(arguments)}: {ended.stderr}"

    def _write_inputs(self) -> None:
        from discovery.discovered import MODEL, labelled, write_discovery
        from pymatgen.core import Lattice, Structure
        from screened import crystal, write_json

        from zoo.data.petousis2017 import Petousis2017

        records = (record for record, _ in zip(Petousis2017(Petousis2017.Hypers()).records(), range(16), strict=False))
        entries = {r.key: {"structure": r.structure.as_dict(), "total": r.targets["total"].tolist()} for r in records}
        self.crystals.write_text(json.dumps(entries))
        salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        salt.to(str(self.place / "NaCl.cif"))
        crystal(3).to(str(self.place / "low.cif"))
        write_discovery(self.place, filters={"min_band_gap": None, "max_energy_above_hull": None}, top=3)
        small = SMALL | {"dataset": {"name": "file", "path": str(self.crystals), "targets": {"total": {}}}}
        self.write("small.yaml", small | {"seeds": [0, 1]})
        self.write("sweep.yaml", small | {"name": "grid", "sweep": {"grid": {"readout.width": [4, 8]}}})
        write_json(self.place / "candidates.json", 24)
        self.write("screen.yaml", {
            "name": "mine", "model": str(self.place / "run"),
            "candidates": {"path": str(self.place / "candidates.json")},
            "filters": {"min_band_gap": None, "max_energy_above_hull": None}, "top": 6, "chunk": 8, "device": "cpu",
        })  # fmt: skip
        (self.place / "known.json").write_text(json.dumps(labelled(range(20))))
        (self.place / "all.json").write_text(json.dumps(labelled(range(32))))
        model = MODEL | {"name": "known", "dataset": {"name": "file", "path": str(self.place / "known.json")}}
        self.write("small_discovery.yaml", model | {"training": {"max_epochs": 1, "batch_size": 8}})
        find = yaml.safe_load((self.place / "find.yaml").read_text())
        find["model"]["recipe"] = str(self.place / "small_discovery.yaml")
        for section in (find["candidates"], find["oracle"]):
            section["dataset"] = {"name": "file", "path": str(self.place / "all.json")}
        self.write("find.yaml", find)
        self._write_tiny(find)

    def _write_tiny(self, find: dict[str, Any]) -> None:
        """Write the recipes of the works that faults are injected into, hundreds of times."""
        from discovery.discovered import labelled
        from screened import write_json

        write_json(self.place / "few.json", 9)
        screen = yaml.safe_load((self.place / "screen.yaml").read_text())
        screen["candidates"] = {"path": str(self.place / "few.json")}
        self.write("tiny_screen.yaml", screen | {"top": 3, "chunk": 4})
        (self.place / "few_known.json").write_text(json.dumps(labelled(range(12))))
        (self.place / "few_more.json").write_text(json.dumps(labelled(range(18))))
        model = yaml.safe_load((self.place / "small_discovery.yaml").read_text())
        model["dataset"]["path"] = str(self.place / "few_known.json")
        model["encoder"] = {
            "name": "painn",
            "cutoff": 3.0,
            "channels": 4,
            "layers": 1,
        }  # made in no time
        model["readout"] = {"name": "painn-rank1", "width": 4}
        self.write("tiny_discovery.yaml", model)
        candidates = {"name": "file", "path": str(self.place / "few_more.json")}
        self.write("tiny_find.yaml", find | {
            "model": {"recipe": str(self.place / "tiny_discovery.yaml"), "members": 1, "last": False},
            "acquisition": {"name": "greedy"}, "candidates": {"dataset": candidates},
            "oracle": {"name": "replay", "dataset": candidates}, "top": 2, "rounds": 2,
        })  # fmt: skip

    def write(self, name: str, content: dict[str, Any]) -> None:
        """A recipe."""
        (self.place / name).write_text(yaml.safe_dump(content, sort_keys=False))

    def _made(self, name: str, *arguments: str, **env: str) -> Path:
        self.timed(lambda: self.zoo(*arguments, "--out", name, **env))
        return self.place / name

    @cached_property
    def run(self) -> Path:
        """The folder of a finished run of two seeds; `cache` is then warm, and `operations` are known."""
        return self._made("run", "run", "small.yaml", ZOO_TORTURE_ROOT=str(self.place), ZOO_TORTURE_LOG=str(self._log))

    @property
    def _log(self) -> Path:
        return self.place / "operations"

    @cached_property
    def operations(self) -> list[tuple[str, str]]:
        """Kind and path of each write, fsync and rename of the run, which began with an empty cache."""
        assert self.run
        return inject.operations(self._log)

    @cached_property
    def half(self) -> Path:
        """A run that was killed when its second seed had one of its two epochs behind it."""
        assert self.run

        def make() -> None:
            counted = {"ZOO_TORTURE_ROOT": str(self.place), "ZOO_TORTURE_LOG": str(self.place / "warm operations")}
            self.zoo("run", "small.yaml", "--out", "warm", **counted)
            done = inject.operations(self.place / "warm operations")
            first = done.index(("rename", "warm/seed_1/last.pt"))
            at = {"ZOO_TORTURE_ROOT": str(self.place), "ZOO_TORTURE_FAIL_AT": str(first + 4)}
            ended = child.zoo(
                "run", "small.yaml", "--out", "half", cwd=self.place, log=self.place / "log", env=self.env | at
            )
            assert ended.returncode < 0, ended

        self.timed(make)
        return self.place / "half"

    @cached_property
    def refit(self) -> Path:
        """A model on all crystals, after two folds: the run, and another one like it."""
        assert self.run
        self._made("fold", "run", "small.yaml", "split.seed=1")
        return self._made("refit", "refit", "run", "fold")

    @cached_property
    def sweep(self) -> Path:
        """A sweep of two cells."""
        assert self.run
        return self._made("sweep", "run", "sweep.yaml")

    @cached_property
    def screening(self) -> Path:
        """A screening of three parts, by the run's model."""
        assert self.run
        return self._made("screening", "screen", "screen.yaml")

    @cached_property
    def discovery(self) -> Path:
        """A search of two rounds, whose labels are replayed."""

        def make() -> None:
            # Its recipes have its path in them: it is made where its copies will be.
            self.case.mkdir()
            env = {"ZOO_CACHE": str(self.cache_of_discovery)}
            self.zoo("discover", "find.yaml", "--out", str(self.case / "copy"), **env)
            (self.case / "copy").replace(self.place / "discovery")
            self.case.rmdir()

        self.timed(make)
        return self.place / "discovery"

    @cached_property
    def features(self) -> Path:
        """A folder with the embedding files of two crystals, by the run's encoder, in both formats."""
        assert self.run
        folder = self.place / "features"
        folder.mkdir()
        for name in ("features.parquet", "features.npz"):
            command = ("embed", "run", "NaCl.cif", "low.cif", "--out", f"features/{name}")
            self.timed(lambda command=command: self.zoo(*command))
        return folder

    @cached_property
    def database(self) -> Path:
        """An mlflow.db with all tables and nothing in them."""
        path = self.place / "empty.db"

        def work() -> None:
            from mlflow.store.db.utils import _initialize_tables
            from sqlalchemy import create_engine

            _initialize_tables(create_engine(f"sqlite:///{path}"))

        self.timed(lambda: child.Running(work, self.place, self.env, self.place / "log").wait())
        return path

    @cached_property
    def tracked(self) -> Path:
        """A folder with the run as `run`, sent to the mlflow.db beside it."""
        folder = self.place / "tracked"
        shutil.copytree(self.run, folder / "run")

        def make() -> None:
            shutil.copy(self.database, folder / "mlflow.db")
            ended = child.zoo("track", "run", cwd=folder, log=self.place / "log", env=self.env)
            assert ended.returncode == 0, ended

        self.timed(make)
        return folder

    @cached_property
    def statements(self) -> int:
        """Number of SQL statements for making the database and sending the run."""
        folder = self.place / "counted"
        shutil.copytree(self.run, folder / "run")
        env = self.env | {"ZOO_TORTURE_SQL_AT": "0", "ZOO_TORTURE_SQL_LOG": str(folder / "statements")}

        def make() -> None:
            ended = child.zoo("track", "run", cwd=folder, log=self.place / "log", env=env, quick=False)
            assert ended.returncode == 0, ended

        self.timed(make)
        return len((folder / "statements").read_text(encoding="utf-8").splitlines())
