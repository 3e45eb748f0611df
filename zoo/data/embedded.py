"""Datasets that come inside the zoo, as one gzipped JSON file each."""

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
    """A table in the package of its class: a list of entries with a key, a structure and more.

    `scripts/derive_embedded.py` makes the files.

    Class attributes:
        file: its name, `*.json.gz`.
    """

    file: ClassVar[str]

    @classmethod
    def packed(cls) -> bytes:
        """The file as it is."""
        return resources.files(cls.__module__).joinpath(cls.file).read_bytes()

    def fingerprint(self) -> str:
        """Of the file."""
        return content_key(self.packed())

    def records(self) -> Iterator[Record | BadRecord]:
        """All of them, sorted by key as strings."""
        for entry in json.loads(gzip.decompress(self.packed())):
            try:
                yield self.record(entry)
            except ZooError as error:
                yield BadRecord(entry["key"], str(error))

    @abstractmethod
    def record(self, entry: Mapping[str, Any]) -> Record:
        """One entry read.

        Raises:
            ZooError: it cannot be.
        """


def embedded_structure(entry: Mapping[str, Any]) -> Structure:
    """The structure of an entry: `lattice` (rows, Å), `species` and `frac_coords`."""
    return checked_structure(np.array(entry["lattice"]), entry["species"], np.array(entry["frac_coords"]))
