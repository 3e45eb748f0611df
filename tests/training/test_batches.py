"""Weights of batches: what several processes sum is what one computes, and no crystal counts more than another."""

from __future__ import annotations

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from zoo.config.recipe import EncoderChoice, Plugin, Training
from zoo.contract.target import TensorTarget
from zoo.graphs.store import GraphStore
from zoo.model import tensor_model as models
from zoo.training.batches import Batches, Samples
from zoo.training.mean_error import mae_of_components

CPU = torch.device("cpu")
COUNT = 7


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> GraphStore:
    salts = [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4 + 0.3 * i), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for i in range(COUNT - 1)
    ]
    alone = Structure(Lattice.cubic(20), ["Ar"], [[0, 0, 0]])
    return GraphStore.build([*salts, alone], 3.5, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def samples(graphs: GraphStore, request: pytest.FixtureRequest) -> Samples:
    torch.manual_seed(0)
    target = request.param
    encoder = EncoderChoice(name="nequip", cutoff=3.5, layers=1, channels=4)
    model = models.build(encoder, Plugin(name="matten", dropout=0.0), target)
    n = int(graphs.n_atoms.sum()) if target.per_atom else COUNT
    tensors = torch.randn(n, *target.shape)
    if target.per_atom:
        tensors[::3] = torch.nan
        tensors[: graphs.n_atoms[0]] = torch.nan
    request.node.model = model
    return Samples(graphs, tensors, model.encoder, None, target.per_atom)


BOTH = pytest.mark.parametrize(
    "samples", [TensorTarget("total"), TensorTarget("born", formula="ij", per_atom=True)], indirect=True
)


def gradients(model: models.TensorModel, batches: Batches) -> torch.Tensor:
    model.zero_grad()
    for batch in batches:
        if batch is not None:
            error = mae_of_components(model(batch.crystals), batch.tensors, model.target)
            (batch.weights[""] * error).backward()
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([part.flatten() for part in parts])


@BOTH
@pytest.mark.parametrize("settings", [{"batch_size": 3}, {"batch_size": 2}, {"batch_edges": 150}])
@pytest.mark.parametrize("world", [2, 3, 8])
def test_the_sum_over_processes_is_the_gradient_of_one(
    samples: Samples, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, settings: dict, world: int
) -> None:
    """With 8 processes there is always one without a crystal."""
    model = request.node.model

    def made() -> Batches:
        return Batches(samples, range(COUNT), Training(**settings), CPU, seed=3)

    whole, rows = gradients(model, made()), []
    monkeypatch.setattr(idist, "get_world_size", lambda: world)
    total = torch.zeros_like(whole)
    for rank in range(world):
        monkeypatch.setattr(idist, "get_rank", lambda rank=rank: rank)
        mine = made()
        total += gradients(model, mine)
        rows += [row for batch in mine if batch is not None for row in batch.rows]
    assert whole.abs().max() > 0
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-5)
    assert sorted(rows) == list(range(made().n_rows))


@BOTH
def test_batches_by_edges_weigh_every_crystal_alike(samples: Samples, request: pytest.FixtureRequest) -> None:
    """The mean over the steps of an epoch is the mean over its crystals, though large ones sit in small batches."""
    model = request.node.model.eval()
    batches = Batches(samples, range(COUNT), Training(batch_edges=150), CPU, seed=0)
    assert len({len(batch.tensors) for batch in batches if batch is not None}) > 1
    one = Batches(samples, range(COUNT), Training(batch_size=COUNT), CPU, seed=0)
    assert len(one) == 1
    torch.testing.assert_close(gradients(model, batches) / len(batches), gradients(model, one), rtol=1e-4, atol=1e-5)


@BOTH
def test_one_process_weighs_no_batch_by_size(samples: Samples) -> None:
    assert {batch.weights[""] for batch in Batches(samples, range(COUNT), Training(batch_size=2), CPU, 0) if batch} == {
        1.0
    }


def test_the_order_is_that_of_the_seed_and_the_epoch(graphs: GraphStore) -> None:
    samples = Samples(graphs, torch.zeros(COUNT, 3, 3), models.build, None)  # type: ignore[arg-type]
    one, two = (Batches(samples, range(COUNT), Training(batch_size=3), CPU, seed=0) for _ in range(2))
    one.epoch = two.epoch = 4
    assert [p.tolist() for p in one.plan()] == [p.tolist() for p in two.plan()]
    two.epoch = 5
    assert [p.tolist() for p in one.plan()] != [p.tolist() for p in two.plan()]
    assert np.concatenate(Batches(samples, range(COUNT), Training(batch_size=3), CPU).plan()).tolist() == [
        *range(COUNT)
    ]
