"""A search by Optuna in place of a grid; several processes, folders or machines may share the study."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import PurePath
from typing import Any

import yaml

from zoo.errors import ZooError
from zoo.storage.cache import content_key
from zoo.storage.run_folder import write_text
from zoo.sweep.axes import Axis, Choice, axis, label
from zoo.sweep.cells import Cell, cell, file_name
from zoo.sweep.check import check_all
from zoo.sweep.run_grid import Echo, Train, attempt, primary
from zoo.sweep.sweep_config import Choices, Optuna, Plan, Range
from zoo.sweep.sweep_folder import CellFolder, SweepFolder

OWNER = "zoo_sweep"  # attribute of a trial: which sweep folder trains it
QUESTION = "zoo_question"  # attribute of a study: key of what its trials vary, and how


class Search:
    """The study of a plan.

    Raises:
        ZooError: Optuna is missing, the storage cannot be opened, a range is empty; the study was begun with another
            recipe or search space.
    """

    def __init__(self, plan: Plan, folder: SweepFolder) -> None:
        if plan.sweep.optuna is None:
            raise ValueError("the plan has no search")
        try:
            import optuna
        except ImportError:
            raise ZooError('a search needs Optuna: pip install "crystal-tensor-zoo[optuna]"') from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self.plan, self.folder = plan, folder
        self.settings: Optuna = plan.sweep.optuna
        self.named = {key: axis(key, at.choices) for key, at in self.settings.search.items() if isinstance(at, Choices)}
        self.space = {key: self._distribution(key, at) for key, at in self.settings.search.items()}
        check_all(list(self._corners()))
        with folder.alone():
            self.owner = self._owner()
            self.study = self._open()
            self._refuse_another_question()

    def _distribution(self, key: str, at: Range | Choices) -> Any:
        kinds = self._optuna.distributions
        if isinstance(at, Choices):
            return kinds.CategoricalDistribution([choice.label for choice in self.named[key].choices])
        whole = isinstance(at.low, int) and isinstance(at.high, int) and (at.step is None or isinstance(at.step, int))
        try:
            if whole:
                return kinds.IntDistribution(at.low, at.high, log=at.log, step=at.step or 1)
            return kinds.FloatDistribution(at.low, at.high, log=at.log, step=at.step)
        except ValueError as error:
            raise ZooError(f"sweep.optuna.search '{key}': {error}") from None

    def _owner(self) -> str:
        place = self.folder.path / "owner.txt"
        if not place.is_file():
            write_text(place, uuid.uuid4().hex)
        return place.read_text(encoding="utf-8").strip()

    def _open(self) -> Any:
        storage: Any = self.settings.storage
        if storage is None:
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend

            # Unlike SQLite made for several processes.
            storage = JournalStorage(JournalFileBackend(str(self.folder.path / "study.journal")))
        try:
            return self._optuna.create_study(
                study_name=self.settings.study or self.plan.base.name,
                storage=storage,
                direction="minimize",
                load_if_exists=True,
            )
        except Exception as error:  # of the database's driver
            reason = (str(error).splitlines() or [""])[0]
            raise ZooError(f"the study cannot be opened at {storage} ({type(error).__name__}: {reason})") from None

    def _refuse_another_question(self) -> None:
        """A study is found by its name alone; objectives of two recipes must not be ranked together."""
        content = self.plan.content
        for key in ("name", "description", "device", "graph", "cache", "tracking"):  # may differ between sharers
            del content[key]
        if isinstance(content["dataset"].get("path"), str):  # the same file may lie elsewhere on another machine
            content["dataset"]["path"] = PurePath(content["dataset"]["path"]).name
        space = {key: self._optuna.distributions.distribution_to_json(at) for key, at in self.space.items()}
        named = {key: [(choice.label, choice.sets) for choice in one.choices] for key, one in self.named.items()}
        mine = content_key(json.dumps([content, space, named], sort_keys=True, default=str))
        known = self.study.user_attrs.get(QUESTION)
        if known is None:
            self.study.set_user_attr(QUESTION, mine)
        elif known != mine:
            raise ZooError(
                f"the study '{self.study.study_name}' was begun with another recipe or search space; "
                "choose another one with sweep.optuna.study=NAME, or another folder with --out"
            )

    def _choice(self, key: str, value: Any) -> Choice:
        if key in self.named:
            return next(choice for choice in self.named[key].choices if choice.label == value)
        return Choice(f"{value:.4g}" if isinstance(value, float) else label(value), value, {key: value})

    def _corners(self) -> Iterator[Cell]:
        """Recipes with each end of a range and each choice once: a wrong key or value shows before the first trial."""
        first = {key: self._options(key)[0] for key in self.space}
        for key in self.space:
            for option in self._options(key):
                yield cell(self.plan, file_name(f"{key} {option.label}"), {**first, key: option})

    def _options(self, key: str) -> list[Choice]:
        if key in self.named:
            return list(self.named[key].choices)
        return [self._choice(key, self.space[key].low), self._choice(key, self.space[key].high)]

    def cell(self, trial: Any) -> Cell:
        """The cell of a trial."""
        return cell(self.plan, slug(trial), {key: self._choice(key, trial.params[key]) for key in self.space})

    def cells(self) -> list[Cell]:
        """List the cells of this folder, in the order of the trials."""
        return [self.cell(trial) for trial in self.study.get_trials(deepcopy=False) if self._ours(trial)]

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Return the searched axes with the values that were tried, for the table and the figure."""
        tried = [trial for trial in self.study.get_trials(deepcopy=False) if self._ours(trial)]
        return tuple(Axis(key, tuple(self._choice(key, trial.params[key]) for trial in tried)) for key in self.space)

    def _ours(self, trial: Any) -> bool:
        return trial.user_attrs.get(OWNER) == self.owner and set(self.space) <= set(trial.params)

    def next(self, stack: ExitStack) -> tuple[Any, CellFolder] | None:
        """A trial and its folder, claimed until the stack closes; None when there are as many as were asked for.

        First one of this folder that a stopped process has left, then a new one.
        """
        running = self._optuna.trial.TrialState.RUNNING
        with self.folder.alone():
            trials = self.study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state == running and self._ours(trial):
                    place = self.folder.cell(slug(trial))
                    if stack.enter_context(place.claimed()):
                        return trial, place
            # A process that died between asking and signing leaves a trial that nobody trains.
            if sum(trial.state != running or OWNER in trial.user_attrs for trial in trials) >= self.settings.trials:
                return None
            # New numbers for each trial, the same whether the search was stopped before it or not.
            seed = (self.settings.seed * 1_000_003 + len(trials)) % 2**31
            samplers = self._optuna.samplers
            tpe = self.settings.sampler == "tpe"
            self.study.sampler = samplers.TPESampler(seed=seed) if tpe else samplers.RandomSampler(seed=seed)
            asked = self.study.ask(fixed_distributions=self.space)
            asked.set_user_attr(OWNER, self.owner)
            place = self.folder.cell(slug(asked))
            stack.enter_context(place.claimed())
            return asked, place

    def run(self, train: Train, after: Callable[[], None], echo: Echo) -> None:
        """Trials until there are as many as were asked for, those of other processes and failed ones counted."""
        while True:
            with ExitStack() as stack:
                claimed = self.next(stack)
                if claimed is None:
                    break
                trial, place = claimed
                made = self.cell(trial)
                title = f"trial {trial.number + 1} of {self.settings.trials}: " + ", ".join(
                    f"{key} {text}" for key, text in made.labels.items()
                )
                content = attempt(made, place, train, None, title, echo)
                if content is None:
                    self.study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
                else:
                    self.study.tell(trial.number, content["val"][primary(content)]["mean"])
            after()
        after()

    @property
    def best(self) -> str | None:
        """The best trial of the study in one line, as overrides that make its recipe; None before the first is done."""
        try:
            trial = self.study.best_trial
        except ValueError:
            return None
        sets = [pair for key in self.space for pair in self._choice(key, trial.params[key]).sets.items()]
        overrides = " ".join(shlex.quote(f"{key}={_yaml(value)}") for key, value in sets)
        return f"trial {trial.number + 1}, objective {trial.value:.4g}: {overrides}"


def _yaml(value: Any) -> str:
    """A value in full, in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text.removesuffix("\n").removesuffix("\n...")


def slug(trial: Any) -> str:
    """`trial-001`, counted from one."""
    return f"trial-{trial.number + 1:03d}"
