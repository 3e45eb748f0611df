"""docs/limits.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.cli import predict_command, serve_command
from zoo.config import yaml_text
from zoo.data import cif, download, inputs, structures
from zoo.graphs import graph
from zoo.inference import predictor
from zoo.storage import file_limits
from zoo.tracking.request_validation import Limits
from zoo.ui import app, uploads

DOCS = Path(__file__).parents[1] / "docs" / "limits.md"

ROWS = [
    ("a packed file", file_limits.MAX_FILE_MB),
    ("a CIF, a VASP file", file_limits.MAX_FILE_MB),
    ("lines of a block of a CIF", file_limits.MAX_CRYSTAL_LINES),
    ("atoms in the cell of a CIF", file_limits.MAX_CIF_ATOMS),
    ("symmetry operations", cif.MOST_OPERATIONS),
    ("images of a CIF's sites", cif.IMAGES),
    ("characters of a line of a CIF", cif.LONGEST_LINE),
    ("length of a lattice vector", structures.LONGEST),
    ("distance of an atom", structures.FARTHEST),
    ("atoms of a crystal", predictor.MAX_ATOMS),
    ("edges of its graph:", graph.MAX_EDGES),
    ("edges of its graph |", Limits().max_edges),
    ("crystals of a call", predict_command.MAX_CRYSTALS),
    ("nearest training crystals", predictor.MOST_NEIGHBOURS),
    ("shortest distance", inputs.CLOSEST),
    ("volume of an atom", inputs.DENSEST),
    ("body of a request", Limits().max_megabytes),
    ("crystals of a request", Limits().max_crystals),
    ("atoms of a request", Limits().max_total_atoms),
    ("time for which an idle connection", serve_command.KEEP_ALIVE),
    ("a file, as it is sent", uploads.MAX_BYTES / 1e6),
    ("files at a time", uploads.MAX_FILES),
    ("a request of the browser", app.LARGEST_REQUEST / 1e6),
    ("levels of nesting", yaml_text.MOST_LEVELS),
    ("values of a recipe", yaml_text.MOST_VALUES),
    ("attempts of a download", download.ATTEMPTS),
]


@pytest.mark.parametrize(("start", "value"), ROWS, ids=lambda value: str(value))
def test_the_default_is_that_of_the_code(start: str, value: float) -> None:
    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {start}")]
    assert rows
    default = rows[0].split("|")[2]
    number = f"{value:,.0f}" if value == int(value) else f"{value:g}"
    assert number in default.replace(";", " ").split() or f"{number}," in default


@pytest.mark.parametrize("name", ["ZOO_MAX_FILE_MB", "ZOO_MAX_CRYSTAL_LINES", "ZOO_MAX_CIF_ATOMS"])
def test_the_variables_are_named(name: str) -> None:
    assert name in DOCS.read_text(encoding="utf-8")
    assert name in Path(file_limits.__file__).read_text(encoding="utf-8")
