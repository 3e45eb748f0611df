"""`susceptibility` with the norms of vectors and tensors among its invariants."""

from __future__ import annotations

import torch
from e3nn import o3

from zoo.api import Embedding, Features
from zoo.graphs.graph import collate, crystal_graph
from zoo.testing import ConformanceTests, Pair
from zoo.testing.prototypes import varied

HYPERS = {"width": 16, "hidden_layers": 1, "heads": 2}


class TestWithNorms(ConformanceTests):
    pair = Pair("nequip", "susceptibility", {"channels": 8}, {**HYPERS, "norms": True})


def test_norms_are_read_only_where_they_are_wanted() -> None:
    batch = collate([crystal_graph(varied()[0], 4.0)]).to(dtype=torch.float64)
    irreps = o3.Irreps("4x0e+3x1o+2x2e")
    values = torch.randn(batch.n_atoms, irreps.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    longer = values.clone()
    longer[:, 4:13] *= 2  # the vectors, of which the susceptibility reads nothing but norms
    for norms in (False, True):
        pair = Pair("nequip", "susceptibility", {"channels": 8}, {**HYPERS, "norms": norms})
        kind = pair.readout_class
        torch.manual_seed(0)
        hypers = kind.Hypers(**pair.readout_hypers)
        readout = kind(hypers, type(pair.provides)(irreps), 4.0, pair.target).double().eval()
        tensors = [readout(Embedding(Features(irreps, x)), batch) for x in (values, longer)]
        assert torch.equal(*tensors) is not norms


def test_a_vector_of_zero_has_a_finite_slope() -> None:
    batch = collate([crystal_graph(varied()[0], 4.0)]).to(dtype=torch.float64)
    pair = Pair("nequip", "susceptibility", {"channels": 8}, {**HYPERS, "norms": True})
    irreps = pair.provides.atoms
    values = torch.zeros(batch.n_atoms, irreps.dim, dtype=torch.float64, requires_grad=True)
    pair.model.readout(Embedding(Features(irreps, values)), batch).sum().backward()
    assert values.grad is not None and values.grad.isfinite().all()
