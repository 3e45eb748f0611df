"""Export of a dataset as a folder of CIFs and a CSV of tensors, which the dataset `file` reads."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.io.cif import CifWriter

from zoo.contract.plugin import Record
from zoo.contract.target import TensorTarget
from zoo.data.structure_files import structure_from_file
from zoo.errors import ZooError
from zoo.storage.run_folder import write_rows

TABLE = "tensors.csv"


def export(records: Iterable[Record], targets: Iterable[TensorTarget], folder: Path) -> Path:
    """Write `folder/cif/KEY.cif` for each record and `folder/tensors.csv`, which the dataset `file` reads.

    A CIF holds lengths and angles alone, so whoever reads it chooses the Cartesian frame: each tensor is turned into
    the frame in which `structure_from_file` reads the CIF back.

    Args:
        records: the records to write; a record without any of the targets is left out.
        targets: tensor properties of crystals, not of atoms.
        folder: the destination, created if it does not exist.

    Returns:
        The path of the CSV.

    Raises:
        ZooError: a target is a tensor of atoms (a CIF does not keep the atoms' order), or nothing is left to write.
    """
    wanted = list(targets)
    for target in wanted:
        if target.per_atom:
            raise ZooError(f"'{target.name}' is a tensor of atoms: CIFs do not keep the order of the atoms, JSON does")
    (folder / "cif").mkdir(parents=True, exist_ok=True)
    held = [record for record in records if any(target.name in record.targets for target in wanted)]
    files = (Path("cif") / f"{name}.cif" for name in file_names(record.key for record in held))
    rows = [_row(record, wanted, folder, file) for record, file in zip(held, files, strict=True)]
    if not rows:
        raise ZooError(f"no record holds {' or '.join(target.name for target in wanted)}")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_rows(folder / TABLE, [{name: row.get(name, "") for name in columns} for row in rows])
    return folder / TABLE


def file_names(keys: Iterable[str]) -> Iterator[str]:
    """Turn keys into file names: plain characters, not too long, distinct even where case does not count."""
    used: set[str] = set()
    for key in keys:
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", key)[:100]
        numbered = (f"{plain}-{i}" for i in itertools.count(2))
        name = next(n for n in itertools.chain([plain], numbered) if n.lower() not in used)
        used.add(name.lower())
        yield name


def _row(record: Record, targets: list[TensorTarget], folder: Path, file: Path) -> dict[str, Any]:
    present = [target for target in targets if target.name in record.targets]
    (folder / file).write_text(str(CifWriter(record.structure)), encoding="utf-8")
    # Row vectors: v in the old frame is v @ turn in the CIF's.
    turn = np.linalg.solve(record.structure.lattice.matrix, structure_from_file(folder / file).lattice.matrix)
    row: dict[str, Any] = {"key": record.key, "cif": file.as_posix()}
    for target in present:
        row |= dict(_columns(_turned(record.targets[target.name], turn), target))
    return row | {k: v for k, v in record.properties.items() if isinstance(v, str | int | float) and k not in row}


def _turned(tensor: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Rotate each index of a tensor (*shape) into the new frame."""
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
