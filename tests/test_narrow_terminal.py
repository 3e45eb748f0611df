"""Tables on a terminal of 80 columns: nothing that a user reads or types is cut."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from pymatgen.core import Lattice, Structure
from rich.console import Console

from zoo.cli import format_predictions, terminal
from zoo.cli.main import group


@pytest.fixture(params=[80, 120])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    for module in (terminal, format_predictions):
        monkeypatch.setattr(module, "console", lambda: Console(width=request.param))
    return request.param


def test_the_table_of_several_crystals(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for element, a in (("Na", 5.64), ("K", 6.29)):
        salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [element, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        salt.get_primitive_structure().to(filename=f"{element}Cl.cif")
    shown = CliRunner().invoke(group, ["predict", "NaCl.cif", "KCl.cif"], catch_exceptions=False).stdout
    assert "NaCl.cif" in shown and "NaCl, cubic" in shown
    assert ("λmax/λmin" in shown) == (columns > 80), "left out, not cut"
    assert len(re.findall(r"\(\d[\d.]*–\d[\d.]*\)", shown)) == (6 if columns == 80 else 10), "an interval was cut"


def test_the_names_of_models(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And why one cannot be read, whatever the width."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "broken" / "model").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "model" / "model.json").write_text("{")
    shown = CliRunner().invoke(group, ["models"], catch_exceptions=False).stdout
    assert "zoo-dielectric-1" in shown and ("made of" in shown) == (columns > 80)
    assert "runs/broken" in shown and "model.json" in shown
