"""docs/guides/infrared.md: what it shows is run, on a model of few crystals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli import zoo
from pymatgen.core import Lattice, Structure
from test_readme import SLICE, blocks, commands

pytestmark = [pytest.mark.extended, pytest.mark.sevennet]

GUIDE = (Path(__file__).parents[1] / "docs" / "guides" / "infrared.md").read_text(encoding="utf-8")


def test_the_guide_from_a_cif_to_an_infrared_spectrum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page."""
    monkeypatch.chdir(tmp_path)
    quartz = Structure.from_spacegroup(
        "P3_121", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.2144]]
    )
    quartz.to(str(tmp_path / "quartz.cif"))
    printed = {}
    for words in commands(GUIDE):
        more = [*SLICE, "tracking.enabled=false"] if words[1] == "run" else []
        result = zoo(*words[1:], *more, cwd=tmp_path)
        assert result.returncode == 0, f"{' '.join(words)}: {result.stderr}"
        printed[words[1]] = result.stdout
    assert "share" in printed["predict"] and "cm" in printed["predict"]
    assert (tmp_path / "quartz_spectrum.csv").is_file() and (tmp_path / "quartz_spectrum.png").is_file()
    shown: dict = {}
    for block in blocks(GUIDE):
        if "import zoo" in block:
            exec(block, shown)
    why = shown["why"]
    assert why.born.shape == (9, 3, 3) and np.abs(why.born.sum(0)).max() < 1e-5  # the acoustic sum rule
    assert shown["answer"].parts["ionic"].tensor == pytest.approx(why.ionic, abs=1e-4)
    assert sum(row["degeneracy"] for row in why.modes) == 24
