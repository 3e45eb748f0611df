"""Labels that were hidden, told when they are asked for: a search is tested without a single calculation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from zoo.config.recipe import Plugin
from zoo.contract.discovery import Candidate, Oracle
from zoo.contract.plugin import BadRecord, Hypers, Record
from zoo.contract.target import TensorTarget
from zoo.data.subset import dataset_of
from zoo.errors import CalculationFailed


class ReplayHypers(Hypers):
    """Dataset whose labels are replayed."""

    dataset: Plugin = Plugin(name="petousis2017")
    """Dataset plugin that knows the tensors, its settings beside its name."""


class Replay(Oracle):
    """Looks the tensor up, by the crystal's key, in a dataset that labels all candidates."""

    Hypers = ReplayHypers
    hypers: ReplayHypers

    def targets(self) -> Mapping[str, TensorTarget]:
        """Return the targets of the dataset."""
        return dataset_of(self.hypers.dataset).targets()

    def tensors(self, candidate: Candidate, folder: Path) -> Mapping[str, np.ndarray]:
        """Return the tensors of the dataset; the folder is not used.

        Raises:
            CalculationFailed: the dataset has no such crystal, or has it in another frame.
        """
        record = _records(self.hypers.model_dump_json()).get(candidate.key)
        if record is None:
            raise CalculationFailed(f"dataset '{self.hypers.dataset.name}' has no crystal '{candidate.key}'")
        if not np.allclose(record.structure.lattice.matrix, candidate.structure.lattice.matrix, atol=1e-4):
            raise CalculationFailed(f"dataset '{self.hypers.dataset.name}' has this crystal in another cell or frame")
        return {name: np.asarray(tensor, dtype=np.float64) for name, tensor in record.targets.items()}


@lru_cache(maxsize=2)
def _records(hypers: str) -> dict[str, Record]:
    """All records by key: reading a dataset takes seconds."""
    dataset = dataset_of(ReplayHypers.model_validate_json(hypers).dataset)
    return {record.key: record for record in dataset.records() if not isinstance(record, BadRecord)}
