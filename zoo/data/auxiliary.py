"""Auxiliary sources: crystals to train on beside those of the recipe's dataset, never to validate or test on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from zoo import __version__
from zoo.config.recipe import Plugin
from zoo.config.sections import Data
from zoo.contract.plugin import Dataset, Record
from zoo.data import pipeline
from zoo.data.crystals import CrystalStore
from zoo.data.subset import dataset_of
from zoo.data.twins import twins
from zoo.storage.cache import building, cache_root, content_key
from zoo.storage.run_folder import read_json, write_json

FORMAT = 1  # of what the cache keeps of the twins: count up when it, or what counts as a twin, changes


@dataclass(frozen=True)
class Source:
    """Crystals of one auxiliary dataset.

    Attributes:
        name: of the dataset.
        crystals: those that have a label.
        twins: of each crystal the keys of the recipe's crystals that it is the same as.
        report: what became of the records, as `zoo.data.pipeline.Prepared.report`.
    """

    name: str
    crystals: CrystalStore
    twins: list[frozenset[str]]
    report: dict[str, Any]

    def trained_on(self, split: Mapping[str, Sequence[str]]) -> list[int]:
        """Return the numbers of the crystals without a twin in the parts `val` and `test` of a split, by their keys."""
        held_out = {*split["val"], *split["test"]}
        return [i for i, twins in enumerate(self.twins) if not twins & held_out]

    def tested_on(self, split: Mapping[str, Sequence[str]]) -> list[int]:
        """Return the numbers of the crystals with a twin in the part `test` of a split."""
        test = set(split["test"])
        return [i for i, twins in enumerate(self.twins) if twins & test]


def sources(
    choices: Sequence[Plugin], target: str, main: Plugin, settings: Data, echo: Callable[[str], None]
) -> list[Source]:
    """Read the auxiliary datasets of a recipe, each cleaned as its own dataset is, and look for twins in that.

    Raises:
        ZooError: as `zoo.data.pipeline.prepare`.
    """
    found = []
    for choice in choices:
        dataset = dataset_of(choice)
        ready = pipeline.prepare(
            dataset,
            target,
            cleaning=settings.cleaning,
            deduplicate=settings.deduplicate,
            frame=settings.frame,
            on_bad_record="skip",
        )
        pairs = twins_of(dataset_of(main), dataset)
        crystals = ready.crystals.select(range(len(ready.crystals))[: settings.limit])
        each = [frozenset(pairs.get(key, ())) for key in crystals.keys]
        source = Source(choice.name, crystals, each, ready.report)
        unread = ready.report["counts"]["read"]
        lost = f"; {unread:,} cannot be read (data_report.json)" if unread else ""
        echo(
            f"auxiliary {choice.name}: {len(crystals):,} crystals with a label, {sum(map(bool, each)):,} of them "
            f"twins of crystals of {main.name}{lost}"
        )
        found.append(source)
    return found


def twins_of(main: Dataset, other: Dataset) -> dict[str, list[str]]:
    """By key of the other dataset's crystals, the keys of their twins in the main one; from the cache where it can."""
    marks = [(type(one).__qualname__, one.hypers.model_dump(mode="json"), one.fingerprint()) for one in (main, other)]
    if any(mark[-1] is None for mark in marks):
        return _pairs(main, other)
    versions = (
        __version__,
        *(version(name) for name in ("pymatgen", "spglib")),
    )  # by which records and twins are found
    folder = cache_root() / "twins" / content_key("twins", FORMAT, versions, marks)
    with building(folder) as partial:
        if partial is not None:
            write_json(partial / "twins.json", _pairs(main, other))
    found: dict[str, list[str]] = read_json(folder / "twins.json")
    return found


def _pairs(main: Dataset, other: Dataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    sides = ([record for record in one.records() if isinstance(record, Record)] for one in (main, other))
    for twin in twins(*sides):
        found.setdefault(twin.b, []).append(twin.a)
    return found


def numbers_of(found: Sequence[Source], first: int, chosen: Callable[[Source], list[int]]) -> np.ndarray:
    """Number the chosen crystals of each source among all: the recipe's `first` ones come before them."""
    out: list[int] = []
    for source in found:
        out += [first + i for i in chosen(source)]
        first += len(source.crystals)
    return np.array(out, dtype=np.int64)
