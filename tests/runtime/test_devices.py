"""Devices without float64, which force constants are computed in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from springs import salt

from zoo.cli.main import group
from zoo.runtime import devices


@pytest.mark.sevennet
def test_force_constants_are_computed_on_the_cpu_where_the_device_has_no_float64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here is no mps at all, so that whatever goes there fails."""
    monkeypatch.setattr(devices, "choose_device", lambda name: torch.device("mps"))
    path = tmp_path / "salt.cif"
    salt().to(filename=str(path))
    done = CliRunner().invoke(group, ["phonons", str(path), "--format", "json"], catch_exceptions=False)
    assert done.exit_code == 0
    assert devices.with_float64(torch.device("cuda", 1)) == torch.device("cuda", 1)
