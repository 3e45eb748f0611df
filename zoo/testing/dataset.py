"""Tests that a dataset must pass: `DatasetTests`, or the single checks."""
# ruff: noqa: D102 (each test is documented by its check)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from zoo.config import plugins
from zoo.config.dataset_settings import FrameCheck
from zoo.contract.plugin import BadRecord, Dataset, Record
from zoo.contract.target import TensorTarget
from zoo.data.frame import offenders
from zoo.graphs.graph import crystal_graph
from zoo.testing.citation import refuse_unreadable


def check_description(dataset: Dataset) -> None:
    """Every hyperparameter has a default and a docstring; the licence is stated; each target has its own name.

    A citation is BibTeX, and the fingerprint is the same for the same hyperparameters.
    """
    cls = type(dataset)
    for name, info in cls.Hypers.model_fields.items():
        assert not info.is_required(), f"{cls.__name__}: the hyperparameter '{name}' has no default"
        assert info.description, f"{cls.__name__}: the hyperparameter '{name}' has no docstring below it"
    assert cls.licence != Dataset.licence, f"{cls.__name__}: say under which licence the data are, and whom to cite"
    refuse_unreadable(cls)
    targets = dataset.targets()
    assert targets, f"{cls.__name__} has no target"
    for name, target in targets.items():
        assert target.name == name, f"the target '{name}' calls itself '{target.name}'"
    again = cls(dataset.hypers).fingerprint()
    assert again == dataset.fingerprint(), f"{cls.__name__}: one and the same dataset has two fingerprints"


def check_records(dataset: Dataset) -> list[Record]:
    """All can be read, in a fixed order, with keys of their own; structures have graphs, tensors shape and symmetry."""
    records = [_readable(record) for record in dataset.records()]
    assert records, "there is no record"
    keys = [record.key for record in records]
    assert len(set(keys)) == len(keys), f"keys occur twice: {sorted({k for k in keys if keys.count(k) > 1})[:5]}"
    assert [record.key for record in dataset.records()] == keys, "a second reading gives another order"
    targets = dataset.targets()
    for record in records:
        crystal_graph(record.structure, 1.0)  # ordered, of real elements, finite, with a volume
        # A record may be there to say why it has no label.
        assert record.targets or record.left_out, f"{record.key} holds no tensor"
        for name, tensor in record.targets.items():
            assert name in targets, f"{record.key} holds '{name}', which targets() does not name"
            _check_tensor(np.asarray(tensor, dtype=np.float64), targets[name], record)
    return records


def check_frame(dataset: Dataset, tolerance: float = 0.05) -> None:
    """Each tensor is invariant under the point group of its own structure: the two are in one Cartesian frame."""
    records = check_records(dataset)
    for target in dataset.targets().values():
        holding = [record for record in records if target.name in record.targets]
        bad = [m for m in offenders(holding, target, FrameCheck(tolerance=tolerance)) if m.residual is not None]
        assert not bad, (
            f"'{target.name}' of {', '.join(m.key for m in bad[:5])} is not invariant under the point group of its "
            f"crystal (residual up to {max(m.residual or 0 for m in bad):.2f}): are tensor and structure in one frame?"
        )


def _readable(record: Record | BadRecord) -> Record:
    assert not isinstance(record, BadRecord), f"a record cannot be read: {record}"
    return record


def _check_tensor(tensor: np.ndarray, target: TensorTarget, record: Record) -> None:
    shape = (len(record.structure), *target.shape) if target.per_atom else target.shape
    where = f"'{target.name}' of {record.key}"
    assert tensor.shape == shape, f"{where} has shape {tensor.shape}, not {shape}"
    values = torch.from_numpy(tensor.reshape(-1, *target.shape))
    labelled = values[values.flatten(1).isfinite().all(dim=1)]
    if not target.per_atom:
        assert len(labelled) == len(values), f"{where} is not finite"
    symmetric = target.from_irreps(target.to_irreps(labelled))
    scale = max(1.0, labelled.abs().max().item()) if len(labelled) else 1.0
    error = (symmetric - labelled).abs().max().item() / scale if len(labelled) else 0.0
    assert error <= 1e-6, f"{where} has not the index symmetry {target.formula}: off by {error:.1e}"


class DatasetTests:
    """Subclass it, name the dataset, and pytest runs all checks.

    class TestMine(DatasetTests):
        dataset = "mine"
        hypers = {"size": 10}
    """

    dataset: ClassVar[type[Dataset] | str]
    hypers: ClassVar[Mapping[str, Any]] = {}

    @property
    def made(self) -> Dataset:
        """The dataset with these hyperparameters."""
        cls = plugins.load("dataset", self.dataset) if isinstance(self.dataset, str) else self.dataset
        made: Dataset = cls(cls.Hypers(**self.hypers))
        return made

    def test_description(self) -> None:
        check_description(self.made)

    def test_records(self) -> None:
        check_records(self.made)

    def test_frame(self) -> None:
        check_frame(self.made)
