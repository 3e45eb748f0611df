"""Crystals with one tensor property on disk: written as a dataset yields them, memory-mapped, never all in memory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from pymatgen.core import Lattice, Structure
from torch import Tensor

from zoo.contract.level_of_theory import level_of
from zoo.contract.plugin import Record
from zoo.contract.target import TensorTarget
from zoo.data.duplicates import Identity
from zoo.data.frame import is_negligible
from zoo.data.symmetry import crystal_system
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.elements import symbols
from zoo.graphs.store import offsets
from zoo.storage.cache import ArrayWriter, MappedArray, building, cache_root, content_key, open_array

FORMAT = 2  # of the files: count up when they change, or what is written into them
CHUNK = 256  # crystals in memory while writing

FACTS = np.dtype(
    [
        ("n_atoms", "<i8"),
        ("volume", "<f8"),
        ("space_group", "<i2"),
        ("low", "<f8"),
        ("high", "<f8"),
        ("of_total", "?"),
        ("negligible", "?"),
        ("level", "|u1"),
        ("band_gap", "<f8"),
        ("means", "<f8", (3,)),
        ("force_constants", "<i8"),
    ]
)
# name -> dtype and shape of a row: one a crystal, then one an atom
GEOMETRY: dict[str, tuple[str, tuple[int, ...]]] = {
    "cell": ("<f8", (3, 3)),
    "positions": ("<f8", (3,)),
    "fractional": ("<f8", (3,)),
    "numbers": ("|u1", ()),
}
# Labels beside a joint target: one an atom, and 9N² numbers of a crystal that has force constants.
BESIDE: dict[str, tuple[str, tuple[int, ...]]] = {"born": ("<f4", (3, 3)), "force_constants": ("<f4", ())}


@dataclass(frozen=True)
class CrystalStore(Sequence[Crystal]):
    """Sequence of n crystals and their tensors: `store[i]`, `structure(i)` and `tensor(i)` read from mapped files.

    Only names and a few numbers of each crystal are in memory.

    Attributes:
        target: the tensor that the crystals hold.
        key: hash of the content.
        keys, formulas: n strings: their names, their reduced formulas.
        facts: (n,) of `FACTS`: `n_atoms`; `volume`, Å³ a formula unit; `space_group`, 0 where spglib finds none; `low`
            and `high`, smallest and largest element of the tensor that cleaning goes by: the record's `total` where
            `of_total`, else the target; whether the target is `negligible` beside another tensor of its record; the
            `level` of theory (`zoo.contract.level_of_theory`); `band_gap`, eV, NaN where it is not known; `means`, a
            third of the trace of each part of a joint target that is known by it alone, else NaN; where its
            `force_constants` begin in their file, -1 without any.
        files: the arrays on disk: `GEOMETRY`, `tensors` and, for a joint target, `BESIDE`.
        row, atom: (n,) where in `files` the crystals, and their first atoms, are.
    """

    target: TensorTarget
    key: str
    keys: list[str]
    formulas: list[str]
    facts: np.ndarray
    files: Mapping[str, MappedArray]
    row: np.ndarray
    atom: np.ndarray

    @classmethod
    def open(cls, path: Path, target: TensorTarget) -> CrystalStore:
        """Open the folder that a `CrystalWriter` wrote.

        Raises:
            ZooError: a file is damaged.
        """
        keys, formulas = _read_names(path / "names.jsonl")
        facts = np.array(open_array(path / "facts.npy"))
        beside = BESIDE if target.parts else {}
        files = {name: open_array(path / f"{name}.npy") for name in [*GEOMETRY, "tensors", *beside]}
        key = content_key("crystals", FORMAT, keys, formulas, facts.view(np.uint8), files)
        atom = offsets(facts["n_atoms"])[:-1]
        return cls(target, key, keys, formulas, facts, files, np.arange(len(keys)), atom)

    def __len__(self) -> int:
        return len(self.keys)

    def _atoms(self, index: int) -> slice:
        return slice(self.atom[index], self.atom[index] + self.facts["n_atoms"][index])

    def __getitem__(self, index: int) -> Crystal:  # type: ignore[override]
        index = range(len(self))[index]
        files, atoms = self.files, self._atoms(index)
        return Crystal(files["positions"][atoms], files["numbers"][atoms], files["cell"][self.row[index]])

    def structure(self, index: int) -> Structure:
        """Return crystal `index` as a pymatgen Structure with lattice, elements and coordinates only."""
        files, atoms = self.files, self._atoms(index)
        lattice = Lattice(files["cell"][self.row[index]])
        return Structure(lattice, symbols(files["numbers"][atoms]), files["fractional"][atoms])

    def tensor(self, index: int) -> np.ndarray:
        """Return the tensor of crystal `index`: (*target.shape) or, per atom, (n_atoms, *target.shape), float64."""
        rows = self.files["tensors"]
        return rows[self._atoms(index)] if self.target.per_atom else rows[self.row[index]]

    def born(self, index: int) -> np.ndarray:
        """Return the Born charges of crystal `index`, (n_atoms, 3, 3) e, NaN without any; of a joint target alone."""
        return self.files["born"][self._atoms(index)]

    def force_constants(self, index: int) -> np.ndarray | None:
        """Return the force constants of the record at Γ, (3N, 3N) eV/Å² float64; None where it has none."""
        start, size = int(self.facts["force_constants"][index]), 3 * int(self.facts["n_atoms"][index])
        if start < 0:
            return None
        flat = self.files["force_constants"][start : start + size**2]
        return np.asarray(flat, dtype=np.float64).reshape(size, size)

    def identity(self, index: int) -> Identity:
        """Return the quantities by which duplicates of crystal `index` are recognised."""
        group = int(self.facts["space_group"][index]) or None
        return Identity(self.keys[index], self.formulas[index], float(self.facts["volume"][index]), group)

    def systems(self) -> list[str]:
        """Return the crystal system of each crystal; triclinic where spglib finds no symmetry."""
        return [crystal_system(int(number) or 1) for number in self.facts["space_group"]]

    def select(self, indices: Sequence[int] | np.ndarray) -> CrystalStore:
        """Return a store of the crystals `indices`, in that order, which shares the files."""
        chosen = np.asarray(indices, dtype=np.int64)
        return dataclasses.replace(
            self,
            key=content_key("selection", self.key, chosen),
            keys=[self.keys[i] for i in chosen],
            formulas=[self.formulas[i] for i in chosen],
            facts=self.facts[chosen],
            row=self.row[chosen],
            atom=self.atom[chosen],
        )

    def tensors(self) -> Tensor:
        """Return all tensors, float32, mapped from the cache: (n, *target.shape) or, per atom, (all atoms, *shape).

        Raises:
            ZooError: the disk is full.
        """
        path = cache_root() / "tensors" / content_key("tensors", FORMAT, self.key)
        with building(path) as partial:
            if partial is not None:
                file = ArrayWriter(partial / "tensors.npy", "<f4", self.target.shape)
                for start in range(0, len(self), CHUNK):
                    part = [self.tensor(i) for i in range(start, min(start + CHUNK, len(self)))]
                    file.append(np.concatenate(part) if self.target.per_atom else np.stack(part))
                file.close()
        return torch.from_numpy(open_array(path / "tensors.npy", "c"))


def _read_names(path: Path) -> tuple[list[str], list[str]]:
    keys: list[str] = []
    formulas: list[str] = []
    once: dict[str, str] = {}  # a formula is one string, however many crystals have it
    try:
        with path.open(encoding="utf-8") as lines:
            for key, formula in map(json.loads, lines):
                keys.append(key)
                formulas.append(once.setdefault(formula, formula))
    except (OSError, ValueError) as error:
        raise ZooError(f"{path} is damaged or missing: delete {path.parent} and run again") from error
    return keys, formulas


class CrystalWriter:
    """Writer of records with the target into a folder, for `CrystalStore.open`."""

    def __init__(self, folder: Path, target: TensorTarget, by_total: bool) -> None:
        """Open the files; with `by_total`, cleaning goes by the `total` tensor of a record that has one."""
        self.target = target
        self._by_total = by_total
        self._waiting: list[dict[str, Any]] = []
        with ExitStack() as stack:
            self._names = stack.enter_context((folder / "names.jsonl").open("w", encoding="utf-8"))
            kinds: dict[str, tuple[Any, tuple[int, ...]]] = {"facts": (FACTS, ()), **GEOMETRY}
            kinds["tensors"] = ("<f8", target.shape)
            kinds |= BESIDE if target.parts else {}
            self._files = {name: ArrayWriter(folder / f"{name}.npy", *kind) for name, kind in kinds.items()}
            for file in self._files.values():
                stack.callback(file.close)
            self._stack = stack.pop_all()
        self._per_atom = {"positions", "fractional", "numbers", *(BESIDE if target.parts else ())}
        self._per_atom |= {"tensors"} if target.per_atom else set()
        self._force_constants = 0  # numbers of them written, or waiting

    def __enter__(self) -> CrystalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is None:
                self._write()

    def add(self, record: Record, crystal: Crystal) -> None:
        """Append a record; `crystal` is its structure."""
        tensor = np.asarray(record.targets[self.target.name], dtype=np.float64)
        identity = Identity.of(record)
        total = record.targets.get("total") if self._by_total else None
        cleaned_by = tensor if total is None else np.asarray(total)
        if np.isnan(cleaned_by).all():  # a joint target of which nothing but Born charges, say, is known
            cleaned_by = np.zeros(1)
        gap = record.properties.get("band_gap")
        facts = (
            len(crystal.numbers),
            identity.volume,
            identity.space_group or 0,
            np.nanmin(cleaned_by),
            np.nanmax(cleaned_by),
            total is not None,
            not self.target.per_atom and not self.target.parts and is_negligible(record, self.target),
            level_of(record.functional),
            gap if isinstance(gap, int | float) and 0 <= gap < np.inf else np.nan,
            _means(record, self.target, tensor),
            self._force_constants if self.target.parts and record.force_constants is not None else -1,
        )
        row = {
            "names": [identity.key, identity.formula],
            "facts": np.array(facts, dtype=FACTS),
            "cell": crystal.cell,
            "positions": crystal.positions,
            "fractional": record.structure.frac_coords,
            "numbers": crystal.numbers,
            "tensors": tensor,
        }
        if self.target.parts:
            given, count = record.force_constants, len(crystal.numbers)
            row["born"] = record.targets.get("born", np.full((count, 3, 3), np.nan))
            row["force_constants"] = np.zeros(0) if given is None else np.ravel(given)
            self._force_constants += len(row["force_constants"])
        self._waiting.append(row)
        if len(self._waiting) == CHUNK:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        self._names.writelines(json.dumps(row["names"]) + "\n" for row in self._waiting)
        for name, file in self._files.items():
            rows = [row[name] for row in self._waiting]
            file.append(np.concatenate(rows) if name in self._per_atom else np.stack(rows))
        self._waiting.clear()


def _means(record: Record, target: TensorTarget, tensor: np.ndarray) -> np.ndarray:
    """(3,) the means of the parts of a joint target that are known by nothing else; NaN elsewhere."""
    out = np.full(3, np.nan)
    for k, part in enumerate(target.parts):
        if np.isnan(tensor[k]).any():
            out[k] = record.means.get(part.name, np.nan)
    return out


class ManyCrystals(Sequence[Crystal]):
    """Crystals of several stores, each read from its files when it is asked for.

    Args:
        places: of each crystal its store and its number there.
    """

    def __init__(self, places: Sequence[tuple[CrystalStore, int]]) -> None:
        self._places = places

    @classmethod
    def of(cls, stores: Sequence[CrystalStore]) -> ManyCrystals:
        """All crystals of the stores, one store after another."""
        return cls([(store, i) for store in stores for i in range(len(store))])

    def select(self, indices: Sequence[int] | np.ndarray) -> ManyCrystals:
        """Select the crystals of these numbers, in that order."""
        return ManyCrystals([self._places[i] for i in indices])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Crystal:  # type: ignore[override]
        store, number = self._places[index]
        return store[number]

    @property
    def keys(self) -> list[str]:
        """Names of the crystals."""
        return [store.keys[number] for store, number in self._places]

    @property
    def target(self) -> TensorTarget:
        """The tensor that the crystals hold."""
        return self._places[0][0].target

    def has_force_constants(self, index: int) -> bool:
        """Whether the crystal's record has force constants."""
        store, number = self._places[index]
        return bool(store.facts["force_constants"][number] >= 0)

    def force_constants(self, index: int) -> np.ndarray:
        """The force constants of a crystal's record that has some, as `CrystalStore.force_constants`."""
        store, number = self._places[index]
        found = store.force_constants(number)
        assert found is not None  # has_force_constants
        return found
