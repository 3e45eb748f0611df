"""Labelled crystals on disk: each source is read once, written as it comes, and mapped; never all in memory."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

from zoo import __version__
from zoo.data.reading import LeftOut
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.store import offsets
from zoo.pretraining.label_sources import Labelled, fingerprint, labelled_crystals
from zoo.pretraining.pretraining_config import Source
from zoo.storage.cache import ArrayWriter, building, cache_root, content_key, open_array
from zoo.storage.run_folder import read_json, write_json

FORMAT = 2  # of the files: count up when they change, or what is written into them
CHUNK = 256  # crystals in memory while writing

FACTS = np.dtype(
    [
        ("n_atoms", "<i8"),
        ("energy", "<f8"),
        ("stress", "<f8", (3, 3)),
        ("atomic_energies", "?"),
        ("forces", "?"),
        ("force_constants", "<i8"),
    ]
)
PER_ATOM: dict[str, tuple[str, tuple[int, ...]]] = {
    "positions": ("<f8", (3,)),
    "numbers": ("|u1", ()),
    "atomic_energies": ("<f8", ()),
    "forces": ("<f8", (3,)),
}


class LabelledStore:
    """The labelled crystals of one source: names and a few numbers of each in memory, the rest in mapped files.

    Attributes:
        key: hash of the content.
        keys, formulas: n strings: names, reduced formulas.
        facts: (n,) of `FACTS`: `energy` and `stress` are NaN where they are not known; `forces` and
            `atomic_energies` say whether these are; `force_constants` where they begin in their file, -1 without any.
        left_out: records without a label, and why.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.key = key
        names = [json.loads(line) for line in (folder / "names.jsonl").read_text(encoding="utf-8").splitlines()]
        self.keys: list[str] = [name for name, _ in names]
        self.formulas: list[str] = [formula for _, formula in names]
        self.facts = np.array(open_array(folder / "facts.npy"))
        self.left_out = [LeftOut(**item) for item in read_json(folder / "left_out.json")]
        self._files = {name: open_array(folder / f"{name}.npy") for name in ("cell", *PER_ATOM, "force_constants")}
        self._atoms = offsets(self.facts["n_atoms"])

    @classmethod
    def of(cls, source: Source) -> LabelledStore:
        """Read a source, or take it from the cache.

        Raises:
            ZooError: as `labelled_crystals`; or it holds no label at all.
        """
        versions = (__version__, *(version(name) for name in ("ase", "pymatgen")))
        key = content_key("labelled", FORMAT, versions, fingerprint(source))
        folder = cache_root() / "labelled" / key
        with building(folder) as partial:
            if partial is not None:
                _write(partial, source)
        found = cls(folder, key)
        if not len(found):
            first = f"; the first: {found.left_out[0].key} {found.left_out[0].reason}" if found.left_out else ""
            raise ZooError(f"no crystal of the source '{source.name}' has a label{first}")
        return found

    def __len__(self) -> int:
        return len(self.keys)

    def _rows(self, index: int) -> slice:
        return slice(self._atoms[index], self._atoms[index + 1])

    def crystal(self, index: int) -> Crystal:
        """Return atoms and cell."""
        files, atoms = self._files, self._rows(index)
        return Crystal(files["positions"][atoms], files["numbers"][atoms], files["cell"][index])

    def of_atoms(self, label: str, index: int) -> np.ndarray:
        """Return `forces`, (N, 3) eV/Å, or `atomic_energies`, (N,) eV; NaN where they are not known."""
        return self._files[label][self._rows(index)]

    def force_constants(self, index: int) -> np.ndarray:
        """Return (3N, 3N) eV/Å² of a crystal that has them."""
        start, size = int(self.facts["force_constants"][index]), 3 * int(self.facts["n_atoms"][index])
        flat = self._files["force_constants"][start : start + size**2]
        return np.asarray(flat, dtype=np.float64).reshape(size, size)


