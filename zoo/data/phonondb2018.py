"""Togo's phonon database of 2018: ε∞, Born charges and force constants of 4,717 crystals by PBEsol, to be downloaded.

A. Togo, Phonon database at Kyoto university (2018-04-17), now mdr.nims.go.jp; the methods are in Togo, Chaput, Tanaka,
Phys. Rev. B 91, 094306 (2015). `scripts/derive_open_labels.py` makes the two files.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from zoo.contract.plugin import BadRecord, Dataset, Hypers, Record
from zoo.contract.references import references
from zoo.contract.target import TensorTarget
from zoo.data.lattice_labels import LABELS, locate, rows_of, usable
from zoo.data.structures import checked_structure
from zoo.data.tensors import read_target
from zoo.errors import ZooError
from zoo.storage.cache import content_key
from zoo.storage.weights import sha256_of


class PhononDB2018Hypers(Hypers):
    """Location of the files."""

    path: str | None = None
    """The folder with phonondb2018.json.gz and phonondb2018_force_constants.npz, or the first of them; null: the cache,
    where scripts/derive_open_labels.py places them."""


class PhononDB2018(Dataset):
    """Togo's phonon database of 2018 (VASP, PBEsol): ε∞, ε0, Born charges, force constants at Γ.

    Primitive cells of 2 to 30 atoms; keys are `phonondb-` and the Materials Project id, which is the property `mp_id`.
    `born` is Z*, e, (atom, field, displacement); `Record.force_constants` is Φ, eV/Å², (3N, 3N), row 3κ+α. `ionic`
    follows from these two (fixed cell), and total is electronic + ionic: neither is one more label beside them.
    Left out, with the reason, are: all tensors of near-metals (an eigenvalue of ε∞ above 30); charges above 15 e and
    what follows from them; Φ and ε0 of unstable crystals; ε0 with an eigenvalue above 100.
    Properties are space_group (number), unstable, smallest_optic_eigenvalue (mass-weighted, eV/(Å² u)) and source.
    """

    Hypers = PhononDB2018Hypers
    hypers: PhononDB2018Hypers
    licence: ClassVar[str] = (
        "CC BY 4.0: cite A. Togo, phonon database (2018), mdr.nims.go.jp; collected by github.com/WMD-group/phononDB"
    )
    citation: ClassVar[str] = references("togo2018phonondb", "togo2015lifetimes")

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the electronic, ionic and total dielectric tensor, dimensionless, and the Born charges, e."""
        return LABELS

    def fetch(self) -> Path:
        """Return the file that is here; it is made by a script, not downloaded.

        Raises:
            ZooError: it is not here.
        """
        return locate(self.hypers.path, "phonondb2018")

    def fingerprint(self) -> str:
        """Return a hash of the two files.

        Raises:
            ZooError: they are not here.
        """
        file = self.fetch()
        return content_key(sha256_of(file), sha256_of(_beside(file)))

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records in the order of the file.

        Raises:
            ZooError: the files cannot be read, or do not belong together.
        """
        file = self.fetch()
        rows = rows_of(file)
        matrices = _Matrices(_beside(file), [row.get("mpid") for row in rows])
        for number, row in enumerate(rows):
            key = f"phonondb-{row.get('mpid', number)}"
            try:
                yield _record(key, row, matrices[number])
            except ZooError as error:
                yield BadRecord(key, str(error))


def _record(key: str, row: Mapping[str, Any], flat: np.ndarray) -> Record:
    try:
        species, unstable = list(row["species"]), row["unstable"]
        lattice, fractions = (np.array(row[name], dtype=np.float64) for name in ("lattice", "frac"))
        structure = checked_structure(lattice, species, fractions)
        tensors = {name: read_target(row[name], LABELS[name], len(species)) for name in ("electronic", "ionic", "born")}
    except (KeyError, TypeError, ValueError) as error:
        raise ZooError(f"a field is missing or of another kind ({type(error).__name__}: {error})") from None
    size = 3 * len(species)
    if flat.size != size**2 or not np.isfinite(flat).all():
        raise ZooError(f"its force constants are not {size}×{size} numbers")
    phi = flat.reshape(size, size).astype(np.float64)
    tensors["total"] = tensors["electronic"] + tensors["ionic"]
    kept, force_constants, reasons = usable(tensors, 0.5 * (phi + phi.T), unstable=bool(unstable))
    properties = {name: row[name] for name in ("space_group", "unstable", "smallest_optic_eigenvalue") if name in row}
    properties |= {"mp_id": row["mpid"], "source": "phonondb2018"}
    return Record(key, structure, kept, properties, "PBEsol", force_constants, reasons)


def _beside(file: Path) -> Path:
    beside = file.with_name("phonondb2018_force_constants.npz")
    if not beside.is_file():
        raise ZooError(f"{beside}: no such file; it belongs beside {file.name}, and is made together with it")
    return beside


class _Matrices:
    """The force constants of each crystal, flat: `values[offsets[i] : offsets[i + 1]]`.

    Raises:
        ZooError: the file cannot be read, or is that of other crystals.
    """

    def __init__(self, path: Path, mpids: list[Any]) -> None:
        try:
            with np.load(path, allow_pickle=False) as file:
                self._values, self._offsets, named = file["values"], file["offsets"], file["mpid"]
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ZooError(f"{path}: cannot be read ({error}); make it anew") from None
        if named.tolist() != mpids or len(self._offsets) != len(mpids) + 1 or self._offsets[-1] != len(self._values):
            raise ZooError(f"{path} does not hold the crystals of the .json.gz beside it; make both anew")

    def __getitem__(self, number: int) -> np.ndarray:
        found: np.ndarray = self._values[self._offsets[number] : self._offsets[number + 1]]
        return found
