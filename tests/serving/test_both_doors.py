"""The same model, from its run folder and from the registry: both answer everything alike."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from pymatgen.core import Structure
from scoring import Server, free_port, running

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def folder(trained: Path) -> Iterator[Server]:
    port = free_port()
    argv = [sys.executable, "-m", "zoo", "serve", "run", "--port", str(port)]
    with running(argv, port, trained, {"MLFLOW_TRACKING_URI": f"sqlite:///{trained}/none.db"}) as server:
        yield server


PARAMS: tuple[dict[str, Any], ...] = (
    {},
    {"symprec": 0.1},
    {"symprec": -1.0},
    {"symprec": "x"},
    {"symprec": 5.0},
    {"coverage": 0.5},
    {"coverage": 0.123},
    {"coverage": None},
    {"neighbours": 3},
    {"neighbours": -1},
    {"neighbours": 1000},
    {"neighbours": 1.5},
    {"neighbors": 2},
    {"explain": True},
    {"explain": False},
    {"explain": 1},
    {"explain": "yes"},
    {"functional": "PBEsol"},
    {"functional": 3},
    {"symprec": 0.1, "coverage": 0.9, "neighbours": 1},
)


@pytest.mark.parametrize("params", PARAMS, ids=str)
def test_options(served: Server, folder: Server, salt: dict[str, Any], params: dict[str, Any]) -> None:
    alike(served, folder, {"inputs": [salt], "params": params})


def test_crystals(served: Server, folder: Server, salt: dict[str, Any], crystals: list[Structure]) -> None:
    good = [{"structure": crystal.as_dict()} for crystal in crystals[:3]]
    for inputs in (good, [*good, {"cif": "x"}], [{"cif": "x"}], [], salt, [salt, {}], [salt] * 1001, "x", [3]):
        alike(served, folder, {"inputs": inputs})
    for body in ({"dataframe_split": {}}, [], {"inputs": [salt], "more": 1}):
        alike(served, folder, body)


def alike(served: Server, folder: Server, body: Any) -> None:
    """The same status and content, but for the last digits of numbers."""
    one, other = (requests.post(f"{door.url}/invocations", json=body, timeout=120) for door in (served, folder))
    assert one.status_code == other.status_code, (one.text, other.text)
    assert close(one.json(), other.json()), (one.text, other.text)
    assert one.status_code < 500


def close(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-4, abs=1e-4)
    return type(one) is type(other) and one == other
