"""Crystals and folds for `zoo matbench`: of Matbench's package, of a file in its published layout, or of a stand-in."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pymatgen.core import Structure
from sklearn.model_selection import KFold

from zoo.config.recipe import Recipe
from zoo.data.matbench_file import COUNT, FOLD_COUNT, FOLD_SEED, MatbenchCrystals
from zoo.data.petousis2017 import Petousis2017
from zoo.data.pipeline import prepare
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal

TASK = "matbench_dielectric"
STAND_IN = "These are not Matbench's crystals: the numbers do not compare with its leaderboard."
PART = "A part of Matbench's crystals (data.limit): no entry of its leaderboard."

Source = Literal["auto", "matbench", "petousis2017"]


@dataclass(frozen=True)
class Crystals:
    """Labelled crystals: keys, structures and refractive indices (n,)."""

    keys: list[str]
    structures: Sequence[Structure] | Sequence[Crystal]
    indices: np.ndarray


@dataclass(frozen=True)
class Folds:
    """Crystals, and which of them each fold trains on and is tested on.

    Attributes:
        name: `matbench`, `petousis2017`, or of a file `matbench_dielectric`.
        folds: of each fold the positions of its training and of its test crystals.
        submit: writes the leaderboard's file from every fold's predictions, in the order of its test crystals, and
            returns its path; None where there is no leaderboard for these folds.
        note: says how far the numbers compare with the leaderboard; empty where they are an entry of it.
    """

    name: str
    crystals: Crystals
    folds: list[tuple[np.ndarray, np.ndarray]]
    submit: Callable[[Sequence[np.ndarray], Recipe, Path], Path] | None = None
    note: str = ""


def open_folds(source: Source, limit: int | None = None, echo: Callable[[str], None] = lambda line: None) -> Folds:
    """Matbench's own folds where package and data are at hand, else five folds of `petousis2017`.

    Args:
        source: `auto` takes Matbench's where it can.
        limit: only the first so many crystals, to try something out; such folds make no submission.
        echo: takes the line that says why Matbench's could not be had.

    Raises:
        ZooError: Matbench's are asked for and cannot be had.
    """
    if source != "petousis2017":
        try:
            return _limited(_matbench(), limit)
        except ZooError as error:
            if source == "matbench":
                raise
            echo(f"not Matbench's own folds: {error}")
    return _limited(_petousis(), limit)


def folds_of_file(found: MatbenchCrystals, limit: int | None = None) -> Folds:
    """Return Matbench's own folds of the crystals of a file, all of the task or a part.

    Raises:
        ZooError: too few crystals for five folds.
    """
    crystals = Crystals(found.keys, found.structures, found.indices)
    folds = [(np.flatnonzero(found.folds != k), np.flatnonzero(found.folds == k)) for k in range(FOLD_COUNT)]
    _refuse_few(folds, f"the file has {len(found.keys):,} crystals, too")
    missing = found.missing()
    without = f" (without {', '.join(missing)})" if 0 < len(missing) <= 5 else ""
    note = (
        f"Matbench's own folds of {len(found.keys):,} of its {COUNT:,} crystals{without}: no entry of its leaderboard."
        if missing
        else "All of Matbench's crystals and its own folds; --data matbench, its package, writes a leaderboard's file."
    )
    return _limited(Folds(TASK, crystals, folds, note=note), limit)


def _limited(folds: Folds, limit: int | None) -> Folds:
    if limit is None:
        return folds
    kept = [(train[train < limit], test[test < limit]) for train, test in folds.folds]
    _refuse_few(kept, f"data.limit {limit} leaves too")
    note = folds.note if folds.note == STAND_IN else PART
    return dataclasses.replace(folds, folds=kept, submit=None, note=note)


def _refuse_few(folds: Sequence[tuple[np.ndarray, np.ndarray]], told: str) -> None:
    if any(len(train) < 10 or len(test) < 1 for train, test in folds):
        raise ZooError(f"{told} few crystals for {len(folds)} folds; take more")


def _petousis() -> Folds:
    """n = sqrt(tr ε∞ / 3) of the embedded table's electronic tensors."""
    dataset = Petousis2017(Petousis2017.Hypers())
    ready = prepare(dataset, "electronic", cleaning=None, deduplicate=True, frame=None, on_bad_record="stop")
    found = ready.crystals
    traces = np.array([np.trace(found.tensor(i)) for i in range(len(found))])
    crystals = Crystals(found.keys, found, np.sqrt(traces / 3))
    folds = KFold(FOLD_COUNT, shuffle=True, random_state=FOLD_SEED).split(crystals.keys)
    return Folds("petousis2017", crystals, list(folds), note=STAND_IN)


def _matbench() -> Folds:
    if importlib.util.find_spec("matbench") is None or importlib.util.find_spec("matminer") is None:
        raise ZooError(
            "the package matbench is not installed. It pins versions from before Python 3.11: "
            "pip install --no-deps matbench && pip install matminer"
        )
    try:
        from matbench.bench import MatbenchBenchmark

        benchmark = MatbenchBenchmark(autoload=False, subset=[TASK])
        task = benchmark.matbench_dielectric
        task.load()
    except Exception as error:  # of matminer's download, of pandas, of versions that do not go together
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ZooError(
            f"the data of {TASK} cannot be had ({reason}): matminer downloads {TASK}.json.gz into its data folder "
            "(environment variable MATMINER_DATA); put the file there on a machine without network"
        ) from error
    frame = task.df
    crystals = Crystals(list(frame.index), list(frame["structure"]), frame["n"].to_numpy(dtype=np.float64))
    position = {key: i for i, key in enumerate(crystals.keys)}

    def positions(inputs: Any) -> np.ndarray:
        return np.array([position[key] for key in inputs.index])

    folds = [
        (positions(task.get_train_and_val_data(k)[0]), positions(task.get_test_data(k, include_target=False)))
        for k in task.folds
    ]

    def submit(predictions: Sequence[np.ndarray], config: Recipe, path: Path) -> Path:
        for number, predicted in zip(task.folds, predictions, strict=True):
            task.record(number, predicted, params={"recipe": config.name})
        benchmark.add_metadata({"algorithm": f"zoo: {config.encoder.name} + {config.readout.name}"})
        benchmark.to_file(str(path))
        return path

    return Folds("matbench", crystals, folds, submit)
