"""Datasets that are embedded in the zoo, each as one gzipped JSON file."""

from __future__ import annotations

import gzip
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, ClassVar

import numpy as np
from pymatgen.core import Structure

from zoo.contract.plugin import BadRecord, Dataset, Record
from zoo.data.structures import checked_structure
from zoo.errors import ZooError
from zoo.storage.cache import content_key


class Embedded(Dataset):
    """Base class of embedded datasets: each is a list of entries (key, structure, ...) in the package of its class.

    `scripts/derive_embedded.py` makes the files.

    Class attributes:
        file: name of the file, `*.json.gz`.
    """

    file: ClassVar[str]

    @classmethod
    def packed(cls) -> bytes:
        """Return the bytes of the file."""
        return resources.files(cls.__module__).joinpath(cls.file).read_bytes()

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file."""
        return content_key(self.packed())

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield all records, sorted by key as strings."""
        for entry in json.loads(gzip.decompress(self.packed())):
            try:
                yield self.record(entry)
            except ZooError as error:
                yield BadRecord(entry["key"], str(error))

    @abstractmethod
    def record(self, entry: Mapping[str, Any]) -> Record:
        """Return the record of an entry of the table.

        Raises:
            ZooError: the entry cannot be read.
        """


def embedded_structure(entry: Mapping[str, Any]) -> Structure:
    """Return the structure of an entry: `lattice` (rows, Å), `species` and `frac_coords`."""
    return checked_structure(np.array(entry["lattice"]), entry["species"], np.array(entry["frac_coords"]))
