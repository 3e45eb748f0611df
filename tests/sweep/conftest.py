"""Plans to test with."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.sweep import sweep_config


@pytest.fixture(autouse=True)
def _only_what_a_test_makes() -> Iterator[None]:
    """After each cell garbage is collected: not among all that the tests before have imported and made."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def plan_of(small: dict, tmp_path: Path):
    """A plan from the small recipe and a sweep section."""

    def make(sweep: dict, *overrides: str, **more: Any) -> sweep_config.Plan:
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({**small, **more, "sweep": sweep}, sort_keys=False))
        plan = sweep_config.read(str(path), overrides)
        assert isinstance(plan, sweep_config.Plan)
        return plan

    return make
