"""From a dataset to a `CrystalStore`: each record is read, checked and written before the next one."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from zoo import __version__
from zoo.contract.plugin import BadRecord, Dataset, Record
from zoo.contract.target import TensorTarget
from zoo.data.crystals import FORMAT, CrystalStore, CrystalWriter
from zoo.data.tensors import with_parts
from zoo.errors import ZooError, clear_disk_errors
from zoo.graphs.crystal import Crystal
from zoo.storage.cache import building, cache_root, content_key, told_if_deleted
from zoo.storage.run_folder import read_json, write_json


@dataclass(frozen=True)
class LeftOut:
    """A record that is left out.

    Attributes:
        stage: the stage of the pipeline at which it was left out.
        reason: the explanation for the user.
    """

    key: str
    stage: str
    reason: str


def read(
    dataset: Dataset, target: TensorTarget, on_bad_record: Literal["stop", "skip"]
) -> tuple[CrystalStore, list[LeftOut]]:
    """Return the records that hold `target`, in the order of the dataset, and those left out, bad records first.

    They are read once where the dataset has a fingerprint, and kept in the cache; else in every run.

    Raises:
        ZooError: a bad record (with stop), or the disk is full.
    """
    fingerprint, stop = dataset.fingerprint(), on_bad_record == "stop"
    cache = cache_root() / "crystals"
    if fingerprint is None:
        with clear_disk_errors(cache, fix="set ZOO_CACHE to another folder"):
            cache.mkdir(parents=True, exist_ok=True)
            # Mapped files stay readable when their names are gone: nothing is left behind.
            with tempfile.TemporaryDirectory(dir=cache, prefix="once-", ignore_cleanup_errors=True) as folder:
                with told_if_deleted(Path(folder)):
                    _write(Path(folder), dataset, target, stop)
                return CrystalStore.open(Path(folder), target), _left_out(Path(folder), stop)
    cls = type(dataset)
    path = cache / content_key(
        ("crystals", FORMAT, __version__, *(version(name) for name in ("ase", "pymatgen", "spglib"))),
        (f"{cls.__module__}.{cls.__qualname__}", dataset.hypers.model_dump(mode="json"), fingerprint),
        dataclasses.asdict(target),
    )
    with building(path) as partial:
        if partial is not None:
            _write(partial, dataset, target, stop)
    return CrystalStore.open(path, target), _left_out(path, stop)


def _write(folder: Path, dataset: Dataset, target: TensorTarget, stop: bool) -> None:
    bad: list[LeftOut] = []
    without: list[LeftOut] = []
    seen: set[str] = set()
    with CrystalWriter(folder, target, by_total="total" in dataset.targets()) as writer:
        for record in tqdm(dataset.records(), desc="reading", unit=" crystals", disable=None):
            if target.parts and isinstance(record, Record):
                record = with_parts(record, target)
            again = record.key in seen
            seen.add(record.key)
            if again:
                bad.append(LeftOut(record.key, "read", "a second record with this key"))
            elif isinstance(record, BadRecord):
                bad.append(LeftOut(record.key, "read", record.reason))
            elif (reason := _defect(record, target)) is not None:
                bad.append(LeftOut(record.key, "read", reason))
            elif not _labelled(record, target):
                without.append(LeftOut(record.key, "target", _why_without(record, target)))
            elif not (stop and bad):  # they are only counted from then on
                try:
                    writer.add(record, Crystal.of(record.structure))
                except ZooError as error:
                    bad.append(LeftOut(record.key, "read", str(error)))
    if stop:
        _refuse(bad)
    write_json(folder / "left_out.json", [dataclasses.asdict(item) for item in bad + without])


def _left_out(folder: Path, stop: bool) -> list[LeftOut]:
    items = [LeftOut(**item) for item in read_json(folder / "left_out.json")]
    if stop:
        _refuse([item for item in items if item.stage == "read"])
    return items


def _refuse(bad: list[LeftOut]) -> None:
    if bad:
        more = f" (and {len(bad) - 1} more bad records)" if len(bad) > 1 else ""
        raise ZooError(f"record {bad[0].key}: {bad[0].reason}{more}; mend it or set data.on_bad_record: skip")


def _defect(record: Record, target: TensorTarget) -> str | None:
    """Return what is wrong with a record, or None: the defects that any dataset can have."""
    if target.name not in record.targets:
        return None
    tensor = np.asarray(record.targets[target.name])
    shape = (len(record.structure), *target.shape) if target.per_atom else target.shape
    if tensor.shape != shape:
        return f"'{target.name}' must be of shape {shape}, it is {tensor.shape}"
    if target.per_atom or target.parts:
        # NaN in all components: an atom, or a part, without a label.
        tensor = tensor[~np.isnan(tensor.reshape(len(tensor), -1)).all(axis=1)]
    if target.parts and (reason := _defect_beside(record)) is not None:
        return reason
    return None if np.isfinite(tensor).all() else f"'{target.name}' holds NaN or infinite numbers"


def _defect_beside(record: Record) -> str | None:
    """Return what is wrong with the labels that are kept beside a joint target, or None."""
    count = len(record.structure)
    for name, given, shape in (
        ("born", record.targets.get("born"), (count, 3, 3)),
        ("force_constants", record.force_constants, (3 * count, 3 * count)),
    ):
        found = None if given is None else np.shape(given)
        if found is not None and found != shape:
            return f"'{name}' must be of shape {shape}, it is {found}"
    return None


def _why_without(record: Record, target: TensorTarget) -> str:
    """Return why a record lacks the target, with its dataset's reason; of a joint target the last part's."""
    names = (target.name, *(part.name for part in reversed(target.parts)))
    given = next((record.left_out[name] for name in names if name in record.left_out), None)
    return f"has no '{target.name}'" + (f": {given}" if given else "")


def _labelled(record: Record, target: TensorTarget) -> bool:
    """Return whether a record holds the target: for a tensor of atoms, for at least one atom.

    Of a joint target it holds a part, a mean of one, or Born charges (`with_parts`).
    """
    if target.name not in record.targets:
        return False
    return bool(target.parts) or not np.isnan(record.targets[target.name]).all()
