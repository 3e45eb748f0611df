"""From a dataset to the crystals that a model sees: read, clean, frame check, deduplicate, split.

A few numbers of each crystal are in memory; structures and tensors are in mapped files (`zoo.data.crystals`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from zoo.config.dataset_settings import Cleaning, FrameCheck, Splitting
from zoo.config.sections import Data
from zoo.contract.plugin import Dataset
from zoo.data.crystals import CrystalStore
from zoo.data.duplicates import KnownCrystals
from zoo.data.frame import SymmetryViolation, offender
from zoo.data.reading import LeftOut, read
from zoo.data.splits import Split, split
from zoo.data.tensors import range_of, target_named
from zoo.errors import ZooError
from zoo.storage.cache import building, cache_root, content_key
from zoo.storage.run_folder import read_json, write_json

__all__ = ["Cleaning", "FrameCheck", "LeftOut", "Prepared", "Split", "Splitting", "prepare", "split"]

STAGES = ("read", "target", "clean", "frame", "duplicate")
FRAME_FORMAT = 1  # of what the cache keeps of a frame check: count up when it, or the check, changes


@dataclass(frozen=True)
class Prepared:
    """Crystals of a dataset that a model is trained and tested on, and an account of the others.

    Attributes:
        crystals: the crystals that are used, sorted by key as strings.
        left_out: all other records, in the order of the stages.
        violations: crystals above the tolerance of the frame check (used unless it drops them) or without a
            defined residual; None where there was no check (tensors of atoms have none).
        report: the same for a JSON file: {"used", "counts": {stage: n}, "left_out": [...], "frame": {...} or None}.
    """

    crystals: CrystalStore
    left_out: list[LeftOut]
    violations: list[SymmetryViolation] | None
    report: dict[str, Any]


def prepare(
    dataset: Dataset,
    target: str,
    *,
    cleaning: Cleaning | Literal["default"] | None,
    deduplicate: bool,
    frame: FrameCheck | None,
    on_bad_record: Literal["stop", "skip"],
) -> Prepared:
    """Read and filter all records that hold `target`.

    A record without the target is left out and listed; one that cannot be read stops all, unless `on_bad_record` is
    skip. Of duplicates (formula, space group, volume within 2 %) the one of lowest key, as a string, stays.

    Raises:
        ZooError: no such target, a bad record (with stop), or nothing is left.
    """
    wanted = target_named(dataset.targets(), target, "the dataset")
    found, left_out = read(dataset, wanted, on_bad_record)
    crystals = found.select(sorted(range(len(found)), key=found.keys.__getitem__))
    limits = range_of(wanted, cleaning)
    if limits is not None:
        crystals = _without(crystals, left_out, "clean", _out_of_range(crystals, limits))
    violations = None
    if frame is not None and not wanted.per_atom:
        violations = _offenders(crystals, frame)
        if frame.drop:
            above = {
                m.key: f"residual {m.residual:.3f} under its point group" for m in violations if m.residual is not None
            }
            crystals = _without(crystals, left_out, "frame", above)
    if deduplicate:
        crystals = _without(crystals, left_out, "duplicate", _duplicates(crystals))
    counts = Counter(item.stage for item in left_out)
    if not len(crystals):
        stages = ", ".join(f"{stage}: {counts[stage]}" for stage in STAGES if counts[stage])
        first = f"; the first: {left_out[0].key}, {left_out[0].reason}" if left_out else ""
        raise ZooError(f"no record with a usable '{target}' is left ({stages or 'the dataset is empty'}{first})")
    report = {
        "used": len(crystals),
        "counts": {stage: counts[stage] for stage in STAGES},
        "left_out": [dataclasses.asdict(item) for item in left_out],
        "frame": _frame_report(violations, frame) if frame is not None and violations is not None else None,
    }
    return Prepared(crystals, left_out, violations, report)


def prepare_by(settings: Data, dataset: Dataset, target: str) -> Prepared:
    """Prepare the records of a dataset by the section `data` of a recipe, all but its limit.

    Raises:
        ZooError: as `prepare`.
    """
    return prepare(
        dataset,
        target,
        cleaning=settings.cleaning,
        deduplicate=settings.deduplicate,
        frame=settings.frame,
        on_bad_record=settings.on_bad_record,
    )


def _out_of_range(crystals: CrystalStore, cleaning: Cleaning) -> dict[str, str]:
    """Return why each crystal out of the range is left out, by key; the smallest element is checked first."""
    low, high = crystals.facts["low"], crystals.facts["high"]
    reasons = {}
    for i in np.flatnonzero((low < cleaning.min) | (high > cleaning.max)):
        value = low[i] if not cleaning.min <= low[i] <= cleaning.max else high[i]
        name = "total" if crystals.facts["of_total"][i] else crystals.target.name
        reasons[crystals.keys[i]] = (
            f"an element of '{name}' is {value:.4g}, outside [{cleaning.min:g}, {cleaning.max:g}]"
        )
    return reasons


def _offenders(crystals: CrystalStore, check: FrameCheck) -> list[SymmetryViolation]:
    """Return the offenders as `zoo.data.frame.offenders` does, computed once and kept in the cache."""
    key = content_key("frame", FRAME_FORMAT, version("spglib"), check.tolerance, check.symprec, crystals.key)
    folder = cache_root() / "frame" / key
    with building(folder) as partial:
        if partial is not None:
            bar = tqdm(range(len(crystals)), desc="symmetry", unit=" crystals", disable=None)
            found = (_offender(crystals, i, check) for i in bar)
            write_json(partial / "misfits.json", [dataclasses.asdict(m) for m in found if m is not None])
    return [SymmetryViolation(**item) for item in read_json(folder / "misfits.json")]


def _offender(crystals: CrystalStore, index: int, check: FrameCheck) -> SymmetryViolation | None:
    negligible = bool(crystals.facts["negligible"][index])
    tensor = crystals.tensor(index)
    if crystals.target.parts:  # the last that has a label, the total where there is one
        labelled = [part for part in tensor[::-1] if not np.isnan(part).any()]
        if not labelled:  # Born charges, or the mean of a tensor, alone
            return None
        tensor = labelled[0]
    return offender(crystals.keys[index], lambda: crystals.structure(index), tensor, negligible, check)


def _duplicates(crystals: CrystalStore) -> dict[str, str]:
    """Return the reason by key of each crystal that duplicates another."""
    known = KnownCrystals()
    reasons = {}
    for index, key in enumerate(crystals.keys):
        identity = crystals.identity(index)
        twin = known.same_as(identity)
        if twin is None:
            known.add(identity)
        else:
            reasons[key] = f"the same crystal as {twin}"
    return reasons


def _without(crystals: CrystalStore, left_out: list[LeftOut], stage: str, reasons: Mapping[str, str]) -> CrystalStore:
    """Return the crystals that have no reason to be left out; the others are added to `left_out`."""
    left_out += [LeftOut(key, stage, reasons[key]) for key in crystals.keys if key in reasons]
    return crystals.select([i for i, key in enumerate(crystals.keys) if key not in reasons])


def _frame_report(violations: list[SymmetryViolation], check: FrameCheck) -> dict[str, Any]:
    return {
        **check.model_dump(),
        "over_tolerance": [dataclasses.asdict(m) for m in violations if m.residual is not None],
        "undefined": [m.key for m in violations if m.residual is None],
    }
