"""Evaluation of a trained model on labelled crystals of another source."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from zoo.config.recipe import Plugin
from zoo.contract.level_of_theory import level_of
from zoo.contract.plugin import Dataset
from zoo.contract.target import TensorTarget
from zoo.data import pipeline
from zoo.data.crystals import CrystalStore
from zoo.data.duplicates import KnownCrystals
from zoo.data.reading import read
from zoo.data.subset import dataset_of
from zoo.data.symmetry import CRYSTAL_SYSTEMS
from zoo.data.tensors import target_named
from zoo.errors import ZooError
from zoo.evaluation import metrics
from zoo.evaluation.derived import is_symmetric_matrix
from zoo.evaluation.predictions import Predictions, component_names
from zoo.graphs.elements import symbols
from zoo.inference.predictor import Predictor

logger = logging.getLogger(__name__)

CHUNK = 256  # crystals at a time, so that the bar moves


@dataclass(frozen=True)
class Evaluation:
    """Errors of a model on crystals that it has not seen.

    Attributes:
        target: which tensor.
        errors: "all" and each crystal system -> metric -> value.
        mean_baseline: errors, likewise, of predicting the mean of the training tensors.
        tested: predicted and true tensors.
        formulas: reduced, by the key of the crystal.
        left_out: key, stage and reason of every record that was not tested.
        parts: of a joint target the same of the other parts, by name.
    """

    target: TensorTarget
    errors: dict[str, dict[str, float | None]]
    mean_baseline: dict[str, dict[str, float | None]]
    tested: Predictions
    formulas: Mapping[str, str]
    left_out: list[dict[str, str]]
    parts: Mapping[str, Evaluation] = field(default_factory=dict)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row per crystal or labelled atom: key, formula, crystal system, components, error."""
        names, tested = component_names(self.target), self.tested
        for key, system, t, p in zip(tested.keys, tested.systems, tested.true, tested.predicted, strict=True):
            yield {
                "key": key,
                "formula": self.formulas[key.rpartition("#")[0] if self.target.per_atom else key],
                "crystal_system": system,
                **{f"true_{name}": f"{t.flat[index]:.5g}" for name, index in names},
                **{f"predicted_{name}": f"{p.flat[index]:.5g}" for name, index in names},
                "frobenius": f"{np.linalg.norm(p - t):.4g}",
            }


def seen_crystals(choice: Plugin, target: str, seen: Sequence[str]) -> CrystalStore:
    """Return the crystals of one of a model's datasets that it was trained or validated on.

    Raises:
        ZooError: the dataset does not hold them any more.
    """
    dataset = dataset_of(choice)
    found, _ = read(dataset, target_named(dataset.targets(), target, f"dataset '{choice.name}'"), "skip")
    index = {key: i for i, key in enumerate(found.keys)}
    missing = [key for key in seen if key not in index]
    if missing:
        raise ZooError(f"dataset '{choice.name}' no longer holds {missing[0]}, which the model was trained on")
    return found.select([index[key] for key in seen])


def evaluate(predictor: Predictor, dataset: Dataset, below: float | None = None) -> Evaluation:
    """Compute errors on the crystals of a dataset, prepared like the model's own data, less those it has seen.

    Args:
        predictor: the model.
        dataset: must hold the model's target.
        below: leave out crystals with an eigenvalue of this size or more, None for all.

    Raises:
        ZooError: the dataset lacks the target, or nothing is left; `below` for tensors without eigenvalues.
    """
    card, target = predictor.card, predictor.card.target
    if below is not None and (target.per_atom or not is_symmetric_matrix(target.main)):
        raise ZooError(f"'{target.name}' has no eigenvalues ({target.formula}): leave out --below")
    ready = pipeline.prepare(
        dataset,
        card.target.name,
        cleaning=card.recipe.data.cleaning,
        deduplicate=True,
        frame=card.recipe.data.frame,
        on_bad_record="skip",
    )
    mine = seen_crystals(card.recipe.dataset, target.name, card.seen)
    more, alike = _seen_of_auxiliary(predictor)
    seen = [mine, *more]
    known = KnownCrystals(store.identity(i) for store in seen for i in range(len(store)))
    elements = predictor.members[0].encoder.elements()
    systems = ready.crystals.systems()
    left_out: list[dict[str, str]] = list(ready.report["left_out"])
    usable: list[int] = []
    for index, key in enumerate(ready.crystals.keys):
        twin = known.same_as(ready.crystals.identity(index))
        numbers = np.unique(ready.crystals[index].numbers)
        foreign = symbols(np.array([z for z in numbers if z not in elements])) if elements else []
        if twin is not None:
            left_out.append({"key": key, "stage": "seen", "reason": f"the model has seen it as {twin}"})
        elif (ready.crystals.formulas[index], systems[index]) in alike:
            reason = "the model has seen a crystal of its formula and crystal system, which may be the same"
            left_out.append({"key": key, "stage": "seen", "reason": reason})
        elif foreign:
            reason = f"the encoder does not know {', '.join(sorted(foreign))}"
            left_out.append({"key": key, "stage": "element", "reason": reason})
        elif below is not None and (largest := _largest(ready.crystals, index)) >= below:
            left_out.append({"key": key, "stage": "below", "reason": f"an eigenvalue is {largest:.4g}"})
        else:
            usable.append(index)
    if not usable:
        raise ZooError("no crystal is left that the model has not seen")
    crystals = ready.crystals.select(usable)
    true, train = (target.split(_true(store)) for store in (crystals, mine))
    formulas = dict(zip(crystals.keys, crystals.formulas, strict=True))
    parts = {}
    for name, predicted in _predict(predictor, crystals).items():
        one, labels = true[name]
        tested = Predictions.of(crystals, predicted, labels)
        if tested.keys:
            known = train[name][1]
            known = known[~np.isnan(known.reshape(len(known), -1)).any(axis=1)]
            baseline = {
                system: metrics.mean_baseline(known, tested.true[chosen], one)
                for system, chosen in _groups(tested.systems).items()
            }
            parts[name] = Evaluation(one, tested.errors(one), baseline, tested, formulas, left_out)
    main = parts.pop(target.main.name, None)
    if main is None:
        raise ZooError(f"no crystal is left that has the tensor '{target.main.name}'")
    return replace(main, parts=parts)


