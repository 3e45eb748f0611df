"""Shared by all tests: a cache of the test session's own, and a recipe that trains in seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from cli import zoo
from hypothesis import HealthCheck, settings
from pymatgen.core import Lattice, Structure
from quick import quick_databases

# A busy machine draws and runs examples slowly: this says nothing of the code.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")

# Distributions of their own: test_third_party.py installs them and runs their tests.
collect_ignore = ["third_party_plugin"]

SHARED = Path(__file__).parents[2] / "shared" / "data"

# What takes about a minute and more. It comes first: a long file at the end would leave the other workers idle.
LONG_FIRST = (
    "test_recipes_run.py",
    "test_readme.py",
    "test_guides.py",
    "test_third_party.py",
    "discovery/test_discover.py",
    "discovery/test_ray.py",
    "discovery/test_guide.py",
    "test_new.py",
    "discovery/test_resume.py",
    "serving/test_postgres.py",
    "training/test_processes.py",
    "convolution/test_backends.py",
    "sweep/test_sharing.py",
    "discovery/test_screen.py",
    "oracles/test_espresso.py",
    "test_promote.py",
    "test_tracking.py",
    "sweep/test_command.py",
    "encoders/test_sevennet_reference.py",
    "encoders/test_sevennet_scratch.py",
    "ui/test_page.py",
    "test_packaging.py",
)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the user's cache is read or written, unless ZOO_CACHE says which to use."""
    if "ZOO_CACHE" not in os.environ:
        os.environ["ZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield


@pytest.fixture(scope="session", autouse=True)
def _quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same numbers and the same files, sooner."""
    with quick_databases(tmp_path_factory.mktemp("databases")):
        yield


@pytest.fixture(autouse=True)
def _own_tracking() -> Iterator[None]:
    """Where a test tells MLflow to write is not told to the next one: MLflow keeps it in the environment."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    if before is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    else:
        os.environ["MLFLOW_TRACKING_URI"] = before


def foreign(package: str) -> bool:
    """Whether scripts/test_foreign.sh has just made models with that package, in its own environment."""
    return (Path(os.environ.get("ZOO_FOREIGN", "/nonexistent")) / package).is_dir()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; skip, with the reason, what needs something that is not here."""
    turn = {Path(__file__).parent / name: number for number, name in enumerate(LONG_FIRST)}
    items.sort(key=lambda item: turn.get(item.path, len(turn)))
    missing = {
        "sevennet": None if find_spec("sevenn") else 'needs pip install "crystal-tensor-zoo[sevennet]"',
        "mace": None if foreign("mace") else "needs models that mace-torch made: make test-foreign",
        "tensornet": None if foreign("tensornet") else "needs models that matgl made: make test-foreign",
        "nequix": None if foreign("nequix") else "needs models that nequix made: make test-foreign",
        "shared": None if SHARED.is_dir() else f"needs {SHARED}",
    }
    for item in items:
        for name, reason in missing.items():
            if reason and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """../shared/data, for tests marked `shared`."""
    return SHARED


@pytest.fixture
def small() -> dict:
    """A recipe of real parts, small enough for a test: trainable nequip and dtnet on 40 crystals."""
    return {
        "name": "small",
        "dataset": {"name": "petousis2017"},
        "target": "total",
        "data": {"limit": 40},
        "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
        "readout": {"name": "dtnet", "width": 8, "blocks": 1},
        "training": {"max_epochs": 3, "batch_size": 16, "learning_rate": 0.01},
        "tracking": {"enabled": False},
        "device": "cpu",
    }


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, a finished run, and an MLflow database that holds its model."""
    folder = tmp_path_factory.mktemp("trained")
    small = {
        "name": "small_total",
        "dataset": {"name": "petousis2017"},
        "target": "total",
        "data": {"limit": 40},
        "encoder": {"name": "nequip", "cutoff": 3.0, "layers": 1, "channels": 4},
        "readout": {"name": "dtnet", "width": 8, "blocks": 1},
        "training": {"max_epochs": 2, "batch_size": 16},
        "device": "cpu",
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    result = zoo("run", "small.yaml", "seeds=[0,1]", "--out", "run", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "stdout").write_text(result.stdout)
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    salt.to(str(folder / "NaCl.cif"))
    return folder
