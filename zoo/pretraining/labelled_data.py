"""From the sources of a recipe to samples: sizes, twins, the split by formula, graphs, and an account of it all."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zoo.contract.plugin import Encoder
from zoo.data.splits import fill, groups_of_formulas
from zoo.errors import ZooError
from zoo.graphs.elements import refuse_unknown_elements
from zoo.graphs.store import GraphStore
from zoo.pretraining.held_out import HeldOutCrystals
from zoo.pretraining.label_sources import licence_of
from zoo.pretraining.labelled_batches import LabelledBatches, LabelledSamples, curved, margin
from zoo.pretraining.labelled_store import LabelledCrystals, LabelledStore
from zoo.pretraining.pretraining_config import Pretraining
from zoo.pretraining.trained_potential import dtype_of

Echo = Callable[[str], None]


@dataclass(frozen=True)
class LabelledData:
    """Crystals that a pretraining is trained and validated on.

    Attributes:
        samples: all crystals that are used.
        train: of each source the numbers of its training crystals among them.
        val: the numbers of the validation part.
        report: account of the sources, for data_report.json.
    """

    samples: LabelledSamples
    train: Sequence[list[int]]
    val: list[int]
    report: dict[str, Any]

    @property
    def all_train(self) -> list[int]:
        """The numbers of all training crystals."""
        return [i for part in self.train for i in part]

    def elements(self) -> set[int]:
        """Atomic numbers of the training part."""
        return {int(z) for i in self.all_train for z in np.unique(self.samples.crystals[i].numbers)}

    def keys(self, indices: Sequence[int]) -> list[str]:
        """Names of crystals."""
        return [self.samples.crystals.keys[i] for i in indices]

    def batches(self, config: Pretraining, device: torch.device) -> tuple[LabelledBatches, LabelledBatches]:
        """Batches of the training part, of each source its share, and of the validation part."""
        counts = [round(source.share * len(part)) for source, part in zip(config.sources, self.train, strict=True)]
        groups = [(part, min(max(1, count), len(part))) for part, count in zip(self.train, counts, strict=True)]
        train = LabelledBatches(self.samples, [], config.training, device, config.seed, further=groups)
        return train, LabelledBatches(self.samples, self.val, config.training, device)


def prepare(config: Pretraining, encoder: Encoder, has_head: bool, echo: Echo) -> LabelledData:
    """Read the sources, leave out what the recipe says, split, and make graphs.

    Args:
        config: the recipe.
        encoder: gives the cutoff, and the elements that it knows.
        has_head: an energy is put on the encoder: what elements it knows depends on the training part.
        echo: takes the lines that tell what is going on.

    Raises:
        ZooError: a source cannot be read, nothing is left, a label that the loss wants is nowhere, or the encoder does
            not know an element.
    """
    crystals, report = _usable(config, echo)
    _refuse_missing(config, crystals)
    train, val = _split(config, crystals, has_head)
    cutoff = encoder.cutoff + margin(config.loss)
    graphs = GraphStore.build(crystals, cutoff, crystals.keys, backend=config.graph.backend)
    echo(f"graphs    {graphs.n_atoms.sum():,} atoms, {graphs.n_edges.sum():,} edges within {cutoff:g} Å")
    refuse_unknown_elements(encoder, graphs.keys, graphs)
    samples = LabelledSamples(graphs, crystals, config.loss, dtype_of(config.dtype))
    of_source = [[i for i in train if crystals.source[i] == number] for number in range(len(config.sources))]
    report |= {"train": len(train), "validation": len(val), "labels": _counted(crystals)}
    return LabelledData(samples, of_source, val, report)


def _usable(config: Pretraining, echo: Echo) -> tuple[LabelledCrystals, dict[str, Any]]:
    held = None if config.without_twins_of is None else HeldOutCrystals.of(config.without_twins_of)
    stores, chosen, accounts = [], [], []
    for source in config.sources:
        store = LabelledStore.of(source)
        small = np.ones(len(store), dtype=bool)
        if config.largest is not None:
            small = store.facts["n_atoms"] <= config.largest
        twin = np.zeros(len(store), dtype=bool) if held is None else held.twins(source, store)
        rows = np.flatnonzero(small & ~twin)[: config.limit]
        account = {
            "source": source.model_dump(mode="json"),
            "licence": licence_of(source),
            "labelled": len(store),
            "without_a_label": len(store.left_out),
            "too_large": int((~small).sum()),
            "twins_left_out": int((small & twin).sum()),
            "used": len(rows),
            "left_out": [dataclasses.asdict(item) for item in store.left_out],
            "twins": [key for key, is_twin in zip(store.keys, twin, strict=True) if is_twin],
        }
        words = [f"{account['without_a_label']:,} without a label", f"{account['too_large']:,} too large"]
        if held is not None:
            words.append(f"{account['twins_left_out']:,} twins of held-out crystals")
        echo(f"source    {source.name}: {len(rows):,} crystals are used; left out: {', '.join(words)}")
        stores.append(store)
        chosen.append(rows)
        accounts.append(account)
    crystals = LabelledCrystals.of(stores, chosen)
    if len(crystals) < 2:
        raise ZooError(f"{len(crystals)} crystals are left of all sources: too few to train and validate on")
    return crystals, {"sources": accounts}


def _counted(crystals: LabelledCrystals) -> dict[str, int]:
    """By label the number of crystals that have it."""
    facts = crystals.facts
    return {
        "energy": int(np.isfinite(facts["energy"]).sum()),
        "atomic_energies": int(facts["atomic_energies"].sum()),
        "forces": int(facts["forces"].sum()),
        "stress": int(np.isfinite(facts["stress"]).all(axis=(1, 2)).sum()),
        "force_constants": int(curved(facts).sum()),
    }


def _refuse_missing(config: Pretraining, crystals: LabelledCrystals) -> None:
    counts = _counted(crystals)
    missing = [name for name in config.loss.used if not counts[name]]
    if missing:
        there = ", ".join(f"{count:,} with {name}" for name, count in counts.items() if count)
        raise ZooError(
            f"no crystal of the sources has {missing[0]}: name a source that does, or set loss.{missing[0]}: 0 "
            f"(there are {there})"
        )


def _why_no_validation(
    config: Pretraining, count: int, groups: Sequence[Sequence[str]], free: Sequence[Sequence[str]]
) -> str:
    """Say what keeps the crystals from being split by formula, and what to do."""
    smallest = min(map(len, free), default=count)
    if len(groups) == 1 or smallest == count:
        return (
            f"of {len(groups)} formulas none can be validated on: others must be left to train on, which hold all "
            "of its elements; label crystals of more formulas"
        )
    share = math.ceil(100 * smallest / count) / 100
    return (
        f"validation: {config.validation:g} of {count} crystals is too few: whole formulas are held out, and the "
        f"smallest has {smallest}; write validation={share:g} or more"
    )


def _split(config: Pretraining, crystals: LabelledCrystals, has_head: bool) -> tuple[list[int], list[int]]:
    """Training and validation part; a formula is in one of them, and so are displaced copies of a crystal.

    With an energy that is trained from its start, formulas with an element that no other formula has are trained on: it
    will not know what it has not been trained on.

    Raises:
        ZooError: there are too few formulas.
    """
    groups = groups_of_formulas([str(i) for i in range(len(crystals))], crystals.formulas, config.seed)
    free, bound = groups, list[list[str]]()
    if has_head:
        holding = [frozenset(int(z) for i in group for z in crystals[int(i)].numbers) for group in groups]
        left_with = Counter(z for elements in holding for z in elements)
        free = []
        for group, elements in zip(groups, holding, strict=True):
            spare = all(left_with[z] > 1 for z in elements)
            (free if spare else bound).append(group)
            left_with -= Counter(elements) if spare else Counter()
    val, left = fill(free, max(1, round(config.validation * len(crystals))))
    train = sorted(int(i) for group in [*left, *bound] for i in group)
    if not train:
        raise ZooError(f"validation: {config.validation:g} of {len(crystals)} crystals leaves none to train on")
    if not val:
        raise ZooError(_why_no_validation(config, len(crystals), groups, free))
    return train, sorted(int(i) for i in val)
