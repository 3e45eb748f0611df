"""Reading of labelled crystals: files as ASE writes them, and datasets whose records hold force constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.contract.plugin import BadRecord
from zoo.data.formats import Entry, entry_of, extxyz_entries
from zoo.data.reading import LeftOut
from zoo.data.subset import dataset_of
from zoo.errors import ZooError
from zoo.graphs.crystal import Crystal
from zoo.pretraining.pretraining_config import Source
from zoo.storage.user_path import user_path
from zoo.storage.weights import sha256_of

VOIGT = [[0, 5, 4], [5, 1, 3], [4, 3, 2]]  # ASE's order: xx yy zz yz xz xy


@dataclass(frozen=True)
class Labelled:
    """A crystal and what is known of it.

    Attributes:
        key: unique within the source.
        formula: reduced.
        crystal: atoms and cell.
        energy: eV, of the whole cell; NaN where it is not known.
        atomic_energies: (N,) eV, of which another potential makes its energy, or None.
        forces: (N, 3) eV/Å, or None.
        stress: (3, 3) eV/Å³, ASE's sign, or None.
        force_constants: (3N, 3N) Φ at Γ, eV/Å², or None.
    """

    key: str
    formula: str
    crystal: Crystal
    energy: float = np.nan
    atomic_energies: np.ndarray | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    force_constants: np.ndarray | None = None


def file_of(source: Source) -> Path | None:
    """Return the file of a source that is one, None for a dataset.

    Raises:
        ZooError: it names no path, another setting, or a file that is not there.
    """
    if source.name != "file":
        return None
    if set(source.settings) != {"path"}:
        raise ZooError("a source {name: file} takes a path and a share, nothing else")
    path = user_path(str(source.settings["path"]), "sources.path")
    if not path.is_file():
        raise ZooError(f"{path}: no such file")
    return path


def fingerprint(source: Source) -> list[Any]:
    """Identifies what a source yields.

    Raises:
        ZooError: it cannot be had, or is a dataset that cannot say.
    """
    path = file_of(source)
    if path is not None:
        return ["file", sha256_of(path)]
    dataset = dataset_of(source)
    found = dataset.fingerprint()
    if found is None:
        raise ZooError(f"the dataset '{source.name}' has no fingerprint, so its labels cannot be kept: name a file")
    return [type(dataset).__qualname__, dataset.hypers.model_dump(mode="json"), found]


def licence_of(source: Source) -> str:
    """Return the licence of a dataset; of a file the zoo does not know it."""
    return "of your own file" if source.name == "file" else dataset_of(source).licence


def labelled_crystals(source: Source) -> Iterator[Labelled | LeftOut]:
    """Yield the crystals of a source, and in the place of those that have no label the reason.

    Raises:
        ZooError: a crystal cannot be read, or a label of it is NaN or has another shape.
    """
    path = file_of(source)
    seen: set[str] = set()
    for one in _of_dataset(source) if path is None else _of_file(path):
        if one.key in seen:
            raise ZooError(f"{source.name}: two crystals have the key '{one.key}'")
        seen.add(one.key)
        yield one


def _of_dataset(source: Source) -> Iterator[Labelled | LeftOut]:
    for record in dataset_of(source).records():
        if isinstance(record, BadRecord):
            yield LeftOut(record.key, "read", record.reason)
        elif record.force_constants is None:
            why = record.left_out.get("force_constants")
            yield LeftOut(record.key, "target", "has no force constants" + (f": {why}" if why else ""))
        else:
            formula = record.structure.composition.reduced_formula
            yield Labelled(record.key, formula, Crystal.of(record.structure), force_constants=record.force_constants)


def _of_file(path: Path) -> Iterator[Labelled | LeftOut]:
    for entry in _entries(path):
        try:
            if isinstance(entry.structure, ZooError):
                raise entry.structure
            labels = _labels(entry.fields, len(entry.structure))
        except ZooError as error:
            raise ZooError(f"{path}: {entry.key}: {error}") from None
        if labels:
            formula = entry.structure.composition.reduced_formula
            yield Labelled(entry.key, formula, Crystal.of(entry.structure), **labels)
        else:
            yield LeftOut(entry.key, "target", "has no energy, forces or stress")


def _entries(path: Path) -> Iterator[Entry]:
    name = path.name.lower()
    if name.removesuffix(".gz").endswith((".xyz", ".extxyz")):
        yield from extxyz_entries(path)
    elif name.endswith((".db", ".traj")):
        yield from _of_ase(path)
    else:
        raise ZooError(f"{path}: unknown format; there is extxyz (.extxyz, .xyz), ASE's database (.db) and .traj")


def _of_ase(path: Path) -> Iterator[Entry]:
    import ase.db
    import ase.io

    try:
        if path.suffix == ".db":
            for row in ase.db.connect(path).select():
                yield entry_of(row.toatoms(), row.id)
        else:
            for number, atoms in enumerate(ase.io.iread(path, format="traj")):
                yield entry_of(atoms, number)
    except ZooError:
        raise
    except Exception as error:  # ASE raises whatever its inner code does
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ZooError(f"{path}: cannot be read by ASE ({reason})") from None


def _labels(fields: Any, atoms: int) -> dict[str, Any]:
    """The labels among the fields of a crystal, checked."""
    found: dict[str, Any] = {}
    known: dict[str, list[tuple[int, ...]]] = {
        "energy": [()],
        "energies": [(atoms,)],
        "forces": [(atoms, 3)],
        "stress": [(6,), (9,), (3, 3)],
    }
    for name, shapes in known.items():
        given = fields.get(name)
        if given is None:
            continue
        try:
            values = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise ZooError(f"'{name}' is no numbers") from None
        if values.shape not in shapes:
            raise ZooError(f"'{name}' has shape {values.shape}, wanted is {' or '.join(map(str, shapes))}")
        if not np.isfinite(values).all():
            raise ZooError(f"'{name}' holds NaN or infinite numbers: correct the label, or take it out")
        found[name] = values
    if "energy" in found:
        found["energy"] = float(found["energy"])
    if "energies" in found:  # ASE's name
        found["atomic_energies"] = found.pop("energies")
    if "stress" in found:
        stress = found["stress"]
        full = stress[VOIGT] if stress.shape == (6,) else stress.reshape(3, 3)
        found["stress"] = 0.5 * (full + full.T)
    return found