def _write(folder: Path, source: Source) -> None:
    left_out: list[LeftOut] = []
    with ExitStack() as stack:
        kinds = {"facts": (FACTS, ()), "cell": ("<f8", (3, 3)), **PER_ATOM, "force_constants": ("<f8", ())}
        files = {name: ArrayWriter(folder / f"{name}.npy", *kind) for name, kind in kinds.items()}  # type: ignore[arg-type]
        for file in files.values():
            stack.callback(file.close)
        names = stack.enter_context((folder / "names.jsonl").open("w", encoding="utf-8"))
        for one in tqdm(labelled_crystals(source), desc="reading", unit=" crystals", disable=None):
            if isinstance(one, LeftOut):
                left_out.append(one)
            else:
                _append(files, one)
                names.write(json.dumps([one.key, one.formula]) + "\n")
    write_json(folder / "left_out.json", [dataclasses.asdict(item) for item in left_out])


def _append(files: dict[str, ArrayWriter], one: Labelled) -> None:
    count, phi = len(one.crystal.numbers), one.force_constants
    stress = np.full((3, 3), np.nan) if one.stress is None else one.stress
    start = -1 if phi is None else files["force_constants"].rows
    atomic, forces = one.atomic_energies, one.forces
    facts = (count, one.energy, stress, atomic is not None, forces is not None, start)
    files["facts"].append(np.array([facts], dtype=FACTS))
    files["cell"].append(one.crystal.cell[None])
    files["positions"].append(one.crystal.positions)
    files["numbers"].append(one.crystal.numbers)
    files["atomic_energies"].append(np.full(count, np.nan) if atomic is None else atomic)
    files["forces"].append(np.full((count, 3), np.nan) if forces is None else forces)
    if phi is not None:
        files["force_constants"].append(np.ravel(phi))


@dataclass(frozen=True)
class LabelledCrystals(Sequence[Crystal]):
    """Crystals of several stores, one after another: `crystals[i]` reads from the mapped files.

    Attributes:
        stores: one for each source.
        source, row: (n,) the store of each crystal, and its number there.
    """

    stores: Sequence[LabelledStore]
    source: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, stores: Sequence[LabelledStore], chosen: Sequence[np.ndarray]) -> LabelledCrystals:
        """The chosen crystals of each store."""
        source = np.concatenate([np.full(len(rows), number) for number, rows in enumerate(chosen)])
        return cls(stores, source, np.concatenate(chosen).astype(np.int64))

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: int) -> Crystal:  # type: ignore[override]
        index = range(len(self))[index]
        return self.stores[self.source[index]].crystal(int(self.row[index]))

    @cached_property
    def key(self) -> str:
        """Hash of the content."""
        return content_key([store.key for store in self.stores], self.source, self.row)

    @cached_property
    def facts(self) -> np.ndarray:
        """(n,) of `FACTS`."""
        parts = [store.facts[self.row[self.source == number]] for number, store in enumerate(self.stores)]
        return np.concatenate(parts)

    @cached_property
    def keys(self) -> list[str]:
        """Names; with the number of their source where there are several."""
        named = "{key}" if len(self.stores) == 1 else "{source}/{key}"
        return [
            named.format(source=s, key=self.stores[s].keys[row])
            for s, row in zip(self.source.tolist(), self.row.tolist(), strict=True)
        ]

    @cached_property
    def formulas(self) -> list[str]:
        """Reduced formulas."""
        return [self.stores[s].formulas[row] for s, row in zip(self.source.tolist(), self.row.tolist(), strict=True)]

    def of_atoms(self, label: str, index: int) -> np.ndarray:
        """Return `forces`, (N, 3) eV/Å, or `atomic_energies`, (N,) eV; NaN where they are not known."""
        return self.stores[self.source[index]].of_atoms(label, int(self.row[index]))

    def force_constants(self, index: int) -> np.ndarray:
        """Return (3N, 3N) eV/Å² of a crystal that has them."""
        return self.stores[self.source[index]].force_constants(int(self.row[index]))
