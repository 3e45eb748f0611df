"""A sweep as an Optuna study: the queue of its cells, which several processes share, and the result of each."""

from __future__ import annotations

import gc
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import Any

import optuna
import torch
from filelock import FileLock
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from zoo.errors import ZooError
from zoo.evaluation.metrics import primary
from zoo.storage.cache import content_key
from zoo.storage.run_folder import RunFolder, read_json
from zoo.sweep.axes import Axis
from zoo.sweep.cells import Cell, expand, one_line
from zoo.sweep.check import check_all
from zoo.sweep.sweep_config import Plan
from zoo.sweep.sweep_folder import CellFolder, SweepFolder
from zoo.workflows.train import refuse_another_recipe

CELL = "zoo_cell"
"""User attribute of a grid's trial: slug of the cell."""

Echo = Callable[[str], None]
EpochHook = Callable[[int, dict[str, float]], None]
Train = Callable[[Cell, RunFolder, EpochHook], dict[str, Any]]
"""Trains a cell in its folder and calls the hook after every epoch: (cell, folder, on_epoch) -> metrics.json."""


class Study(ABC):
    """The Optuna study of a sweep. A grid and a search differ in the trial that comes next.

    Attributes:
        space: axis -> distribution of its values.
        blocked: slug -> reason for every cell that cannot work on this machine; `check` fills it.
    """

    space: dict[str, BaseDistribution]

    def __init__(self, plan: Plan, folder: SweepFolder) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.plan, self.folder = plan, folder
        self.blocked: dict[str, str] = {}

    @abstractmethod
    def check(self) -> None:
        """Check the recipes of the cells before anything is written.

        Raises:
            ZooError: a recipe is wrong, or no cell can work.
        """

    @property
    @abstractmethod
    def size(self) -> str:
        """Number of cells or trials, in words."""

    @property
    @abstractmethod
    def axes(self) -> Sequence[Axis]:
        """The axes with the values that occur."""

    @property
    def best(self) -> str | None:
        """The best trial of a search in one line; None for a grid."""
        return None

    @abstractmethod
    def cells(self) -> list[Cell]:
        """The cells of this folder, trained or not."""

    @abstractmethod
    def start(self) -> None:
        """Prepare the queue; called at the start of every process, with the folder's lock held."""

    @abstractmethod
    def next(self, claims: ExitStack) -> tuple[FrozenTrial, Cell] | None:
        """Start the next trial and claim its cell until `claims` closes; None if nothing is left to do.

        Called with the folder's lock held.
        """

    @abstractmethod
    def ours(self, trial: FrozenTrial) -> bool:
        """True if a process of this folder trains the trial."""

    @abstractmethod
    def title(self, cell: Cell) -> str:
        """One line about a cell that is about to be trained."""

    @cached_property
    def study(self) -> optuna.Study:
        """The study, made by the first process that asks for it."""
        return open_study(self.plan.base.name, self.folder)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials so far, without copies."""
        return self.study.get_trials(deepcopy=False)

    def run(self, train: Train, after: Callable[[], None], echo: Echo) -> None:
        """Train cells until none is left that no other process trains; a cell that fails does not stop the others.

        Args:
            train: trains a cell.
            after: called after each cell, for the table.
            echo: prints a line.

        Raises:
            ZooError: a cell's folder was begun with another recipe.
        """
        with self.folder.locked():
            self.start()
        for slug, reason in self.blocked.items():
            echo(f"cannot    {slug}: {reason}")
        while True:
            with ExitStack() as claims:
                with self.folder.locked():
                    claimed = self.next(claims)
                if claimed is None:
                    break
                trial, cell = claimed
                metrics = self._attempt(cell, train, echo)
                if metrics is None:
                    self.study.tell(trial.number, state=TrialState.FAIL)
                else:
                    self.study.tell(trial.number, objective(metrics))
            after()
        after()
        elsewhere = sum(trial.state == TrialState.RUNNING and self.ours(trial) for trial in self.trials)
        if elsewhere:
            echo(f"{elsewhere} of {self.size} are trained by other processes, which will add them to the table")

    def _attempt(self, cell: Cell, train: Train, echo: Echo) -> dict[str, Any] | None:
        """Train one cell; None, and the reason in its folder, if that fails. Ctrl-C is no failure.

        Raises:
            ZooError: the folder was begun with another recipe, as when the journal is lost and the folders are not.
        """
        place = self.folder.cell(cell.slug)
        refuse_another_recipe(cell.recipe, place.run)
        place.begin(cell)
        if cell.slug in self.blocked:
            place.fail(ZooError(self.blocked[cell.slug]))
            return None
        begin = time.monotonic()
        try:
            echo(self.title(cell))
            if place.run.finished:  # its process was killed before it could tell the study
                metrics: dict[str, Any] | None = read_json(place.run.result)
            else:
                metrics = train(cell, place.run, EpochTimer(place))
        except Exception as error:  # hours of work on other cells must not be lost with this one
            place.fail(error)
            echo(f"failed    {one_line(error)}")
            metrics = None
        else:
            place.failed.unlink(missing_ok=True)
            assert metrics is not None
            echo(f"done      {_result(metrics)}, {time.monotonic() - begin:.0f} s")
        gc.collect()  # memory of a large model is free for the next cell
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return metrics


class Grid(Study):
    """The study of a grid: a trial for each cell, enqueued once, and once more by each process that finds it failed.

    The parameters of a trial are the values of the axes as JSON texts, as Optuna's categories must be texts or numbers.
    Results are read from the cells' folders, so that folders of sweeps from before there was a study are continued.
    """

    def __init__(self, plan: Plan, folder: SweepFolder) -> None:
        super().__init__(plan, folder)
        self._cells = {cell.slug: cell for cell in expand(plan)}
        self.space = {
            axis.name: CategoricalDistribution(list(dict.fromkeys(_text(c, axis.name) for c in self._cells.values())))
            for axis in plan.axes
        }

    @cached_property
    def study(self) -> optuna.Study:
        """The study of exactly this grid: Optuna allows no new value of a parameter within one study."""
        key = content_key(json.dumps([[name, _choices(at)] for name, at in self.space.items()]))
        return open_study(f"{self.plan.base.name} {key[:12]}", self.folder)

    def check(self) -> None:
        """Check every cell.

        Raises:
            ZooError: a recipe is wrong, or no cell can work.
        """
        self.blocked = check_all(self.cells())

    @property
    def size(self) -> str:
        """Number of cells."""
        return f"{len(self._cells)} cells"

    @property
    def axes(self) -> Sequence[Axis]:
        """The grid's axes in the recipe's order."""
        return self.plan.axes

    def cells(self) -> list[Cell]:
        """A cell for each combination."""
        return list(self._cells.values())

    def ours(self, trial: FrozenTrial) -> bool:
        """True: the journal belongs to the folder."""
        return True

    def title(self, cell: Cell) -> str:
        """Number and choices of a cell."""
        return f"cell {list(self._cells).index(cell.slug) + 1} of {len(self._cells)}: {cell.title}"

    def start(self) -> None:
        """Enqueue the cells that have no trial yet or have failed, and add the results of an earlier sweep.

        Raises:
            ZooError: a cell's folder was begun with another recipe; nothing is enqueued then.
        """
        for cell in self.cells():
            refuse_another_recipe(cell.recipe, self.folder.cell(cell.slug).run)
        last = {trial.user_attrs[CELL]: trial.state for trial in self.trials}
        for cell in self.cells():
            state, run = last.get(cell.slug), self.folder.cell(cell.slug).run
            if state in (TrialState.WAITING, TrialState.RUNNING) or (state == TrialState.COMPLETE and run.finished):
                continue
            if run.finished:
                value, params = objective(read_json(run.result)), _params(cell)
                trial = optuna.create_trial(
                    value=value, params=params, distributions=self.space, user_attrs={CELL: cell.slug}
                )
                self.study.add_trial(trial)
            else:
                self._enqueue(cell)

    def next(self, claims: ExitStack) -> tuple[FrozenTrial, Cell] | None:
        """Fail the trials whose processes are gone and enqueue their cells again; then start the first in the queue."""
        for trial in self.trials:
            if trial.state == TrialState.RUNNING:
                cell = self._cells[trial.user_attrs[CELL]]
                with self.folder.cell(cell.slug).claimed() as free:
                    if free:
                        self._enqueue(cell)
                        self.study.tell(trial.number, state=TrialState.FAIL)
        # `ask` without a queue would invent a trial; nobody else empties it while the folder's lock is held.
        while any(trial.state == TrialState.WAITING for trial in self.trials):
            number = self.study.ask(self.space).number
            trial = self.trials[number]
            cell = self._cells[trial.user_attrs[CELL]]
            if claims.enter_context(self.folder.cell(cell.slug).claimed()):
                return trial, cell
        return None

    def _enqueue(self, cell: Cell) -> None:
        """Add a trial of the cell to the queue, unless one waits there."""
        waiting = [trial.user_attrs[CELL] for trial in self.trials if trial.state == TrialState.WAITING]
        if cell.slug not in waiting:
            self.study.enqueue_trial(_params(cell), user_attrs={CELL: cell.slug})


class EpochTimer:
    """Adds up the seconds of a cell's epochs, without the graphs and cached embeddings that cells share."""

    def __init__(self, place: CellFolder) -> None:
        self._place = place
        self._last: dict[int, float] = {}

    def __call__(self, seed: int, row: dict[str, float]) -> None:
        """Count the epoch that has just ended."""
        now = time.time()
        # A seed's training begins by writing its split.
        begin = self._last.get(seed) or self._place.run.seed(seed).split.stat().st_mtime
        self._place.spend(max(0.0, now - begin))
        self._last[seed] = now


