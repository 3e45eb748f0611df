"""Subset of a dataset, by keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from zoo.config import plugins
from zoo.config.recipe import Plugin
from zoo.contract.plugin import BadRecord, Dataset, Hypers, Record
from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.storage.cache import content_key
from zoo.storage.user_path import user_path


class SubsetHypers(Hypers):
    """Dataset and file of keys."""

    dataset: Plugin
    """The dataset, its settings beside its name."""
    path: str
    """A text file with a key a line, or a JSON file (.json) with a list of keys: the crystals of the subset."""


class Subset(Dataset):
    """Crystals of another dataset whose keys a file lists."""

    Hypers = SubsetHypers
    hypers: SubsetHypers

    def __init__(self, hypers: SubsetHypers) -> None:
        super().__init__(hypers)
        self._dataset = dataset_of(hypers.dataset)
        self.licence = self._dataset.licence  # type: ignore[misc]

    def fetch(self) -> Path | None:
        """Fetch the dataset."""
        return self._dataset.fetch()

    def fingerprint(self) -> str | None:
        """Return a fingerprint of the dataset and of the keys.

        Raises:
            ZooError: the dataset cannot be read; the file of keys cannot be read.
        """
        whole = self._dataset.fingerprint()
        return None if whole is None else content_key(whole, sorted(self._keys()))

    def targets(self) -> Mapping[str, TensorTarget]:
        """Fetch the dataset."""
        return self._dataset.targets()

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records in the order of the dataset.

        Raises:
            ZooError: the dataset or the file of keys cannot be read, or the file lists a key that the dataset lacks.
        """
        wanted = self._keys()
        missing = set(wanted)
        for record in self._dataset.records():
            if record.key in wanted:
                missing.discard(record.key)
                yield record
        if missing:
            raise ZooError(
                f"{self.hypers.path}: dataset '{self.hypers.dataset.name}' has no '{min(missing)}'"
                + (f", nor {len(missing) - 1} more of the keys" if len(missing) > 1 else "")
            )

    def _keys(self) -> frozenset[str]:
        path = user_path(self.hypers.path, "dataset.path")
        try:
            text = path.read_text(encoding="utf-8")
            found = json.loads(text) if path.suffix == ".json" else filter(None, map(str.strip, text.splitlines()))
        except (OSError, ValueError, RecursionError) as error:
            raise ZooError(f"dataset 'subset': path: {self.hypers.path} cannot be read ({error})") from None
        if path.suffix == ".json" and not (isinstance(found, list) and all(isinstance(key, str) for key in found)):
            raise ZooError(f"dataset 'subset': path: {self.hypers.path} must be a list of keys, each a text")
        return frozenset(found)


def dataset_of(choice: Plugin) -> Dataset:
    """Build a dataset from the name and settings of its plugin.

    Raises:
        ZooError: there is none, or it refuses its settings.
    """
    dataset: Dataset = plugins.load("dataset", choice.name)(plugins.hypers("dataset", choice.name, choice.settings))
    return dataset
