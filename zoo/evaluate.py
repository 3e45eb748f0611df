"""A trained model against labelled crystals of another source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from zoo import metrics, plugins
from zoo.contract.plugin import Dataset, Record
from zoo.data import pipeline
from zoo.data.duplicates import KnownCrystals
from zoo.data.symmetry import CRYSTAL_SYSTEMS, crystal_system
from zoo.derived import is_symmetric_matrix
from zoo.errors import ZooError
from zoo.predictor import Predictor
from zoo.recipe import Recipe
from zoo.results import Predictions, component_names

CHUNK = 256  # crystals at a time, so that the bar moves


@dataclass(frozen=True)
class Evaluation:
    """Errors of a model on crystals that it has not seen.

    Attributes:
        errors: "all" and each crystal system -> metric -> value.
        mean_baseline: the same for predicting the mean of the training tensors.
        rows: one a crystal: key, formula, crystal system, true and predicted components, Frobenius error.
        left_out: key, stage and reason of every record that was not tested.
    """

    errors: dict[str, dict[str, float | None]]
    mean_baseline: dict[str, dict[str, float | None]]
    rows: list[dict[str, Any]]
    left_out: list[dict[str, str]]


def training_records(made: Recipe, seen: Iterable[str]) -> list[Record]:
    """The records that a model was trained and validated on, from its own dataset.

    Raises:
        ZooError: the dataset does not hold them any more.
    """
    settings = plugins.hypers("dataset", made.dataset.name, made.dataset.settings)
    dataset: Dataset = plugins.load("dataset", made.dataset.name)(settings)
    by_key = {record.key: record for record in dataset.records() if isinstance(record, Record)}
    missing = [key for key in seen if key not in by_key]
    if missing:
        raise ZooError(f"dataset '{made.dataset.name}' no longer holds {missing[0]}, which the model was trained on")
    return [by_key[key] for key in seen]


def evaluate(predictor: Predictor, dataset: Dataset, below: float | None = None) -> Evaluation:
    """Errors on a dataset's crystals, cleaned and deduplicated as the model's own data, less those it has seen.

    Args:
        predictor: the model.
        dataset: must hold the model's target.
        below: leave out crystals with an eigenvalue of this size or more, None for all.

    Raises:
        ZooError: the dataset lacks the target, or nothing is left; `below` for tensors without eigenvalues.
    """
    card, target = predictor.card, predictor.card.target
    if below is not None and (target.per_atom or not is_symmetric_matrix(target)):
        raise ZooError(f"'{target.name}' has no eigenvalues ({target.formula}): leave out --below")
    ready = pipeline.prepare(
        dataset,
        card.target.name,
        cleaning=card.recipe.data.cleaning,
        deduplicate=True,
        frame=card.recipe.data.frame,
        on_bad_record="skip",
    )
    mine = training_records(card.recipe, card.seen)
    known = KnownCrystals(mine)
    elements = predictor.members[0].encoder.elements()
    left_out: list[dict[str, str]] = list(ready.report["left_out"])
    usable: list[Record] = []
    for record in ready.records:
        twin = known.same_as(record)
        foreign = {site.specie.symbol for site in record.structure if elements and site.specie.Z not in elements}
        if twin is not None:
            left_out.append({"key": record.key, "stage": "seen", "reason": f"the model has seen it as {twin.key}"})
        elif foreign:
            reason = f"the encoder does not know {', '.join(sorted(foreign))}"
            left_out.append({"key": record.key, "stage": "element", "reason": reason})
        elif below is not None and (largest := np.linalg.eigvalsh(record.targets[target.name]).max()) >= below:
            left_out.append({"key": record.key, "stage": "below", "reason": f"an eigenvalue is {largest:.4g}"})
        else:
            usable.append(record)
    if not usable:
        raise ZooError("no crystal is left that the model has not seen")
    predicted: list[np.ndarray] = []
    with tqdm(total=len(usable), desc="predicting", unit=" crystals", disable=None, leave=False) as bar:
        for start in range(0, len(usable), CHUNK):
            part = usable[start : start + CHUNK]
            answers = predictor.tensors([record.structure for record in part])
            predicted += [answer.mean(0) for answer in answers]
            bar.update(len(part))
    join = np.concatenate if target.per_atom else np.stack
    true = join([record.targets[target.name] for record in usable])
    systems = [crystal_system(record) for record in usable]
    found = Predictions.of(usable, systems, join(predicted), true, target)
    train = join([record.targets[target.name] for record in mine])
    train = train[~np.isnan(train.reshape(len(train), -1)).any(axis=1)]
    formulas = {record.key: record.structure.composition.reduced_formula for record in usable}
    return Evaluation(
        errors=found.errors(target),
        mean_baseline={
            system: metrics.mean_baseline(train, found.true[chosen], target)
            for system, chosen in _groups(found.systems).items()
        },
        rows=[
            {
                "key": key,
                "formula": formulas[key.rpartition("#")[0] if target.per_atom else key],
                "crystal_system": system,
                **{f"true_{name}": f"{t.flat[index]:.5g}" for name, index in component_names(target)},
                **{f"predicted_{name}": f"{p.flat[index]:.5g}" for name, index in component_names(target)},
                "frobenius": f"{np.linalg.norm(p - t):.4g}",
            }
            for key, system, t, p in zip(found.keys, found.systems, found.true, found.predicted, strict=True)
        ],
        left_out=left_out,
    )


def _groups(systems: list[str]) -> dict[str, list[int]]:
    groups = {system: [i for i, of in enumerate(systems) if of == system] for system in CRYSTAL_SYSTEMS}
    return {"all": list(range(len(systems)))} | {system: chosen for system, chosen in groups.items() if chosen}
