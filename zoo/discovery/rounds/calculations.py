"""The crystals of one round: each is asked of the oracle once, and what comes of it is written down at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config import plugins
from zoo.config.recipe import Plugin
from zoo.contract.discovery import Candidate, Oracle
from zoo.data.export import file_names
from zoo.data.structures import structure_from_dict
from zoo.data.tensors import read_target
from zoo.discovery.rounds.aim import Aim
from zoo.discovery.rounds.discovery_folder import RoundFolder
from zoo.errors import CalculationFailed, ZooError
from zoo.storage.run_folder import read_json, write_json

OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Calculation:
    """One crystal, its folder, and what came of it.

    Attributes:
        key: the crystal's.
        facts: what was chosen, an entry of chosen.json.
        folder: of the oracle, for this crystal alone.
    """

    key: str
    facts: Mapping[str, Any]
    folder: Path

    @property
    def outcome(self) -> dict[str, Any] | None:
        """`status` (`done` or `failed`), `reason`, `tensors`, `seconds`; None where there is none yet."""
        path = self.folder / OUTCOME
        return read_json(path) if path.is_file() else None


def calculations_of(place: RoundFolder) -> list[Calculation]:
    """List the calculations of a round that has chosen, in the order of their scores."""
    chosen = read_json(place.chosen)
    names = file_names(facts["key"] for facts in chosen)
    return [
        Calculation(facts["key"], facts, place.calculations.resolve() / name)
        for facts, name in zip(chosen, names, strict=True)
    ]


def oracle_of(choice: Plugin) -> Oracle:
    """An oracle plugin from its name and settings.

    Raises:
        ZooError: there is none, or it refuses its settings.
    """
    settings = plugins.hypers("oracle", choice.name, choice.settings)
    oracle: Oracle = plugins.load("oracle", choice.name)(settings)
    return oracle


@dataclass(frozen=True)
class Ask:
    """Asks an oracle for one crystal after another, in whatever process or on whatever machine.

    Attributes:
        oracle: by name, with its settings.
        aim: says what it must tell.
    """

    oracle: Plugin
    aim: Aim

    def __call__(self, calculation: Calculation) -> str:
        """Ask, unless there is an outcome, and write it down; the key of the crystal.

        Raises:
            ZooError: something is wrong that has nothing to do with the crystal.
        """
        if calculation.outcome is not None:
            return calculation.key
        calculation.folder.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        content = self._outcome(calculation)
        if content is not None:
            write_json(calculation.folder / OUTCOME, {**content, "seconds": round(time.monotonic() - begin, 2)})
        return calculation.key

    def _outcome(self, calculation: Calculation) -> dict[str, Any] | None:
        facts = calculation.facts
        structure = structure_from_dict(json.loads(facts["structure"]))
        oracle = oracle_of(self.oracle)
        try:
            tensors = oracle.tensors(Candidate(calculation.key, structure, facts["properties"]), calculation.folder)
            told = oracle.targets()
        except CalculationFailed as error:
            return _failed(" ".join(str(error).split()))
        except ZooError:
            raise
        except Exception as error:  # a stranger's oracle may raise anything: it stops, so that it can be mended
            raise ZooError(
                f"the oracle '{self.oracle.name}' fails on {calculation.key} ({type(error).__name__}: {error})"
            ) from error
        if tensors is None:
            return None
        try:
            plain = {name: read_target(np.asarray(v), told[name], len(structure)) for name, v in tensors.items()}
        except ZooError as error:
            return _failed(str(error))
        if self.aim.label(plain) is None:
            others = ", ".join(map(repr, plain)) or "nothing"
            return _failed(f"the oracle told no '{self.aim.part.name}' of it: {others}")
        return {"status": "done", "tensors": {name: tensor.tolist() for name, tensor in plain.items()}}


def _failed(reason: str) -> dict[str, Any]:
    return {"status": "failed", "reason": reason}


def give_up(calculations: Sequence[Calculation]) -> None:
    """Take those without an outcome for failed."""
    for one in calculations:
        if one.outcome is None:
            one.folder.mkdir(parents=True, exist_ok=True)
            write_json(one.folder / OUTCOME, _failed("given up: there was no result when the round was closed"))


def write_results(place: RoundFolder, calculations: Sequence[Calculation]) -> None:
    """results.json: a record for each crystal with tensors, as the dataset `file` reads them."""
    write_json(place.results, dict(_records(calculations, place.number)))


def _records(calculations: Sequence[Calculation], number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in calculations:
        outcome = one.outcome
        if outcome is not None and outcome["status"] == "done":
            properties = {**one.facts["properties"], "source": f"round {number}"}
            yield one.key, {**properties, "structure": json.loads(one.facts["structure"]), **outcome["tensors"]}
