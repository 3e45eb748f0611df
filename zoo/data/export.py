"""A dataset as a folder of CIFs and a CSV of tensors: the layout in which people keep their own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.io.cif import CifWriter

from zoo.contract.plugin import Record
from zoo.contract.target import TensorTarget
from zoo.data.structures import structure_from_file
from zoo.errors import ZooError
from zoo.run_folder import write_rows

TABLE = "tensors.csv"


def export(records: Iterable[Record], targets: Iterable[TensorTarget], folder: Path) -> Path:
    """Write `folder/cif/KEY.cif` for each record and `folder/tensors.csv`, which the dataset `file` reads.

    A CIF holds lengths and angles alone, so whoever reads it chooses the Cartesian frame: each tensor is turned into
    the frame in which `structure_from_file` reads the CIF back.

    Args:
        records: those without any of the targets are left out.
        targets: one tensor a crystal each.
        folder: made where it is not there.

    Returns:
        The path of the CSV.

    Raises:
        ZooError: a target is one tensor an atom (a CIF does not keep the atoms' order), or nothing is left to write.
    """
    wanted = list(targets)
    for target in wanted:
        if target.per_atom:
            raise ZooError(f"'{target.name}' is one tensor an atom: CIFs do not keep the order of the atoms, JSON does")
    (folder / "cif").mkdir(parents=True, exist_ok=True)
    rows = [row for record in records if (row := _row(record, wanted, folder)) is not None]
    if not rows:
        raise ZooError(f"no record holds {' or '.join(target.name for target in wanted)}")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_rows(folder / TABLE, [{name: row.get(name, "") for name in columns} for row in rows])
    return folder / TABLE


def _row(record: Record, targets: list[TensorTarget], folder: Path) -> dict[str, Any] | None:
    present = [target for target in targets if target.name in record.targets]
    if not present:
        return None
    place = Path("cif") / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', record.key)}.cif"
    (folder / place).write_text(str(CifWriter(record.structure)), encoding="utf-8")
    # Row vectors: v in the old frame is v @ turn in the CIF's.
    turn = np.linalg.solve(record.structure.lattice.matrix, structure_from_file(folder / place).lattice.matrix)
    row: dict[str, Any] = {"key": record.key, "cif": place.as_posix()}
    for target in present:
        row |= dict(_columns(_turned(record.targets[target.name], turn), target))
    return row | {k: v for k, v in record.properties.items() if isinstance(v, str | int | float) and k not in row}


def _turned(tensor: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(*shape) with each index taken to the new frame."""
    for _ in range(tensor.ndim):  # each turn takes the first index and puts it last: after all, the order is back
        tensor = np.tensordot(tensor, turn, axes=(0, 0))
    return tensor


def _columns(tensor: np.ndarray, target: TensorTarget) -> Iterator[tuple[str, Any]]:
    if target.rank != 2:
        yield target.name, json.dumps(np.round(tensor, 9).tolist())
        return
    for index in target.independent:
        i, j = divmod(index, 3)
        yield f"{target.name}_{'xyz'[i]}{'xyz'[j]}", round(float(tensor[i, j]), 9)
