"""Crystals and tensors of the user's own: JSON, extxyz, or CSV with a structure file a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field, field_validator

from zoo.contract.plugin import BadRecord, Dataset, Hypers, Record
from zoo.contract.target import TensorTarget, check_formula
from zoo.data.formats import csv_entries, csv_fingerprint, extxyz_entries, records_of
from zoo.data.json_records import json_entries
from zoo.errors import ZooError
from zoo.storage.user_path import user_path
from zoo.storage.weights import sha256_of


class TargetHypers(BaseModel):
    """Description of a tensor property in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    formula: str = Field(default="ij=ji", pattern=r"^[a-z]+(=-?[a-z]+)*$")
    """Index symmetry as e3nn writes it: ij=ji (symmetric), ijkl=jikl=klij (elasticity), ..."""
    unit: str = "1"
    """Unit of the values; 1 where they are dimensionless."""
    quantity: str = ""
    """Physical quantity: electronic dielectric, ionic dielectric, total dielectric, elastic, ... or nothing."""
    intensive: bool = True
    """A supercell has the same tensor; false: a supercell of n cells has n times the tensor."""
    per_atom: bool = False
    """One tensor an atom (Born charges, shieldings, ...) rather than one a crystal; atoms may lack a label."""

    @field_validator("formula")
    @classmethod
    def _permutations(cls, formula: str) -> str:
        check_formula(formula)
        return formula


class FileHypers(Hypers):
    """Location of the file, and the meaning of its fields."""

    path: str = ""
    """JSON (.json), extxyz (.extxyz, .xyz) or CSV (.csv) file, each also gzipped (.gz)."""
    targets: dict[str, TargetHypers] = Field(default={"total": TargetHypers(quantity="total dielectric")}, min_length=1)
    """Name of the field -> formula, unit and quantity of the tensor in it."""
    key: str = "key"
    """Field with the keys of the records; without it the structure's path or the number in the file is the key."""
    structure: str = "cif"
    """CSV: the column with the path of the CIF or VASP file, from the folder of the CSV."""


class File(Dataset):
    """Your own JSON, extxyz or CSV file.

    Tensors must be in the Cartesian frame of their structures (`zoo data check FILE`).

    JSON: {key: {"structure": pymatgen's dict, target: tensor, ...}, ...} or a list of such objects.
    extxyz: one frame a crystal, target="9 numbers" (row by row) in its comment line.
    CSV: one row a crystal; the tensor as JSON in the column `target` or in the columns target_xx, target_xy, ...
    One tensor an atom is a list of tensors in the order of the atoms, null for an atom without a label; in extxyz, a
    column of the atoms (`Properties=...:target:R:9`), NaN for an atom without a label.
    A field `functional` (PBE, PBEsol, ...) is the level of theory of a record.
    JSON is read as a whole, the others crystal by crystal: take these for more than memory holds.
    A CIF has no frame of its own: tensors beside one must have c along z and a in the xz plane. VASP files have one.
    """

    Hypers = FileHypers

    def __init__(self, hypers: FileHypers) -> None:
        super().__init__(hypers)
        if not hypers.path:
            raise ZooError("dataset 'file' needs 'path', the file to read")
        self.path = user_path(hypers.path, "dataset.path")
        self._targets = {
            name: TensorTarget(name=name, **target.model_dump()) for name, target in hypers.targets.items()
        }

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the targets that the hyperparameters declare."""
        return self._targets

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file and, for a CSV, of the structure files that it names.

        Raises:
            ZooError: the file as a whole cannot be read.
        """
        if self._format == "csv":
            return csv_fingerprint(self.path, self.hypers.structure)
        return sha256_of(self.path)

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records in the order of the file.

        Raises:
            ZooError: the file as a whole cannot be read.
        """
        if self._format == "json":
            entries = json_entries(self.path, self.hypers.key)
        elif self._format == "extxyz":
            entries = extxyz_entries(self.path, self.hypers.key)
        else:
            entries = csv_entries(self.path, self._targets, self.hypers.key, self.hypers.structure)
        yield from records_of(entries, self._targets, self.path.name)

    @property
    def _format(self) -> str:
        name = self.path.name.lower().removesuffix(".gz")
        for ending, kind in ((".json", "json"), (".extxyz", "extxyz"), (".xyz", "extxyz"), (".csv", "csv")):
            if name.endswith(ending):
                return kind
        raise ZooError(f"{self.path}: unknown format; there is JSON (.json), extxyz (.extxyz, .xyz), CSV (.csv)")
