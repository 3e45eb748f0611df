"""Φv of a potential is that of its force constants; its gradient by the weights is that of finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pretraining.labels import PAIRS, config_of, displaced
from pymatgen.io.ase import AseAtomsAdaptor

from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graph
from zoo.phonons.force_constants import ForceConstants
from zoo.pretraining.labelled_batches import Bent
from zoo.pretraining.labelled_data import prepare
from zoo.pretraining.potential_loss import PotentialLearner, curvature
from zoo.pretraining.soft_directions import soft_direction, step_along
from zoo.pretraining.trained_potential import TrainedPotential, build
from zoo.testing.pair_potential import second_derivatives

CPU = torch.device("cpu")


def test_it_is_the_product_with_the_potential_s_force_constants() -> None:
    pairs = TrainedPotential(PAIRS, torch.nn.Linear(1, 1), None)
    for atoms in displaced(1):
        crystal = Crystal.of(AseAtomsAdaptor.get_structure(atoms))
        (exact,) = second_derivatives(PAIRS, collate([crystal_graph(crystal, PAIRS.cutoff)], torch.float64))
        v = soft_direction(exact, 1.0, np.random.default_rng(1))
        assert v.mean(axis=0) == pytest.approx(0, abs=1e-12) and np.square(v).sum() == pytest.approx(len(v))
        h = step_along(v, 5e-4)
        moved = [Crystal(crystal.positions + sign * h * v, crystal.numbers, crystal.cell) for sign in (1, -1)]
        graphs = [crystal_graph(one, PAIRS.cutoff) for one in moved]
        bent = Bent(collate(graphs, torch.float64), torch.zeros(2, 3), torch.full((2, 1), h, dtype=torch.float64))
        found = curvature(pairs, bent, create_graph=False).numpy().ravel()
        assert found == pytest.approx(exact.matrix @ v.ravel(), abs=1e-3 * np.abs(exact.matrix).max())


def test_soft_modes_are_looked_at_most() -> None:
    """The mean square of v's share of a mode goes as 1 / (|λ| + s)."""
    matrix = np.zeros((9, 9))
    for a, b, spring in ((0, 1, 20.0), (1, 2, 0.1)):
        bond = np.zeros((9, 3))
        bond[3 * a : 3 * a + 3], bond[3 * b : 3 * b + 3] = np.eye(3), -np.eye(3)
        matrix += spring * bond @ bond.T
    phi, random = ForceConstants.of(matrix), np.random.default_rng(0)
    drawn = np.array([soft_direction(phi, 1.0, random).ravel() for _ in range(2000)])
    shares = np.square(drawn @ phi.eigenvectors).mean(axis=0)
    soft, stiff = shares[(phi.eigenvalues > 0.05) & (phi.eigenvalues < 1)].sum(), shares[phi.eigenvalues > 10].sum()
    assert shares[np.abs(phi.eigenvalues) < 1e-9] == pytest.approx(0, abs=1e-20)
    assert soft > 10 * stiff


@pytest.mark.parametrize("kind", ["l1", "huber"])
def test_its_gradient_is_that_of_finite_differences(kind: str, labelled: Path) -> None:
    sources = [{"name": "phonondb2018", "path": str(labelled)}]
    loss = {"force_constants": 1.0, "kind": kind, "delta": 0.5}
    config = config_of(labelled, sources=sources, dtype="float64", loss=loss)
    torch.manual_seed(0)
    potential = build(config.encoder, config.width, CPU, torch.float64)
    data = prepare(config, potential.encoder, True, lambda line: None)
    learner = PotentialLearner(potential, config.loss)
    batch = next(iter(data.batches(config, CPU)[0]))
    learner.loss_of(batch).backward(inputs=learner.leaves)
    assert batch is not None and batch.bent.crystals.positions.grad is None
    random = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=random, dtype=torch.float64) for p in learner.leaves]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(learner.leaves, direction, strict=True) if p.grad is not None)
    values = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            for p, d in zip(learner.leaves, direction, strict=True):
                p.add_(step * d)
        values.append(float(learner.loss_of(batch).detach()))
        with torch.no_grad():
            for p, d in zip(learner.leaves, direction, strict=True):
                p.sub_(step * d)
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)
    assert abs(slope) > 1e-6
