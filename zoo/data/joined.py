"""Concatenation of several datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from zoo.config.recipe import Plugin
from zoo.contract.plugin import BadRecord, Dataset, Hypers, Record
from zoo.contract.target import TensorTarget
from zoo.data.subset import dataset_of
from zoo.errors import ZooError
from zoo.storage.cache import content_key


class JoinedHypers(Hypers):
    """Datasets to concatenate."""

    datasets: tuple[Plugin, ...] = Field(min_length=1)
    """Dataset plugins, the settings of each beside its name."""


class Joined(Dataset):
    """Several datasets, one after another; a crystal that two of them hold is found by the search for duplicates.

    Targets of one name must be the same quantity in the same unit. Keys must differ.
    """

    Hypers = JoinedHypers
    hypers: JoinedHypers

    def __init__(self, hypers: JoinedHypers) -> None:
        super().__init__(hypers)
        self._datasets = [dataset_of(choice) for choice in hypers.datasets]
        self.licence = "; ".join(dict.fromkeys(one.licence for one in self._datasets))  # type: ignore[misc]
        self._targets: dict[str, TensorTarget] = {}
        for choice, dataset in zip(hypers.datasets, self._datasets, strict=True):
            for name, target in dataset.targets().items():
                if self._targets.setdefault(name, target) != target:
                    raise ZooError(
                        f"dataset 'joined': '{name}' of '{choice.name}' is not what it is in the datasets before it: "
                        f"{target}, {self._targets[name]}"
                    )

    def fetch(self) -> Path | None:
        """Fetch each dataset; return the path of the last."""
        paths = [path for path in (one.fetch() for one in self._datasets) if path is not None]
        return paths[-1] if paths else None

    def fingerprint(self) -> str | None:
        """Return a fingerprint of all datasets; None where one has none.

        Raises:
            ZooError: the fingerprint of a dataset cannot be computed.
        """
        found = [one.fingerprint() for one in self._datasets]
        return None if None in found else content_key(found)

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the targets of all datasets."""
        return self._targets

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records of one dataset after another."""
        for dataset in self._datasets:
            yield from dataset.records()
