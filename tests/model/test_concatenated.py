"""`concatenated`: features of several pretrained encoders, each from its own edges. Its symmetry: test_conformance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.api import CrystalBatch, Encoder, ZooError
from zoo.config import plugins
from zoo.graphs.graph import collate, crystal_graph
from zoo.model.concatenated import Concatenated
from zoo.testing.prototypes import varied

DATA = Path(__file__).parents[1] / "encoders" / "data"
NEQUIX = {"name": "nequix", "weights": str(DATA / "nequix" / "nequix.safetensors"), "layer": 2}
TENSORNET = {"name": "tensornet", "weights": str(DATA / "tensornet" / "tensornet.safetensors")}


def build(name: str, **settings: Any) -> Encoder:
    made: Encoder = plugins.load("encoder", name)(plugins.hypers("encoder", name, settings))
    return made.double().eval().requires_grad_(False)


def alone(content: dict[str, Any]) -> Encoder:
    return build(**content)


def batch(cutoff: float) -> CrystalBatch:
    return collate([crystal_graph(structure, cutoff) for structure in varied()]).to(dtype=torch.float64)


@pytest.fixture(scope="module")
def both() -> tuple[Encoder, list[Encoder]]:
    made, each = build("concatenated", encoders=[NEQUIX, TENSORNET]), [alone(NEQUIX), alone(TENSORNET)]
    assert isinstance(made, Concatenated)
    # Both test networks end at 4 Å: one of them is shown fewer edges, as one of a smaller cutoff is.
    for one in (each[1], made.encoders[1]):
        one.cutoff = 3.0  # type: ignore[assignment]
    return made, each


def test_each_has_what_it_gives_on_its_own_graph(both: tuple[Encoder, list[Encoder]]) -> None:
    """The cutoffs differ, so that the one sees edges that the other does not."""
    made, each = both
    assert made.cutoff == 4.0
    embedding, separate = made(batch(made.cutoff)), [one(batch(one.cutoff)) for one in each]
    for irrep in ("0e", "1o", "2e"):
        expected = torch.cat([one.atoms.block(irrep) for one in separate], dim=1)
        torch.testing.assert_close(embedding.atoms.block(irrep), expected, rtol=1e-10, atol=1e-12)


def test_bonds_beyond_a_cutoff_have_none_of_its_features(both: tuple[Encoder, list[Encoder]]) -> None:
    made, each = both
    whole = batch(made.cutoff)
    bonds = made(whole).bonds
    assert bonds is not None
    start = 0
    for one in each:
        own = one.bonds(whole.within(one.cutoff))
        assert own is not None
        columns = bonds.values[:, start : start + own.irreps.dim]
        start += own.irreps.dim
        inside = whole.edge_vectors().norm(dim=-1) <= one.cutoff
        assert torch.equal(columns[inside], own.values)
        assert (columns[~inside] == 0).all()
    assert start == bonds.irreps.dim


def test_elements_and_fingerprint(both: tuple[Encoder, list[Encoder]]) -> None:
    made, each = both
    first, second = (one.elements() for one in each)
    assert first is not None and second is not None
    assert made.elements() == first & second
    turned = build("concatenated", encoders=[TENSORNET, NEQUIX])
    other = build("concatenated", encoders=[NEQUIX | {"layer": 1}, TENSORNET])
    again = build("concatenated", encoders=[NEQUIX, TENSORNET])
    assert made.fingerprint() == again.fingerprint()
    assert len({made.fingerprint(), turned.fingerprint(), other.fingerprint()}) == 3


def test_it_has_no_energy(both: tuple[Encoder, list[Encoder]]) -> None:
    assert not type(both[0]).provides(both[0].hypers).energy


@pytest.mark.parametrize(
    ("encoders", "words"),
    [
        ([NEQUIX], "two or more"),
        ([NEQUIX, {"name": "nequip"}], "'nequip' is not pretrained"),
        ([NEQUIX, {"name": "nequixx"}], "there is no encoder 'nequixx'"),
        ([NEQUIX, NEQUIX | {"lair": 1}], "lair"),
    ],
)
def test_refused(encoders: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ZooError, match=words):
        plugins.hypers("encoder", "concatenated", {"encoders": encoders})


def test_what_is_missing_is_told() -> None:
    hypers = plugins.hypers("encoder", "concatenated", {"encoders": [NEQUIX, {"name": "tensornet"}]})
    kind = plugins.load("encoder", "concatenated")
    assert "zoo convert tensornet" in str(kind.missing(hypers))
