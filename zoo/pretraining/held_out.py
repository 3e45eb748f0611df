"""Crystals that must not be trained on: twins of those that other models are validated and tested on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.data import pipeline
from zoo.data.auxiliary import twins_of
from zoo.data.subset import dataset_of
from zoo.pretraining.labelled_store import LabelledStore
from zoo.pretraining.pretraining_config import HeldOut, Source


@dataclass(frozen=True)
class HeldOutCrystals:
    """The validation and test crystals of some splits.

    Attributes:
        choice: the recipe's section.
        keys: of these crystals.
        formulas: their reduced formulas.
    """

    choice: HeldOut
    keys: frozenset[str]
    formulas: frozenset[str]

    @classmethod
    def of(cls, choice: HeldOut) -> HeldOutCrystals:
        """Prepare and split the dataset as the recipes that are meant do.

        Raises:
            ZooError: as `zoo.data.pipeline.prepare` and `split`.
        """
        ready = pipeline.prepare_by(choice.data, dataset_of(choice.dataset), choice.target)
        crystals = ready.crystals.select(range(len(ready.crystals))[: choice.data.limit])
        held: set[str] = set()
        for seed in choice.seeds:
            split = pipeline.split(crystals.keys, crystals.formulas, choice.split, seed)
            held |= {*split.val, *split.test}
        formula = dict(zip(crystals.keys, crystals.formulas, strict=True))
        return cls(choice, frozenset(held), frozenset(formula[key] for key in held))

    def twins(self, source: Source, store: LabelledStore) -> np.ndarray:
        """(n,) bool: which crystals of a source have a twin among these.

        Of a dataset as `zoo.data.twins` finds them. Crystals of a file may be displaced or strained, and have no
        symmetry left by which a twin is told: there every crystal of a formula that is held out counts as one.
        """
        if source.name == "file":
            return np.array([formula in self.formulas for formula in store.formulas], dtype=bool)
        pairs = twins_of(dataset_of(self.choice.dataset), dataset_of(source))
        return np.array([bool(self.keys.intersection(pairs.get(key, ()))) for key in store.keys], dtype=bool)
