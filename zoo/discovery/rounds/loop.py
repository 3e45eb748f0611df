"""The loop: models are trained, they choose, the oracle calculates, and the next models know more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from zoo.config import plugins, recipe
from zoo.config.recipe import Recipe
from zoo.contract.discovery import Acquisition
from zoo.data.duplicates import KnownCrystals
from zoo.data.structures import structure_from_dict
from zoo.discovery import screen_config as sections
from zoo.discovery import screen_results as screenings
from zoo.discovery.candidates import source_of
from zoo.discovery.known_crystals import KnownOrChosen, identity_of
from zoo.discovery.rounds import round_results
from zoo.discovery.rounds.aim import Aim
from zoo.discovery.rounds.calculations import Ask, calculations_of, give_up, oracle_of, write_results
from zoo.discovery.rounds.discovery_config import Discovery, parse
from zoo.discovery.rounds.discovery_folder import DiscoveryFolder, RoundFolder
from zoo.discovery.rounds.evaluated_candidates import evaluated_in
from zoo.discovery.rounds.start import Known, known_at_start, recipe_after, refuse_other_targets, refuse_unfit
from zoo.discovery.rounds.warm_start import take_over
from zoo.discovery.scoring import part_of
from zoo.discovery.screen import screen
from zoo.discovery.screen_config import Screen
from zoo.discovery.workers import each
from zoo.errors import ZooError, clear_disk_errors
from zoo.storage import checksums
from zoo.storage.run_folder import RunFolder, read_json, write_json, write_text
from zoo.workflows import train as runs
from zoo.workflows.provenance import begin

Echo = Callable[[str], None]
Train = Callable[[Recipe, RunFolder], dict[str, Any]]
"""Trains a recipe in a folder, or goes on with it, and shows how: -> metrics.json."""


class Waiting(Exception):
    """A round cannot be closed yet: somebody else brings the results of some of its calculations."""

    def __init__(self, place: RoundFolder, count: int, of: int) -> None:
        super().__init__(f"round {place.number} waits for {count} of {of} calculations in {place.calculations}")
        self.place, self.count = place, count


@dataclass(frozen=True)
class Loop:
    """One discovery on its way.

    Attributes:
        config: the recipe.
        folder: where everything goes.
        train: see `Train`.
        echo: takes the lines that tell what is going on.
    """

    config: Discovery
    folder: DiscoveryFolder
    train: Train
    echo: Echo

    @cached_property
    def training(self) -> Recipe:
        """By which the models are trained, as it was when the discovery began."""
        stored = self.folder.training
        config = recipe.read(str(stored)) if stored.is_file() else self.config.training()
        return config.model_copy(update={"tracking": self.config.tracking, "device": self.config.device})

    @cached_property
    def aim(self) -> Aim:
        """Return the objective that is maximised, and what the models predict.

        Raises:
            ZooError: an unknown plugin or setting or target, or they do not go together.
        """
        choice, target = self.config.objective, runs.target_of(self.training)
        objective = plugins.load("objective", choice.name)(plugins.hypers("objective", choice.name, choice.settings))
        return Aim(objective, target, part_of(target, self.config, objective))

    def check(self) -> None:
        """All that can be known to be wrong before hours have been spent.

        Raises:
            ZooError: something is.
        """
        config, aim = self.config, self.aim
        acquisition: type[Acquisition] = plugins.load("acquisition", config.acquisition.name)
        plugins.hypers("acquisition", config.acquisition.name, config.acquisition.settings)
        if acquisition.needs_ensemble and len(self.training.seeds) == 1:
            raise ZooError(f"the acquisition '{config.acquisition.name}' needs an ensemble: set model.members=5")
        oracle = oracle_of(config.oracle)
        refuse_other_targets(aim, oracle.targets(), config.oracle.name)
        missing = oracle.missing()
        if missing is not None:
            raise ZooError(f"the oracle '{config.oracle.name}' cannot be asked: {missing}")
        refuse_unfit(self.training, hidden=config.start.share is not None)
        begun = self.folder.round(1).chosen.is_file()  # what has been chosen needs no candidates
        if not begun and next(source_of(config.candidates).found(), None) is None:
            raise ZooError("there are no candidates")

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Begin, or see that it goes on as it was begun; within, nobody else works in the folder.

        Raises:
            ZooError: as `check`; another recipe, or another process that is at work.
        """
        self.check()
        with clear_disk_errors(self.folder.path), self.folder.alone():
            begin(self.folder, self.config, parse, {})
            if not self.folder.training.is_file():
                write_text(self.folder.training, recipe.dump(self.training))
            self._refuse_without_best()
            yield

    @cached_property
    def known(self) -> Known:
        """Return the crystals that are known when the first round begins."""
        return known_at_start(self.config, self.training, self.aim, self.folder)

    def go_on(self, after: Callable[[], None], giving_up: bool = False) -> dict[str, Any]:
        """From where the folder ends to the last round; once it is `begun`.

        Args:
            after: called after each round, and when all is done.
            giving_up: take calculations that somebody else was to bring, and that are not there, for failed.

        Returns:
            The content of summary.json.

        Raises:
            Waiting: a round waits for results that somebody else brings.
            ZooError: something that the user can put right.
        """
        with clear_disk_errors(self.folder.path):
            return self._go_on(after, giving_up)

    def _go_on(self, after: Callable[[], None], giving_up: bool) -> dict[str, Any]:
        folder, known = self.folder, self.known
        folder.result.unlink(missing_ok=True)  # of fewer rounds
        self.echo(f"known     {known.usable:,} crystals with '{self.aim.target.name}'{self._best_words(known.best)}")
        rounds: list[RoundFolder] = folder.finished_rounds
        if rounds:  # it may have been stopped before these were written
            round_results.write(folder, known, rounds, self.aim, self.config)
            after()
        for number in range(len(rounds) + 1, self.config.rounds + 1):
            place = folder.round(number)
            self.echo(f"round {number}   of {self.config.rounds}")
            try:
                # Only a round that has been waiting is given up, not one that is to begin.
                self._round(place, known, rounds, giving_up and place.chosen.is_file())
            except screenings.NothingLeft as error:
                if not rounds:
                    raise
                self.echo(f"ended     {error}")
                break
            rounds.append(place)
            round_results.write(folder, known, rounds, self.aim, self.config)
            self.echo(round_results.line_of(folder, place))
            after()
        if self.config.model.last and rounds:
            self._model(folder.round(len(rounds) + 1).model, rounds)  # by which the next round would begin
        content = round_results.conclude(folder, known, rounds, self.aim, self.config)
        after()
        return content

    def _refuse_without_best(self) -> None:
        choice = self.config.acquisition.name
        if plugins.load("acquisition", choice).needs_best and self.known.best is None:
            raise ZooError(
                f"the acquisition '{choice}' needs the highest {self.config.objective.name} so far, defined for "
                "none of the crystals that are known: choose another acquisition"
            )

    def _best_words(self, best: float | None) -> str:
        return "" if best is None else f", the highest {self.config.objective.name} among them {best:.4g}"

    def _model(self, folder: RunFolder, rounds: Sequence[RoundFolder]) -> None:
        """Models that know what has come in these rounds."""
        config = recipe_after(self.training, self.aim.target, self.folder, rounds)
        if self.config.model.first is not None and not rounds and not folder.path.exists():
            take_over(Path(self.config.model.first), config, folder, read_json(self.folder.start)["usable"])
        if folder.finished:
            checksums.verify(folder.result)
            return
        if folder.recipe.is_file():  # the paths in it are of another place, where the discovery was moved
            write_text(folder.recipe, recipe.dump(config))
        self.train(config, folder)

    def _round(self, place: RoundFolder, known: Known, before: Sequence[RoundFolder], giving_up: bool) -> None:
        if not place.chosen.is_file():
            self._model(place.model, before)
            self._choose(place, known, before)
        calculations = calculations_of(place)
        open_ones = [one for one in calculations if one.outcome is None]
        if open_ones:
            self.echo(
                f"oracle    {self.config.oracle.name}: {len(open_ones)} of {len(calculations)} crystals to calculate"
            )
            by_key = {one.key: one for one in open_ones}
            place.calculations.mkdir(exist_ok=True)
            ended = each(
                self.config.workers,
                Ask(self.config.oracle, self.aim),
                open_ones,
                name=lambda one: one.key,
                folder=place.calculations,
            )
            bar = tqdm(total=len(open_ones), desc="calculating", unit=" crystals", disable=None, leave=False)
            with bar, closing(ended):
                for key in ended:
                    bar.update()
                    self._tell(by_key[key].outcome, key, str(by_key[key].facts["formula"]))
        waiting = [one for one in calculations if one.outcome is None]
        if waiting and not giving_up:
            raise Waiting(place, len(waiting), len(calculations))
        give_up(waiting)
        write_results(place, calculations)

    def _known_or_chosen(self, known: Known, before: Sequence[RoundFolder]) -> KnownOrChosen:
        """Collect the known crystals and those that have been evaluated."""
        chosen = [one for place in before for one in calculations_of(place)]
        keys = known.keys | {one.key for one in chosen}
        if not self.training.data.deduplicate:
            return KnownOrChosen(keys)
        again = (
            identity_of(one.key, structure_from_dict(json.loads(one.facts["structure"])), one.facts["properties"])
            for one in chosen
        )
        return KnownOrChosen(keys, KnownCrystals([*known.crystals, *again]))

    def _tell(self, outcome: dict[str, Any] | None, key: str, formula: str) -> None:
        if outcome is None:
            self.echo(f"waiting   {key} {formula}")
        elif outcome["status"] == "failed":
            self.echo(f"failed    {key} {formula}: {outcome['reason']}")
        elif outcome["seconds"] >= 1:  # what is only looked up needs no line
            self.echo(f"done      {key} {formula}, {outcome['seconds']:.0f} s")

    def _choose(self, place: RoundFolder, known: Known, before: Sequence[RoundFolder]) -> None:
        evaluated = [one for earlier in before for one in evaluated_in(earlier, self.aim)]
        values = (known.best, *(one.value for one in evaluated))
        best = max((v for v in values if v is not None and v == v), default=None)
        shared = self.config.model_dump(include=set(Screen.model_fields) - {"model", "name"})
        config = Screen(
            **shared, name=f"{self.config.name}_round_{place.number}", model=str(place.model.path), best=best
        )
        if place.screen.recipe.is_file() and sections.read(str(place.screen.recipe)).candidates != config.candidates:
            shutil.rmtree(place.screen.path)  # begun with other candidates, and nothing chosen
        screen(config, place.screen, self.echo, self._known_or_chosen(known, before))
        write_json(place.chosen, screenings.facts_of_chosen(config, place.screen, self.aim.target))
