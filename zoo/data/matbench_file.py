"""Files about Matbench's dielectric task: its crystals as published, predictions of others, sources of structures.

Dunn, Wang, Ganose, Dopp, Jain, npj Comput. Mater. 6, 138 (2020). The first crystal of the published order has the name
mb-dielectric-0001. The five folds are those of scikit-learn's KFold over that order, shuffled by a seed of Matbench's,
so that they are known for a part of the crystals as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure
from sklearn.model_selection import KFold

from zoo.data.formats import open_text
from zoo.data.structures import structure_from_dict
from zoo.errors import ZooError

COUNT = 4764
"""Number of crystals of the task."""

COLUMNS = ["structure", "n"]
FOLD_COUNT = 5
FOLD_SEED = 18012019
"""The seed that Matbench's folds were drawn with."""

LARGEST = 1e6
"""Numbers beyond are damage: their squares and what float32 makes of them would be."""

AMBIGUOUS = "ambiguous"
"""Beginning of what a file of sources says, in `how`, of a crystal whose structure is one of several."""


@dataclass(frozen=True)
class MatbenchCrystals:
    """Crystals of the task, all or a part of them.

    Attributes:
        keys: mb-dielectric-0001, ...
        structures: of each.
        indices: (n,) refractive indices.
        folds: (n,) the official fold, 0 to 4, whose test part each belongs to.
    """

    keys: list[str]
    structures: list[Structure]
    indices: np.ndarray
    folds: np.ndarray

    def missing(self) -> list[str]:
        """Return the names of the crystals of the task that are not here."""
        return sorted({_key(i) for i in range(COUNT)} - set(self.keys))


def read_matbench(path: Path) -> MatbenchCrystals:
    """Read the published layout, {"index": [0, ...], "columns": ["structure", "n"], "data": [[dict, n], ...]}.

    The folds go by the index, in which a crystal that is left out leaves a gap.

    Raises:
        ZooError: the file is not there, of another layout or task, or a crystal in it is broken.
    """
    content = _object(path)
    if content.get("columns") != COLUMNS or not all(isinstance(content.get(k), list) for k in ("index", "data")):
        raise ZooError(
            f"{path}: is not in the layout of matbench_dielectric, "
            '{"index": [0, ...], "columns": ["structure", "n"], "data": [[structure, n], ...]}'
        )
    index, rows = content["index"], content["data"]
    if len(index) != len(rows) or not rows:
        raise ZooError(f"{path}: index has {len(index):,} entries, data {len(rows):,}; a crystal has one of each")
    numbers = [_number(entry, path) for entry in index]
    if len(set(numbers)) < len(numbers):
        twice = next(_key(number) for number in numbers if numbers.count(number) > 1)
        raise ZooError(f"{path}: has {twice} twice")
    keys = [_key(number) for number in numbers]
    read = [_crystal(row, f"{path}: {key}") for row, key in zip(rows, keys, strict=True)]
    folds = official_folds()[numbers]
    return MatbenchCrystals(keys, [structure for structure, _ in read], np.array([n for _, n in read]), folds)


def official_folds() -> np.ndarray:
    """Return (4764,) of each crystal in the published order the fold whose test part it belongs to."""
    folds = np.empty(COUNT, dtype=np.int64)
    for fold, (_, test) in enumerate(KFold(FOLD_COUNT, shuffle=True, random_state=FOLD_SEED).split(folds)):
        folds[test] = fold
    return folds


def read_published(path: Path) -> dict[str, dict[str, float]]:
    """Read predictions of other models, {model: {mb-dielectric-0001: n, ...}, ...}.

    Raises:
        ZooError: the file is not there, of another layout, or holds something that is no number.
    """
    content = _object(path)
    for model, predictions in content.items():
        if not isinstance(predictions, dict) or not predictions:
            raise ZooError(f"{path}: must hold {{model: {{mb-dielectric-0001: n, ...}}}}; '{model[:40]}' holds none")
        wrong = next((key for key, n in predictions.items() if not _is_number(n)), None)
        if wrong is not None:
            raise ZooError(f"{path}: what '{model[:40]}' predicts for {wrong[:40]} is no number below {LARGEST:,.0f}")
    return {model: {key: float(n) for key, n in of_model.items()} for model, of_model in content.items()}


def read_ambiguous(path: Path, crystals: MatbenchCrystals) -> set[str]:
    """Read the keys of crystals whose structure is in doubt, from {mb-dielectric-0001: {"how": "ambiguous...", ...}}.

    Where the file has `n` or `fold` of a crystal, they must be those of the crystals at hand: so it is seen whether
    both files are about the same ones in the same order.

    Raises:
        ZooError: the file is not there, of another layout, lacks a crystal, or contradicts the crystals.
    """
    content = _object(path)
    found = set()
    for key, n, fold in zip(crystals.keys, crystals.indices.tolist(), crystals.folds.tolist(), strict=True):
        entry = content.get(key)
        if not isinstance(entry, dict) or not isinstance(entry.get("how"), str):
            raise ZooError(f"{path}: says nothing of {key}; it must hold {{{key}: {{how: ...}}}} for every crystal")
        for name, ours in (("n", n), ("fold", fold)):
            theirs = entry.get(name, ours)
            if not _is_number(theirs) or abs(theirs - ours) > 1e-6:
                raise ZooError(f"{path}: {name} of {key} is {str(theirs)[:40]} there, {ours:g} here: of other crystals")
        if entry["how"].startswith(AMBIGUOUS):
            found.add(key)
    return found


def _object(path: Path) -> dict[str, Any]:
    try:
        with open_text(path) as text:
            content = json.load(text)
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{path}: is no valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise ZooError(f"{path}: must hold a JSON object, not a {type(content).__name__}")
    return content


def _key(number: int) -> str:
    return f"mb-dielectric-{number + 1:04d}"


def _number(entry: Any, path: Path) -> int:
    """Return the place in the published order, from 0, of an entry of the index: that itself, or the name."""
    name = re.fullmatch(r"mb-dielectric-(\d{4})", entry, re.ASCII) if isinstance(entry, str) else None
    number = int(name[1]) - 1 if name else entry
    if type(number) is not int or not 0 <= number < COUNT:
        raise ZooError(f"{path}: the index holds {str(entry)[:40]!r}; it goes from 0 to {COUNT - 1}")
    return number


def _crystal(row: Any, where: str) -> tuple[Structure, float]:
    if not isinstance(row, list) or len(row) != len(COLUMNS):
        raise ZooError(f"{where}: is no list of a structure and its n")
    content, n = row
    if not _is_number(n) or n < 1:
        raise ZooError(f"{where}: n is {str(n)[:40]}; a refractive index is a number of 1 or more")
    try:
        return structure_from_dict(content), float(n)
    except ZooError as error:
        raise ZooError(f"{where}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST  # NaN is not