def _seen_of_auxiliary(predictor: Predictor) -> tuple[list[CrystalStore], set[tuple[str, str]]]:
    """Tell which crystals of auxiliary datasets a model has seen.

    Returns:
        The crystals of the datasets that are here; formula and crystal system of all training crystals, where one is
        not: whoever has a model need not have its data.

    Raises:
        ZooError: a dataset is not here, and the model does not know its training crystals (format 2 or before).
    """
    card, found = predictor.card, []
    alike: set[tuple[str, str]] = set()
    # None in a model of an earlier zoo.
    for choice, keys in zip(card.recipe.auxiliary, card.seen_auxiliary, strict=False):
        try:
            found.append(seen_crystals(choice, card.target.name, keys))
        except ZooError:
            if predictor.reference is None:
                raise
            alike |= {(name["formula"], name["crystal_system"]) for name in predictor.reference.names}
            logger.warning(
                "%s, which the model was trained on, is not here: crystals of the formula and crystal system of a "
                "training crystal count as seen",
                choice.name,
            )
    return found, alike


def _largest(crystals: CrystalStore, index: int) -> float:
    """The largest eigenvalue of a crystal's tensor; of a joint target that of its main part, NaN without a label."""
    tensor = crystals.target.split(crystals.tensor(index)[None])[crystals.target.main.name][1][0]
    return float("nan") if np.isnan(tensor).any() else float(np.linalg.eigvalsh(tensor).max())


def _predict(predictor: Predictor, crystals: CrystalStore) -> dict[str, np.ndarray]:
    """Predict with the mean over the members: by name of the tensor (n, *shape), per atom (all atoms, *shape).

    Each crystal is asked for at the level of theory of its label, where the model was trained on that one.
    """
    found: list[Mapping[str, np.ndarray]] = [{}] * len(crystals)
    known = {level_of(name) for name in predictor.card.levels}
    levels = [int(level) if int(level) in known else None for level in crystals.facts["level"]]
    with tqdm(total=len(crystals), desc="predicting", unit=" crystals", disable=None, leave=False) as bar:
        for level in dict.fromkeys(levels):
            chosen = [i for i, one in enumerate(levels) if one == level]
            for start in range(0, len(chosen), CHUNK):
                part = chosen[start : start + CHUNK]
                answers = predictor.ask([crystals.structure(i) for i in part], keep=True, level=level)
                for i, answer in zip(part, answers, strict=True):
                    if isinstance(answer, ZooError):
                        raise answer
                    found[i] = {name: tensors.mean(0) for name, tensors in answer.tensors.items()}
                bar.update(len(part))
    join = np.concatenate if crystals.target.per_atom else np.stack
    return {name: join([one[name] for one in found]) for name in found[0]}


def _true(crystals: CrystalStore) -> np.ndarray:
    """Return the true tensors like `_predict`, in float64."""
    join = np.concatenate if crystals.target.per_atom else np.stack
    return join([crystals.tensor(i) for i in range(len(crystals))])


def _groups(systems: list[str]) -> dict[str, list[int]]:
    groups = {system: [i for i, of in enumerate(systems) if of == system] for system in CRYSTAL_SYSTEMS}
    return {"all": list(range(len(systems)))} | {system: chosen for system, chosen in groups.items() if chosen}
