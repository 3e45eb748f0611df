"""`zoo compat`: the matrix, its footnotes, and what it says of plugins that are not whole."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from cli import refused, zoo
from e3nn import o3
from rich.console import Console

from zoo.cli import terminal
from zoo.config import plugins
from zoo.errors import ZooError
from zoo.model import compat
from zoo_sevennet import weights_file

NAMES = ("dtnet", "dtnet-exp", "dtnet-simple", "matten", "painn-rank1", "painn-rank1-absolute", "strain", "x-y", "last")
MANY = [
    {
        "encoder": encoder,
        "readout": readout,
        "works": readout != "dtnet" or encoder != "m3gnet",
        "reason": "needs 1o, the encoder gives 64x0e" if (readout, encoder) == ("dtnet", "m3gnet") else None,
        **({"caveat": "changes with the unit cell"} if readout == "painn-rank1-absolute" else {}),
    }
    for encoder in ("m3gnet", "mace", "nequip", "painn", "sevennet", "teanet", "tensornet")
    for readout in NAMES
]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch):
    """What a terminal of 100 columns shows, without colours."""

    def show(*arguments: str, cwd: Path) -> list[str]:
        out = io.StringIO()
        monkeypatch.setattr(terminal, "console", lambda: Console(file=out, width=100))
        result = zoo("compat", *arguments, cwd=cwd)
        assert result.returncode == 0, result.stderr
        return [line.rstrip() for line in out.getvalue().splitlines()]

    return show


def test_plugins_made_of_others_are_no_impossible_pairs(printed, tmp_path: Path) -> None:
    """`joint` and `pretrained` work with whatever their parts work with: no row, no column, a word below the table."""
    assert not {"joint", "pretrained"} & {pair[kind] for pair in compat.pairs() for kind in ("encoder", "readout")}
    result = zoo("compat", cwd=tmp_path)
    assert "pretrained, joint" in result.stdout.splitlines()[-1]
    refused(zoo("compat", "joint", cwd=tmp_path), "joint")


def test_equal_reasons_share_a_footnote(printed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For an elasticity tensor no DTNet fits: one reason for a whole row."""
    lines = printed("--formula", "ijkl=jikl=klij", cwd=tmp_path)
    row = next(line.split() for line in lines if line.split()[:1] == ["nequip"])
    pairs = compat.pairs("ijkl=jikl=klij")
    reason = next(p["reason"] for p in pairs if (p["encoder"], p["readout"]) == ("nequip", "dtnet"))
    number = row[1 + sorted(plugins.available("readout")).index("dtnet")]
    assert number.isdigit()
    (note,) = [line for line in lines if line.split()[:1] == [number]]
    assert note.split(maxsplit=1)[1].startswith(reason[:40])
    assert " ".join(" ".join(lines).split()).count(reason) == 1


@pytest.mark.parametrize("formula", ["(i=i(", "i;=;i", "\n", "", "ij=ik", "abcdefghijk", 3])
def test_no_python_is_made_of_a_formula_that_is_none(formula: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """e3nn writes the letters of a formula into code that it runs."""
    monkeypatch.setattr(o3, "ReducedTensorProducts", lambda *_, **__: pytest.fail("e3nn was asked"))
    with pytest.raises(ZooError, match="is no index symmetry such as ij=ji"):
        compat.pairs(formula)


def test_ten_by_nine_fits_in_100_columns(printed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compat, "pairs", lambda formula: MANY)
    lines = printed(cwd=tmp_path)
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["m3gnet"] == ["1", "✓", "✓", "✓", "✓", "✓", "a", "✓", "✓", "✓"]
    assert rows["mace"] == ["✓"] * 6 + ["a"] + ["✓"] * 3
    assert rows["1"][0] == "needs" and rows["a"][:2] == ["works,", "but"]
    assert not any("…" in line for line in lines), "a name is cut"


def test_one_row_or_column(printed, tmp_path: Path) -> None:
    pairs = json.loads(zoo("compat", "nequip", "--json", cwd=tmp_path).stdout)
    assert {pair["encoder"] for pair in pairs} == {"nequip"}
    pairs = json.loads(zoo("compat", "dtnet", "--json", cwd=tmp_path).stdout)
    assert {pair["readout"] for pair in pairs} == {"dtnet"}
    refused(zoo("compat", "dtnett", cwd=tmp_path), "dtnett", "'dtnet'?")


def test_a_missing_package_is_a_reason(monkeypatch: pytest.MonkeyPatch, printed, tmp_path: Path) -> None:
    """Where the extra is missing, an encoder still tells what it would give: a pair that fits names the install."""
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "sevenn" else find(name, *more)
    )
    monkeypatch.setattr(weights_file, "shipped", lambda checkpoint: None)
    install = 'pip install "crystal-tensor-zoo[sevennet]"'
    pair = next(p for p in compat.pairs() if (p["encoder"], p["readout"]) == ("sevennet", "dtnet"))
    assert not pair["works"] and install in pair["reason"]
    assert "irreps" not in pair["reason"]
    other = next(p for p in compat.pairs("ijkl=jikl=klij") if (p["encoder"], p["readout"]) == ("sevennet", "dtnet"))
    assert "ijkl" in other["reason"], "what cannot work at all is said first"
    assert install in " ".join(" ".join(printed("sevennet", cwd=tmp_path)).split())
