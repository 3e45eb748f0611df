"""Crystals that are known when the first round begins, and the recipe by which each round's models are trained."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.config.dataset_settings import Splitting
from zoo.config.recipe import Plugin, Recipe
from zoo.contract.plugin import BadRecord
from zoo.contract.target import TensorTarget
from zoo.data.crystals import CrystalStore
from zoo.data.duplicates import Identity
from zoo.data.subset import dataset_of
from zoo.discovery.rounds.aim import Aim
from zoo.discovery.rounds.discovery_config import Discovery
from zoo.discovery.rounds.discovery_folder import DiscoveryFolder, RoundFolder
from zoo.errors import ZooError
from zoo.storage.run_folder import read_json, write_json
from zoo.workflows import train as runs

_AT_ONCE = 1_000  # tensors whose objective is computed together


@dataclass(frozen=True)
class Known:
    """Crystals that are known when the first round begins.

    Attributes:
        keys: of all crystals with a label, those included that are no good for a training.
        usable: how many of them are.
        best: the highest value of the objective among these; None where it is defined for none of them.
        crystals: they themselves, where a training would leave out one that is there twice: such a result is no use.
    """

    keys: frozenset[str]
    usable: int
    best: float | None
    crystals: tuple[Identity, ...] = ()


def known_at_start(config: Discovery, training: Recipe, aim: Aim, folder: DiscoveryFolder) -> Known:
    """Read the known part of the dataset of the models' recipe, without what is to be hidden; once, then from a file.

    Raises:
        ZooError: as `zoo.workflows.train.usable`; or too few crystals are left.
    """
    if not folder.start.is_file():
        data = training.data
        ready = runs.usable(training)
        crystals = ready.crystals
        usable = crystals.keys[: data.limit]
        labelled = {*crystals.keys, *(one.key for one in ready.left_out if one.stage not in ("read", "target"))}
        if config.start.share is not None:
            count = round(config.start.share * len(usable))
            drawn = np.random.default_rng(config.start.seed).permutation(len(usable))[:count]
            usable = sorted(usable[i] for i in drawn)
            labelled = set(usable)
        write_json(folder.start_keys, sorted(usable))
        others = sorted(labelled - set(usable))
        best = _highest(training, aim, frozenset(usable))
        identities = [dataclasses.astuple(one) for one in _identities(training, crystals, labelled)]
        write_json(folder.start, {"best": best, "usable": sorted(usable), "others": others, "identities": identities})
    content = read_json(folder.start)
    keys, known_crystals = content["usable"] + content["others"], (Identity(*one) for one in content["identities"])
    return Known(frozenset(keys), len(content["usable"]), content["best"], tuple(known_crystals))


def _identities(training: Recipe, crystals: CrystalStore, keys: Set[str]) -> Iterator[Identity]:
    """Identify crystals of the dataset, also those that a training leaves out: they have a result as well."""
    if not training.data.deduplicate:
        return
    missing = set(keys)
    for i, key in enumerate(crystals.keys):
        if key in missing:
            missing.discard(key)
            yield crystals.identity(i)
    for record in dataset_of(training.dataset).records() if missing else ():
        if record.key in missing and not isinstance(record, BadRecord):
            yield Identity.of(record)


def _highest(training: Recipe, aim: Aim, keys: frozenset[str]) -> float | None:
    """Return the highest value of the objective among some crystals; None where it is not defined for any."""
    labelled = (
        (label, record.properties)
        for record in dataset_of(training.dataset).records()
        if not isinstance(record, BadRecord) and record.key in keys
        if (label := aim.label(record.targets)) is not None
    )
    highest = -np.inf
    while some := list(itertools.islice(labelled, _AT_ONCE)):
        values = aim.values(np.stack([label for label, _ in some]), [properties for _, properties in some])
        highest = max(highest, np.nanmax(values, initial=-np.inf))
    return float(highest) if np.isfinite(highest) else None


def refuse_unfit(training: Recipe, hidden: bool) -> None:
    """Check that all rounds can be trained alike, and on nothing that is hidden from them.

    Args:
        training: the recipe of the models.
        hidden: a part of its dataset is kept from them, to see whether it is found (`start.share`).

    Raises:
        ZooError: the split leaves out crystals, or goes by what results do not keep to; or auxiliary sources may hold
            what is hidden.
    """
    if hidden and training.auxiliary:
        raise ZooError(
            "model.recipe: auxiliary sources hold labels of crystals that start.share hides: say "
            "'model.change={auxiliary: []}'"
        )
    if training.split.train is not None:
        raise ZooError("model.recipe: split.train would leave out results; for fewer crystals say start.share")
    if training.split.kind == "formula":
        raise ZooError(
            "model.recipe: split.kind=formula does not hold in a discovery, where all results are trained on: say "
            "'model.change={split.kind: random}'"
        )


def recipe_after(
    training: Recipe, target: TensorTarget, folder: DiscoveryFolder, rounds: Sequence[RoundFolder]
) -> Recipe:
    """By which models are trained on what is known after some rounds: on the same validation and test part always.

    What has come in the rounds is all trained on: crystals that were chosen for being extreme are no fair test.
    """
    # Nothing but what was usable at the start: what else the dataset holds may be asked for, and come with the results.
    keys = str(folder.start_keys.resolve())
    subset = {"name": "subset", "dataset": training.dataset.model_dump(), "path": keys}
    training = training.model_copy(update={"data": training.data.model_copy(update={"limit": None})})
    if not rounds:
        return training.model_copy(update={"dataset": Plugin.model_validate(subset)})
    own = dataset_of(training.dataset).targets()  # two datasets that are joined mean the same by a name
    described = {one.name: _description(own.get(one.name, one)) for one in target.parts or (target,)}
    files = [{"name": "file", "path": str(one.results.resolve()), "targets": described} for one in rounds]
    joined = Plugin.model_validate({"name": "joined", "datasets": [subset, *files]})
    first = folder.round(1).model.seed(training.seeds[0]).split.resolve()
    split = Splitting(kind="file", path=str(first), seed=training.split.seed)
    return training.model_copy(update={"dataset": joined, "split": split})


def _description(target: TensorTarget) -> dict[str, Any]:
    """Describe a target for the dataset `file`."""
    return {name: getattr(target, name) for name in ("formula", "unit", "quantity", "intensive", "per_atom")}


def refuse_other_targets(aim: Aim, told: Mapping[str, TensorTarget], oracle: str) -> None:
    """Check that the oracle calculates what the objective is of, and means by a name what the models do.

    Raises:
        ZooError: it does not.
    """
    if aim.label({name: np.zeros(one.shape) for name, one in told.items()}) is None:
        raise ZooError(
            f"the oracle '{oracle}' does not tell '{aim.part.name}': it tells {', '.join(told) or 'nothing'}"
        )
    for one in aim.target.parts or (aim.target,):
        if one.name in told:
            refuse_other_target(one, told, oracle)


def refuse_other_target(target: TensorTarget, told: Mapping[str, TensorTarget], oracle: str) -> None:
    """Check that the oracle means by a name what the models do.

    Raises:
        ZooError: it does not.
    """
    one = told[target.name]
    # "dielectric" says less than "total dielectric", but nothing else; and none need be given.
    if one.quantity not in target.quantity and target.quantity not in one.quantity:
        raise ZooError(
            f"the oracle '{oracle}' means another quantity by '{target.name}': {one.quantity}, the models' is "
            f"{target.quantity}: choose another oracle, or correct `quantity` in the models' dataset"
        )
    if (one.formula, one.unit, one.per_atom) != (target.formula, target.unit, target.per_atom):
        raise ZooError(f"the oracle '{oracle}' means something else by '{target.name}': {one}, the models' is {target}")
