"""From a dataset to the records that a model sees: read, clean, frame check, deduplicate, split."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from zoo.contract.plugin import BadRecord, Dataset, Record
from zoo.contract.target import TensorTarget
from zoo.data.duplicates import KnownCrystals
from zoo.data.frame import FrameCheck, Misfit, offenders
from zoo.data.splits import Split, Splitting, split
from zoo.errors import ZooError, did_you_mean

__all__ = ["Cleaning", "FrameCheck", "LeftOut", "Prepared", "Split", "Splitting", "prepare", "split"]

STAGES = ("read", "target", "clean", "frame", "duplicate")


class Cleaning(BaseModel):
    """The range that every element of a tensor must lie in."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    min: float = -10.0
    """Smallest element, of the total tensor where the dataset has one, else of the target; in the target's unit."""
    max: float = 100.0
    """Largest element, likewise."""

    @model_validator(mode="after")
    def _ordered(self) -> Cleaning:
        if self.min >= self.max:
            raise ValueError("min must be less than max")
        return self


@dataclass(frozen=True)
class LeftOut:
    """A record that did not come through.

    Attributes:
        stage: one of `STAGES`.
        reason: in words.
    """

    key: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Prepared:
    """What is left of a dataset, and an account of the rest.

    Attributes:
        records: sorted by key as strings; each holds the target.
        left_out: all others, in the order of the stages.
        misfits: crystals above the tolerance of the frame check (used all the same unless it drops them) or without a
            defined residual; None where there was no check (tensors of atoms have none).
        report: the same for a JSON file: {"used", "counts": {stage: n}, "left_out": [...], "frame": {...} or None}.
    """

    records: list[Record]
    left_out: list[LeftOut]
    misfits: list[Misfit] | None
    report: dict[str, Any]


def prepare(
    dataset: Dataset,
    target: str,
    *,
    cleaning: Cleaning | None,
    deduplicate: bool,
    frame: FrameCheck | None,
    on_bad_record: Literal["stop", "skip"],
) -> Prepared:
    """Read and sift all records that hold `target`.

    A record without the target is left out and listed; one that cannot be read stops all, unless `on_bad_record` is
    skip. Of duplicates (formula, space group, volume within 2 %) the one of lowest key, as a string, stays.

    Raises:
        ZooError: no such target, a bad record (with stop), or nothing is left.
    """
    known = dataset.targets()
    if target not in known:
        raise ZooError(f"the dataset has no target '{target}'.{did_you_mean(target, known)}")
    wanted = known[target]
    records, left_out = _read(dataset, wanted, on_bad_record)
    if cleaning is not None:
        records = _sift(records, left_out, "clean", (_out_of_range(r, wanted, known, cleaning) for r in records))
    misfits = None
    if frame is not None and not wanted.per_atom:
        misfits = offenders(records, wanted, frame)
        if frame.drop:
            above = {
                m.key: f"residual {m.residual:.3f} under its point group" for m in misfits if m.residual is not None
            }
            records = _sift(records, left_out, "frame", [above.get(r.key) for r in records])
    if deduplicate:
        records = _sift(records, left_out, "duplicate", _duplicates(records))
    counts = Counter(item.stage for item in left_out)
    if not records:
        stages = ", ".join(f"{stage}: {counts[stage]}" for stage in STAGES if counts[stage])
        first = f"; the first: {left_out[0].key}, {left_out[0].reason}" if left_out else ""
        raise ZooError(f"no record with a usable '{target}' is left ({stages or 'the dataset is empty'}{first})")
    report = {
        "used": len(records),
        "counts": {stage: counts[stage] for stage in STAGES},
        "left_out": [dataclasses.asdict(item) for item in left_out],
        "frame": _frame_report(misfits, frame) if frame is not None and misfits is not None else None,
    }
    return Prepared(records, left_out, misfits, report)


def _read(dataset: Dataset, target: TensorTarget, on_bad_record: str) -> tuple[list[Record], list[LeftOut]]:
    records: dict[str, Record] = {}
    bad: list[LeftOut] = []
    without: list[LeftOut] = []
    seen: set[str] = set()
    for record in dataset.records():
        reason = record.reason if isinstance(record, BadRecord) else _defect(record, target, seen)
        seen.add(record.key)
        if reason is not None:
            bad.append(LeftOut(record.key, "read", reason))
        elif isinstance(record, Record) and not _labelled(record, target):
            without.append(LeftOut(record.key, "target", f"has no '{target.name}'"))
        elif isinstance(record, Record):
            records[record.key] = record
    if bad and on_bad_record == "stop":
        more = f" (and {len(bad) - 1} more bad records)" if len(bad) > 1 else ""
        raise ZooError(f"record {bad[0].key}: {bad[0].reason}{more}; mend it or set data.on_bad_record: skip")
    return [records[key] for key in sorted(records)], bad + without


def _defect(record: Record, target: TensorTarget, seen: set[str]) -> str | None:
    """What any dataset can get wrong."""
    if record.key in seen:
        return "a second record with this key"
    if target.name not in record.targets:
        return None
    tensor = np.asarray(record.targets[target.name])
    shape = (len(record.structure), *target.shape) if target.per_atom else target.shape
    if tensor.shape != shape:
        return f"'{target.name}' must be of shape {shape}, it is {tensor.shape}"
    if target.per_atom:
        # NaN in all components: an atom without a label.
        tensor = tensor[~np.isnan(tensor.reshape(len(tensor), -1)).all(axis=1)]
    return None if np.isfinite(tensor).all() else f"'{target.name}' holds NaN or infinite numbers"


def _labelled(record: Record, target: TensorTarget) -> bool:
    """Whether the record holds the target: of one atom at least, where it is one tensor an atom."""
    return target.name in record.targets and not np.isnan(record.targets[target.name]).all()


def _out_of_range(record: Record, target: TensorTarget, known: Iterable[str], cleaning: Cleaning) -> str | None:
    name = "total" if "total" in known and "total" in record.targets else target.name
    tensor = record.targets[name]
    for value in (np.nanmin(tensor), np.nanmax(tensor)):
        if not cleaning.min <= value <= cleaning.max:
            return f"an element of '{name}' is {value:.4g}, outside [{cleaning.min:g}, {cleaning.max:g}]"
    return None


def _duplicates(records: Iterable[Record]) -> Iterable[str | None]:
    known = KnownCrystals()
    for record in records:
        twin = known.same_as(record)
        if twin is None:
            known.add(record)
        yield f"the same crystal as {twin.key}" if twin else None


def _sift(records: list[Record], left_out: list[LeftOut], stage: str, reasons: Iterable[str | None]) -> list[Record]:
    """Those without a reason to leave them out; the others go to `left_out`."""
    kept = []
    for record, reason in zip(records, reasons, strict=True):
        if reason is None:
            kept.append(record)
        else:
            left_out.append(LeftOut(record.key, stage, reason))
    return kept


def _frame_report(misfits: list[Misfit], check: FrameCheck) -> dict[str, Any]:
    return {
        **check.model_dump(),
        "over_tolerance": [dataclasses.asdict(m) for m in misfits if m.residual is not None],
        "undefined": [m.key for m in misfits if m.residual is None],
    }
