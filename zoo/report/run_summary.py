"""Numbers of a finished run that its model card states: what was trained on and tested, and where the model fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.config import plugins
from zoo.contract.plugin import Encoder
from zoo.data.crystals import CrystalStore
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.data.tensors import range_of
from zoo.graphs.elements import symbols
from zoo.model.checkpoint import Card

if TYPE_CHECKING:
    from zoo.config.dataset_settings import Cleaning
    from zoo.evaluation.predictions import Predictions

PARTS = ("train", "val", "test")
LAST_ELEMENT = 94  # plutonium: of what comes after it there are hardly any crystals
FEW_LARGE = 5  # test tensors, below which the tenth of largest norm says little


class LargeTensors(NamedTuple):
    """Mean errors of a component on the tenth of the test tensors with the largest norms, and on the others."""

    tensors: int
    smallest_norm: float
    error: float
    error_of_others: float


class ElementRow(NamedTuple):
    """Training crystals and test crystals (of tensors per atom: atoms) of an element, and their mean error."""

    symbol: str
    trained: int
    tested: int
    mae: float | None


@dataclass(frozen=True)
class RunSummary:
    """Data, split and errors of the registered model.

    Attributes:
        card: card of the registered model; `card.metrics` is the content of metrics.json.
        crystals: all crystals that the run used.
        split: part (`train`, `val`, `test`) -> keys, in the split of the registered model.
        tested: predictions of the registered model for its test part.
        report: content of data_report.json.
        encoder: encoder of the model.
        one_split: whether all seeds of the run share their split.
    """

    card: Card
    crystals: CrystalStore
    split: Mapping[str, Sequence[str]]
    tested: Predictions
    report: Mapping[str, Any]
    encoder: Encoder
    one_split: bool

    @cached_property
    def parts(self) -> dict[str, CrystalStore]:
        """The three parts of the split."""
        index = {key: i for i, key in enumerate(self.crystals.keys)}
        return {part: self.crystals.select([index[key] for key in self.split[part]]) for part in PARTS}

    @property
    def composition(self) -> list[tuple[str, list[int]]]:
        """Crystal system -> number of crystals in the training, validation and test part; last all of them."""
        counts = [Counter(self.parts[part].systems()) for part in PARTS]
        rows = [(system, [count[system] for count in counts]) for system in CRYSTAL_SYSTEMS]
        return [*rows, ("all", [len(self.split[part]) for part in PARTS])]

    @property
    def by_element(self) -> list[ElementRow]:
        """Rows of all elements that were trained on or tested, by atomic number.

        Where the seeds have splits of their own the test crystals of all seeds count, and a seed weighs as many as it
        tested. A run of before metrics.json had errors by element has no tested ones.
        """
        trained: Counter[int] = Counter()
        for crystal in self.parts["train"]:
            trained.update(np.unique(crystal.numbers).tolist())
        errors = self.card.metrics.get("per_element", {})
        rows = []
        for number, symbol in enumerate(symbols(np.arange(1, 119)), 1):
            entry = errors.get(symbol, {"n": {"each": ()}, "mae_ten": {"each": ()}})
            each = [(n, mae) for n, mae in zip(entry["n"]["each"], entry["mae_ten"]["each"], strict=True) if n]
            count = sum(n for n, _ in each)
            if count or trained[number]:
                mae = sum(n * error for n, error in each) / count if count else None
                tested = each[0][0] if each and self.one_split else count
                rows.append(ElementRow(symbol, trained[number], int(tested), mae))
        return rows

    @property
    def violations(self) -> str:
        """Checks of the zoo that the readout is known to fail, with the reasons; empty where there are none."""
        violates = plugins.load("readout", self.card.recipe.readout.name).violates
        return "; ".join(f"{check}: {reason}" for check, reason in violates.items())

    @property
    def unseen_elements(self) -> list[int]:
        """Atomic numbers up to plutonium's that occur in no training crystal."""
        return [number for number in range(1, LAST_ELEMENT + 1) if number not in self.card.elements]

    @property
    def refused_elements(self) -> list[int]:
        """Unseen elements that the encoder does not know either."""
        known = self.encoder.elements()
        return [] if known is None else [number for number in self.unseen_elements if number not in known]

    @property
    def extent(self) -> tuple[float, float]:
        """Smallest and largest element of the training tensors."""
        train = self.parts["train"]
        joint = bool(self.card.target.parts)  # the main part is the last
        tensors = (tensor[-1] if joint else tensor for tensor in map(train.tensor, range(len(train))))
        ends = [(np.nanmin(t), np.nanmax(t)) for t in tensors if not np.isnan(t).all()]
        return float(min(low for low, _ in ends)), float(max(high for _, high in ends))

    @property
    def cleaning(self) -> Cleaning | None:
        """Range within which every element of a tensor had to lie, None for no range."""
        return range_of(self.card.target, self.card.recipe.data.cleaning)

    @property
    def cleaned_by_total(self) -> bool:
        """Whether the range applied to the total tensor of a crystal, of which the target is a part."""
        return bool(len(self.crystals)) and bool(self.crystals.facts["of_total"].all())

    @property
    def large_tensors(self) -> LargeTensors | None:
        """Errors on large tensors, where they are at least twice those on the others."""
        true, predicted = (t.reshape(len(self.tested.keys), -1) for t in (self.tested.true, self.tested.predicted))
        norms, count = np.linalg.norm(true, axis=1), len(true) // 10
        if count < FEW_LARGE:
            return None
        errors = np.abs(predicted - true)[:, list(self.card.target.main.independent)].mean(axis=1)
        order = np.argsort(norms, kind="stable")
        large, others = float(errors[order[-count:]].mean()), float(errors[order[:-count]].mean())
        return LargeTensors(count, float(norms[order[-count]]), large, others) if large >= 2 * others else None

    @property
    def negligible(self) -> tuple[int, int]:
        """Training and test crystals whose tensor is zero, or less than 1 % of another tensor of the crystal."""
        train, test = (int(self.parts[part].facts["negligible"].sum()) for part in ("train", "test"))
        return train, test

    @property
    def cell_sizes(self) -> tuple[int, int]:
        """Median and largest number of atoms in a training cell."""
        atoms = self.parts["train"].facts["n_atoms"]
        return int(np.median(atoms)), int(atoms.max())

    @property
    def polymorphs(self) -> int:
        """Number of test crystals with the formula of a training crystal."""
        trained = set(self.parts["train"].formulas)
        return sum(formula in trained for formula in self.parts["test"].formulas)

    @property
    def worst_interval(self) -> tuple[str, float, float] | None:
        """Quantity, promised and measured share of the intervals that held the truth least often; None without any."""
        calibration = self.card.metrics.get("calibration", {"test": {}})
        gaps = [
            (measured["covered"] - float(level), name.replace("_", " "), float(level), measured["covered"])
            for name, entry in calibration["test"].items()
            for level, measured in entry["levels"].items()
        ]
        return min(gaps)[1:] if gaps else None

    @property
    def symmetry_violations(self) -> list[Mapping[str, Any]]:
        """Crystals whose tensor breaks the point group of their structure, worst first, of those left out or used."""
        check = self.report.get("frame")
        if not check:
            return []
        used = set(self.crystals.keys)
        over = sorted(check["over_tolerance"], key=lambda violation: -violation["residual"])
        return over if check["drop"] else [violation for violation in over if violation["key"] in used]
