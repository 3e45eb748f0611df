"""Summary of a finished run: how many crystals of each kind were trained on and tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contract.plugin import Encoder
from zoo.data.crystals import CrystalStore
from zoo.model.checkpoint import Card

if TYPE_CHECKING:  # it calls the model card
    from zoo.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Evidence:
    """Data, split and errors of the registered model.

    Attributes:
        card: of the registered model.
        crystals: all that the run used.
        split: part (`train`, `val`, `test`) -> keys, of the registered model.
        tested: the test part as the registered model answers it.
        report: data_report.json.
        encoder: the model's.
    """

    card: Card
    crystals: CrystalStore
    split: Mapping[str, Sequence[str]]
    tested: Predictions
    report: Mapping[str, Any]
    encoder: Encoder

    @cached_property
    def parts(self) -> dict[str, CrystalStore]:
        """The three parts of the split."""
        index = {key: i for i, key in enumerate(self.crystals.keys)}
        return {
            part: self.crystals.select([index[key] for key in self.split[part]]) for part in ("train", "val", "test")
        }

    @cached_property
    def systems(self) -> dict[str, Counter[str]]:
        """Part -> how many crystals of each system."""
        return {part: Counter(crystals.systems()) for part, crystals in self.parts.items()}

    @cached_property
    def elements(self) -> dict[str, Counter[int]]:
        """Part -> atomic number -> how many crystals hold it."""
        found: dict[str, Counter[int]] = {}
        for part, crystals in self.parts.items():
            found[part] = Counter()
            for crystal in crystals:
                found[part].update(np.unique(crystal.numbers).tolist())
        return found

    @cached_property
    def errors(self) -> np.ndarray:
        """(n,) mean absolute error of the independent components of each test crystal, or labelled atom."""
        difference = np.abs(self.tested.predicted - self.tested.true).reshape(len(self.tested.keys), -1)
        errors: np.ndarray = difference[:, list(self.card.target.independent)].mean(axis=1)
        return errors

    @cached_property
    def extent(self) -> tuple[float, float]:
        """Smallest and largest element of the training tensors."""
        train = self.parts["train"]
        ends = [(np.nanmin(t), np.nanmax(t)) for t in map(train.tensor, range(len(train))) if not np.isnan(t).all()]
        return float(min(low for low, _ in ends)), float(max(high for _, high in ends))

    @property
    def frozen(self) -> bool:
        """Whether the encoder's weights are the pretrained ones."""
        return self.card.encoder_fingerprint is not None