def open_study(name: str, folder: SweepFolder, storage: str | None = None) -> optuna.Study:
    """Open a study, or make it: in a database, or in the journal file of the folder.

    Raises:
        ZooError: the storage cannot be opened.
    """
    try:
        if storage is None:
            # A lock of the operating system: one that a killed process held is free at once.
            lock: Any = FileLock(folder.path / ".journal.lock")
            folder.path.mkdir(parents=True, exist_ok=True)
            journal = JournalStorage(JournalFileBackend(str(folder.journal), lock_obj=lock))
        return optuna.create_study(
            study_name=name, storage=storage or journal, direction="minimize", load_if_exists=True
        )
    except Exception as error:  # the database's driver may raise anything
        reason = (str(error).splitlines() or [""])[0]
        place = storage or folder.journal
        raise ZooError(f"the study cannot be opened at {place} ({type(error).__name__}: {reason})") from None


def objective(metrics: dict[str, Any]) -> float:
    """The validation error that a study minimises: mean of the primary metric over the seeds; inf if undefined."""
    value = metrics["val"][primary(metrics)]["mean"]
    return float(value) if value is not None and math.isfinite(value) else math.inf


def _result(metrics: dict[str, Any]) -> str:
    name = primary(metrics)

    def words(part: str) -> str:
        entry = metrics[part][name]
        spread = f" ± {entry['std']:.3f}" if entry["std"] is not None else ""
        return f"{entry['mean']:.3f}{spread}"

    return f"{name} {words('test')} on test, {words('val')} on validation"


def _params(cell: Cell) -> dict[str, str]:
    return {name: _text(cell, name) for name in cell.labels}


def _text(cell: Cell, name: str) -> str:
    """A choice as a JSON text: its value or, of a named choice and of null, its label."""
    value = cell.values[name]
    return json.dumps(cell.labels[name] if value is None else value, default=str, ensure_ascii=False)


def _choices(distribution: BaseDistribution) -> list[Any]:
    assert isinstance(distribution, CategoricalDistribution)
    return list(distribution.choices)
