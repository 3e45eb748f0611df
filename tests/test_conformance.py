"""Every registered encoder with every registered readout that fits it passes the conformance suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.config import plugins
from zoo.testing import ConformanceTests, IonicTests, Pair

# Weights drawn at random in the packages themselves (tests/encoders/data/make_*.py).
WEIGHTS = Path(__file__).parent / "encoders" / "data"

NEQUIX = {"weights": str(WEIGHTS / "nequix" / "nequix.safetensors"), "layer": 2}
TENSORNET = {"weights": str(WEIGHTS / "tensornet" / "tensornet.safetensors")}

# Small where the defaults are slow. What is not named here, a new plugin above all, runs with its defaults.
QUICK: dict[str, dict[str, Any]] = {
    "m3gnet": {"channels": 8, "layers": 2},
    "nequip": {"channels": 8},
    "sevennet": {"layer": 2},
    "sevennet-scratch": {"layer": [1, 2]},
    "painn": {"channels": 8},
    "painn-rank1": {"width": 16},
    "painn-rank1-paper": {"width": 16},
    "teanet": {"channels": 8, "cutoffs": [3.0, 4.0, 4.5]},
    "mace": {"weights": str(WEIGHTS / "mace" / "density.safetensors")},
    "tensornet": TENSORNET,
    "nequix": NEQUIX,
    "concatenated": {"encoders": [{"name": "nequix", **NEQUIX}, {"name": "tensornet", **TENSORNET}]},
    "born": {"width": 16, "channels": 4},
    "dtnet": {"width": 16},
    "dtnet-exp": {"width": 16},
    "dtnet-simple": {"width": 16},
    "strain": {"width": 16},
    "matten": {"scalars": 8, "tensors": 4},
}

# Made of other readouts, and nothing but their tensors one after another: tests/model/test_joint.py.
COMPOSED = {"joint"}

# Another encoder with weights of a file: tests/pretraining.
WRAPPERS = {"pretrained"}


def fitting_pairs() -> list[Pair]:
    """All pairs of the installed plugins that fit each other."""
    pairs = [
        Pair(encoder, readout, QUICK.get(encoder, {}), QUICK.get(readout, {}))
        for encoder in plugins.available("encoder")
        if encoder not in WRAPPERS
        for readout in plugins.available("readout")
    ]
    return [p for p in pairs if p.readout_class.unmet(p.provides, p.target) is None]


def covering(pairs: list[Pair]) -> list[Pair]:
    """Few pairs in which every plugin occurs: `make test` runs these, `make test-extended` the others."""
    chosen: list[Pair] = []
    seen: set[tuple[str, str]] = set()
    for wanted in (2, 1):  # first the pairs of two plugins that have not occurred
        for pair in pairs:
            new = {("encoder", pair.encoder), ("readout", pair.readout)} - seen
            if len(new) >= wanted:
                chosen.append(pair)
                seen |= new
    return chosen


def suite(pair: Pair, extended: bool) -> type[ConformanceTests]:
    """The conformance tests of one pair, skipped where the package of its encoder is missing."""
    marks = [pytest.mark.sevennet] * (pair.encoder == "sevennet") + [pytest.mark.extended] * extended
    name = f"Test_{pair.encoder}_{pair.readout}".replace("-", "_")
    base = IonicTests if pair.readout_class.needs.force_constants else ConformanceTests
    return type(name, (base,), {"pair": pair, "pytestmark": marks})


PAIRS = fitting_pairs()
FEW = covering(PAIRS)
globals().update({tests.__name__: tests for tests in (suite(pair, extended=pair not in FEW) for pair in PAIRS)})


def test_every_plugin_is_in_some_pair() -> None:
    """A plugin that fits nothing would be tested by nothing."""
    for kind in ("encoder", "readout"):
        assert {getattr(pair, kind) for pair in PAIRS} == set(plugins.available(kind)) - COMPOSED - WRAPPERS
        assert {getattr(pair, kind) for pair in FEW} == set(plugins.available(kind)) - COMPOSED - WRAPPERS
