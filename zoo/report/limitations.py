"""Limitations of a trained model, computed from its data, its split and its errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zoo.config import plugins
from zoo.contract.plugin import Encoder
from zoo.data.crystals import CrystalStore
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.data.tensors import range_of
from zoo.evaluation.predictions import Predictions
from zoo.graphs.elements import symbols
from zoo.model.checkpoint import Card

FEW_BY_ELEMENT = 5  # test crystals, below which a mean error says little
FEW_BY_SYSTEM = 10
FEW_IN_ALL = 50
_SHOWN = 12  # names, of a longer list


@dataclass(frozen=True)
class RunSummary:
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


@dataclass(frozen=True)
class Limit:
    """One limit, in words."""

    title: str
    text: str


def known_limits(known: RunSummary) -> list[Limit]:
    """All that apply, the gravest kinds first."""
    found = (limit(known) for limit in _LIMITS)
    return [limit for limit in found if limit is not None]


def names(found: Sequence[str], shown: int = _SHOWN) -> str:
    """A list in words, cut where it is long."""
    more = f" and {len(found) - shown} more" if len(found) > shown else ""
    return ", ".join(found[:shown]) + more


def symbols_of(numbers: Sequence[int]) -> str:
    """Atomic numbers as symbols."""
    return ", ".join(symbols(np.array(sorted(numbers), dtype=int)))


def _number(value: float) -> str:
    return f"{value:.4g}"


def _unit(known: RunSummary) -> str:
    return "" if known.card.target.unit == "1" else f" {known.card.target.unit}"


def _method(known: RunSummary) -> Limit | None:
    violates = plugins.load("readout", known.card.recipe.readout.name).violates
    if not violates:
        return None
    reasons = "; ".join(f"{check}: {reason}" for check, reason in violates.items())
    name = known.card.recipe.readout.name
    return Limit("The method itself", f"The readout {name} fails checks of the zoo: {reasons}.")


def _tried_out(known: RunSummary) -> Limit | None:
    limit, train = known.card.recipe.data.limit, known.card.recipe.split.train
    reasons = [] if limit is None else [f"only the first {limit} crystals of the data set were used (data.limit)"]
    reasons += [] if train is None else [f"the training part was cut (split.train: {train})"]
    return Limit("Trained on a part of the data", f"{' and '.join(reasons).capitalize()}.") if reasons else None


def _small_test(known: RunSummary) -> Limit | None:
    count = len(known.split["test"])
    if count >= FEW_IN_ALL:
        return None
    return Limit("A small test part", f"All test errors are means over {count} crystals and may be off by much.")


def _unseen_elements(known: RunSummary) -> Limit:
    seen = known.card.elements
    last = 94
    unseen = [number for number in range(1, last + 1) if number not in seen]
    text = f"{len(seen)} elements occur in the training crystals. Never seen: {symbols_of(unseen)}, and all beyond Pu."
    knows = known.encoder.elements()
    lacking = [number for number in unseen if knows is not None and number not in knows]
    text += " A crystal with such an element is answered with a warning"
    text += f"; one with {symbols_of(lacking)} is refused, the encoder does not know it." if lacking else "."
    return Limit("Elements never seen", text)


def _rare_elements(known: RunSummary) -> Limit | None:
    train, test = known.elements["train"], known.elements["test"]
    untested = [number for number in train if not test[number]]
    few = [number for number in train if 0 < test[number] < FEW_BY_ELEMENT]
    text = f"Trained on but in no test crystal: {symbols_of(untested)}. " if untested else ""
    if few:
        counts = (
            f"in {n}: {symbols_of([number for number in few if test[number] == n])}"
            for n in sorted({test[number] for number in few})
        )
        text += f"In fewer than {FEW_BY_ELEMENT} test crystals: {'; '.join(counts)}."
    return Limit("Elements hardly tested", text.strip()) if text else None


def _systems(known: RunSummary) -> Limit | None:
    few = {s: known.systems["test"][s] for s in CRYSTAL_SYSTEMS if known.systems["test"][s] < FEW_BY_SYSTEM}
    if not few:
        return None
    text = f"Fewer than {FEW_BY_SYSTEM} test crystals are "
    text += ", ".join(f"{s} ({n} tested, {known.systems['train'][s]} trained on)" for s, n in few.items()) + "."
    return Limit("Crystal systems hardly tested", text)


def _range(known: RunSummary) -> Limit:
    low, high = known.extent
    unit, cleaning = _unit(known), range_of(known.card.target, known.card.recipe.data.cleaning)
    text = f"The components of the training tensors lie between {_number(low)} and {_number(high)}{unit}."
    if cleaning is not None:
        count = known.report["counts"]["clean"]
        by_total = bool(len(known.crystals)) and bool(known.crystals.facts["of_total"].all())
        which = "total tensor" if by_total else "tensor"
        text += (
            f" Crystals with a component of the {which} outside [{cleaning.min:g}, {cleaning.max:g}]{unit} were left "
            f"out ({count} here), of training and test alike: how wrong an answer is for such a crystal is not known."
        )
    else:
        text += " No range was cut."
    return Limit("Range of values", text)


def _large_tensors(known: RunSummary) -> Limit | None:
    norms = np.linalg.norm(known.tested.true.reshape(len(known.tested.true), -1), axis=1)
    count = len(norms) // 10
    if count < 5:
        return None
    order = np.argsort(norms, kind="stable")
    large, rest = known.errors[order[-count:]].mean(), known.errors[order[:-count]].mean()
    if large < 2 * rest:
        return None
    text = (
        f"On the {count} test tensors of largest norm (above {_number(float(norms[order[-count]]))}{_unit(known)}) the "
        f"error of a component is {large:.3f} on average, on the others {rest:.3f}."
    )
    return Limit("Large tensors are predicted worse", text)


def _negligible(known: RunSummary) -> Limit | None:
    train, test = (int(known.parts[part].facts["negligible"].sum()) for part in ("train", "test"))
    if not train + test:
        return None
    text = (
        f"Of {train} training and {test} test crystals the {known.card.target.name} tensor is zero, or less than 1 % "
        "of another tensor of the crystal: relative errors, anisotropy and axes of such an answer mean nothing."
    )
    return Limit("Tensors near zero", text)


def _large_cells(known: RunSummary) -> Limit:
    atoms = known.parts["train"].facts["n_atoms"]
    text = (
        f"The largest training cell has {atoms.max()} atoms, half have {int(np.median(atoms))} or fewer. What is "
        "larger, or has a surface, a vacancy or disorder, is unlike what was trained on; partly occupied sites are "
        "refused."
    )
    return Limit("Size of the cell", text)


def _encoder(known: RunSummary) -> Limit:
    name, cutoff = known.card.recipe.encoder.name, known.encoder.cutoff
    if known.frozen:
        how = "pretrained and frozen"
    else:
        how = "pretrained, then fine-tuned" if known.encoder.pretrained else "trained from a random start on these data"
    text = f"The encoder {name} is {how}; atoms more than {cutoff:g} Å apart are no neighbours."
    if known.encoder.pretrained:
        text += (
            " Its own training data are its authors'; they may hold structures of test crystals (not their tensors), "
            "so test errors may be lower than those of structures that it never saw."
        )
    return Limit("What the encoder sees", text)


def _polymorphs(known: RunSummary) -> Limit | None:
    trained = set(known.parts["train"].formulas)
    both = sum(formula in trained for formula in known.parts["test"].formulas)
    if not both:
        return None
    count = len(known.split["test"])
    text = (
        f"{both} of {count} test crystals have the formula of a training crystal: errors for new compositions may be "
        "higher. split.kind: formula keeps them apart."
    )
    return Limit("Polymorphs in training and test", text)


def _uncertainty(known: RunSummary) -> Limit:
    members, calibration = known.card.members, known.card.metrics.get("calibration")
    if len(members) == 1:
        return Limit("No uncertainty", "One model alone: its answers come without a spread and without intervals.")
    text = f"The spread is that of {len(members)} members, trained on the same crystals: what all miss it cannot show."
    if calibration is None or known.card.target.per_atom:
        return Limit("Uncertainty", f"{text} Answers give it as it is, without calibrated intervals.")
    text += (
        f" The intervals are calibrated on the {calibration['n']} crystals of the validation part, which also chose "
        "each member's epoch: they may hold the truth less often than they promise."
    )
    gaps = [
        (measured["covered"] - float(level), name, level, measured["covered"])
        for name, found in calibration["test"].items()
        for level, measured in found["levels"].items()
    ]
    if gaps:
        _, name, level, covered = min(gaps)
        text += (
            f" Farthest below on the test part: {name.replace('_', ' ')}, {100 * covered:.0f} % of the "
            f"{100 * float(level):.0f} % promised."
        )
    return Limit("Uncertainty", text)


def _frame(known: RunSummary) -> Limit:
    per = "each atom's tensor is" if known.card.target.per_atom else "the tensor is"
    text = (
        f"In answers {per} in the Cartesian frame of the structure that was asked about. A CIF holds lengths and "
        "angles alone, and its frame is pymatgen's: c along z, a in the xz plane."
    )
    return Limit("Frame", text)


def _broken(known: RunSummary) -> Limit | None:
    check = known.report.get("frame")
    if not check:
        why = "tensors of atoms have no such check" if known.card.target.per_atom else "data.frame is null"
        return Limit("Symmetry of the data", f"Whether tensors obey their crystal's symmetry was not checked: {why}.")
    over = sorted(check["over_tolerance"], key=lambda misfit: -misfit["residual"])
    used = set(known.crystals.keys)
    over = over if check["drop"] else [misfit for misfit in over if misfit["key"] in used]
    if not over:
        return None
    listed = names([f"{misfit['key']} ({misfit['formula']}, {misfit['residual']:.2f})" for misfit in over])
    fate = "left out" if check["drop"] else "used all the same"
    text = (
        f"The tensors of {len(over)} crystals break the point group of their own structure by more than "
        f"{check['tolerance']:g} of their norm; these are {fate}: {listed}."
    )
    return Limit("Crystals that break symmetry", text)


def _still_learning(known: RunSummary) -> Limit | None:
    content = known.card.metrics
    ends = [
        str(seed)
        for seed, best, last in zip(content["seeds"], content["best_epoch"], content["epochs"], strict=True)
        if best == last
    ]
    if not ends:
        return None
    text = f"Of seed {names(ends)} the last epoch was the best: longer training may lower the error."
    return Limit("Training may have been short", text)


_LIMITS: tuple[Callable[[RunSummary], Limit | None], ...] = (
    _method,
    _tried_out,
    _small_test,
    _unseen_elements,
    _rare_elements,
    _systems,
    _range,
    _large_tensors,
    _negligible,
    _large_cells,
    _polymorphs,
    _uncertainty,
    _frame,
    _broken,
    _encoder,
    _still_learning,
)
