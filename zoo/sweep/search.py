"""A search by Optuna in place of a grid; several processes, folders or machines may share the study."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import PurePath
from typing import Any

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from zoo.config.sections import ForceConstants, Training
from zoo.errors import ZooError
from zoo.storage.cache import content_key
from zoo.storage.run_folder import write_text
from zoo.sweep.axes import Axis, Choice, label, parse_axis
from zoo.sweep.cells import Cell, build_cell, file_name
from zoo.sweep.check import check_all
from zoo.sweep.study import Grid, Study, open_study
from zoo.sweep.sweep_config import Choices, Plan, Range
from zoo.sweep.sweep_folder import SweepFolder

OWNER = "zoo_sweep"
"""User attribute of a trial: the sweep folder that trains it."""
QUESTION = "zoo_question"
"""User attribute of a study: key of the recipe and the search space."""


class Search(Study):
    """The study of a search.

    A trial whose process is gone is continued under its number, from the last checkpoint, by a process of its folder.

    Raises:
        ZooError: the storage cannot be opened, a range is empty, or the study was begun with another recipe or space.
    """

    def __init__(self, plan: Plan, folder: SweepFolder) -> None:
        super().__init__(plan, folder)
        if plan.sweep.optuna is None:
            raise ValueError("the plan has no search")
        self.settings = plan.sweep.optuna
        self._named = {
            key: parse_axis(key, at.choices) for key, at in self.settings.search.items() if isinstance(at, Choices)
        }
        self.space = {key: self._distribution(key, at) for key, at in self.settings.search.items()}
        self.check()
        with folder.locked():
            self.owner = self._owner()
            self.study = open_study(self.settings.study or plan.base.name, folder, self.settings.storage)
            self._refuse_another_question()

    def check(self) -> None:
        """Check the recipes with each end of a range and each choice once.

        Raises:
            ZooError: a key or a value is wrong.
        """
        check_all(list(self._corners()))

    @property
    def size(self) -> str:
        """Number of trials."""
        return f"{self.settings.trials} trials"

    @property
    def axes(self) -> Sequence[Axis]:
        """The searched keys with the values that were tried, in the order of the trials."""
        tried = [trial for trial in self.trials if self.ours(trial)]
        return [Axis(key, tuple(self._choice(key, trial.params[key]) for trial in tried)) for key in self.space]

    @property
    def best(self) -> str | None:
        """The best trial in one line, as overrides that make its recipe; None before the first is done."""
        try:
            trial = self.study.best_trial
        except ValueError:
            return None
        sets = [pair for key in self.space for pair in self._choice(key, trial.params[key]).sets.items()]
        overrides = " ".join(shlex.quote(f"{key}={_yaml(value)}") for key, value in sets)
        return f"trial {trial.number + 1}, objective {trial.value:.4g}: {overrides}"

    def cells(self) -> list[Cell]:
        """The cells of this folder, in the order of the trials."""
        return [self._cell(trial) for trial in self.trials if self.ours(trial)]

    def title(self, cell: Cell) -> str:
        """Number and choices of a trial."""
        choices = ", ".join(f"{key} {text}" for key, text in cell.labels.items())
        return f"trial {int(cell.slug.removeprefix('trial-'))} of {self.settings.trials}: {choices}"

    def start(self) -> None:
        """Do nothing: the sampler chooses the trials one after another."""

    def next(self, claims: ExitStack) -> tuple[FrozenTrial, Cell] | None:
        """Continue a trial of this folder whose process is gone, else start a new one.

        Trials of other processes and failed ones count.
        """
        running = TrialState.RUNNING
        for trial in self.trials:
            if trial.state == running and self.ours(trial):
                cell = self._cell(trial)
                if claims.enter_context(self.folder.cell(cell.slug).claimed()):
                    return trial, cell
        # A process that died before it signed its trial leaves one that nobody trains.
        known = self.trials
        if sum(trial.state != running or OWNER in trial.user_attrs for trial in known) >= self.settings.trials:
            return None
        # The seed depends on the number of trials alone, so that a stopped search goes on as if it had not been.
        seed = (self.settings.seed * 1_000_003 + len(known)) % 2**31
        self.study.sampler = TPESampler(seed=seed) if self.settings.sampler == "tpe" else RandomSampler(seed=seed)
        started = self.study.ask(fixed_distributions=self.space)
        started.set_user_attr(OWNER, self.owner)
        trial = self.trials[started.number]
        cell = self._cell(trial)
        claims.enter_context(self.folder.cell(cell.slug).claimed())
        return trial, cell

    def _distribution(self, key: str, at: Range | Choices) -> BaseDistribution:
        if isinstance(at, Choices):
            return CategoricalDistribution([choice.label for choice in self._named[key].choices])
        try:
            if isinstance(at.low, int) and isinstance(at.high, int) and (at.step is None or isinstance(at.step, int)):
                return IntDistribution(at.low, at.high, log=at.log, step=at.step or 1)
            return FloatDistribution(at.low, at.high, log=at.log, step=at.step)
        except ValueError as error:
            raise ZooError(f"sweep.optuna.search '{key}': {error}") from None

    def _owner(self) -> str:
        place = self.folder.path / "owner.txt"
        if not place.is_file():
            write_text(place, uuid.uuid4().hex)
        return place.read_text(encoding="utf-8").strip()

    def _refuse_another_question(self) -> None:
        """Check that the study, found by its name alone, has the same recipe: objectives of two must not be ranked."""
        content = self.plan.content
        for key in ("name", "description", "device", "graph", "cache", "tracking"):  # may differ between sharers
            del content[key]
        for choice in (content["dataset"], *content["auxiliary"]):
            if isinstance(choice.get("path"), str):  # the same file may lie elsewhere on another machine
                choice["path"] = PurePath(choice["path"]).name
        # Studies that were begun before there were these keys know nothing of them.
        if content.get("force_constants") == ForceConstants().model_dump(mode="json"):
            del content["force_constants"]
        if not content["auxiliary"]:
            del content["auxiliary"]
        training, usual = content["training"], Training().model_dump(mode="json")
        for key in ("labels", "auxiliary_share"):
            if training[key] == usual[key]:
                del training[key]
        space = {key: distribution_to_json(at) for key, at in self.space.items()}
        named = {key: [(choice.label, choice.sets) for choice in axis.choices] for key, axis in self._named.items()}
        question = content_key(json.dumps([content, space, named], sort_keys=True, default=str))
        known = self.study.user_attrs.get(QUESTION)
        if known is None:
            self.study.set_user_attr(QUESTION, question)
        elif known != question:
            raise ZooError(
                f"the study '{self.study.study_name}' was begun with another recipe or search space; "
                "choose another one with sweep.optuna.study=NAME, or another folder with --out"
            )

    def _choice(self, key: str, value: Any) -> Choice:
        if key in self._named:
            return next(choice for choice in self._named[key].choices if choice.label == value)
        return Choice(f"{value:.4g}" if isinstance(value, float) else label(value), value, {key: value})

    def _corners(self) -> Iterator[Cell]:
        options = {key: self._options(key) for key in self.space}
        first = {key: choices[0] for key, choices in options.items()}
        for key, choices in options.items():
            for choice in choices:
                yield build_cell(self.plan, file_name(f"{key} {choice.label}"), {**first, key: choice})

    def _options(self, key: str) -> list[Choice]:
        at = self.settings.search[key]
        if isinstance(at, Range):
            return [self._choice(key, at.low), self._choice(key, at.high)]
        return list(self._named[key].choices)

    def ours(self, trial: FrozenTrial) -> bool:
        """True if this folder has signed the trial and its values are known."""
        return trial.user_attrs.get(OWNER) == self.owner and set(self.space) <= set(trial.params)

    def _cell(self, trial: FrozenTrial) -> Cell:
        chosen = {key: self._choice(key, trial.params[key]) for key in self.space}
        return build_cell(self.plan, f"trial-{trial.number + 1:03d}", chosen)


def study_of(plan: Plan, folder: SweepFolder) -> Study:
    """The study of a plan: a grid or a search.

    Raises:
        ZooError: see `Grid` and `Search`.
    """
    return Grid(plan, folder) if plan.sweep.optuna is None else Search(plan, folder)


def _yaml(value: Any) -> str:
    """Write a value in full, in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text.removesuffix("\n").removesuffix("\n...")
