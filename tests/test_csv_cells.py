"""Texts from outside in CSV files: a spreadsheet does not run them, and they are read back unchanged."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cli import zoo
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from zoo.contract.plugin import Record
from zoo.contract.target import TensorTarget
from zoo.data.export import export
from zoo.data.file import File, FileHypers
from zoo.evaluation.predictions import Predictions, read_predictions, write_predictions
from zoo.storage.csv_cells import cell_read, csv_cell
from zoo.storage.run_folder import append_row, read_rows, write_rows
from zoo.sweep.table import write_csv

MODEL = Path(__file__).parent / "checkpoints" / "format_3"
TOTAL = TensorTarget(name="total")
RUNS = "=HYPERLINK(1)"
FORMULAS = [RUNS, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "'=1", "''=1", "'-1.5", "=", "-"]
PLAIN = ["mp-149", "-1.5", "+3e-5", "-inf", "", "it's", "'quoted'", "a=b"]


def harmless(path: Path) -> bool:
    """Whether no cell, as a spreadsheet sees it, begins a formula."""
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    return not any(cell.lstrip("\t\r\n")[:1] in tuple("=+-@") and not is_number(cell) for cell in cells if cell)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_a_text_and_comes_back(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert cell_read(csv_cell(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_none_stays(text: str) -> None:
    assert csv_cell(text) == cell_read(text) == text


@given(st.text(alphabet="'=+-@\t\r\n1.e a,\"", max_size=6))
def test_any_text_comes_back(text: str) -> None:
    assert cell_read(csv_cell(text)) == text


def test_rows_of_a_run_folder(tmp_path: Path) -> None:
    rows = [{"key": text, RUNS: -1.5} for text in FORMULAS + PLAIN]
    write_rows(tmp_path / "rows.csv", rows)
    assert harmless(tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.csv") == [{"key": row["key"], RUNS: "-1.5"} for row in rows]
    append_row(tmp_path / "more.csv", {"key": RUNS})
    assert harmless(tmp_path / "more.csv")
    assert read_rows(tmp_path / "more.csv") == [{"key": RUNS}]


def test_predictions_beside_the_truth(tmp_path: Path) -> None:
    tensors = -np.ones((len(FORMULAS), 3, 3))
    part = Predictions(FORMULAS, ["cubic"] * len(FORMULAS), tensors, tensors)
    write_predictions(tmp_path / "predictions.csv", {"test": part}, TOTAL)
    assert harmless(tmp_path / "predictions.csv")
    assert read_predictions(tmp_path / "predictions.csv", "test", TOTAL).keys == FORMULAS


def test_an_exported_dataset(tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    records = [Record(text, salt, {"total": np.eye(3)}, {"@note": RUNS}) for text in FORMULAS]
    path = export(records, [TOTAL], tmp_path)
    assert harmless(path)
    back = list(File(FileHypers(path=str(path))).records())
    assert [record.key for record in back] == FORMULAS
    assert all(isinstance(record, Record) and record.properties["@note"] == RUNS for record in back)


def test_the_table_of_a_sweep(tmp_path: Path) -> None:
    frame = pd.DataFrame({RUNS: ["-1.5", "@x"], "mae": [-0.25, None], "n": [1, 2]})
    write_csv(tmp_path / "table.csv", frame)
    assert harmless(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().splitlines() == [f"'{RUNS},mae,n", "-1.5,-0.25,1", "'@x,,2"]


def test_answers_on_the_command_line(tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    salt.to(str(tmp_path / "salt.cif"))
    (tmp_path / "salt.cif").rename(tmp_path / "=1+1.cif")
    result = zoo("predict", str(MODEL), "=1+1.cif", "--format", "csv", cwd=tmp_path)
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert row["file"] == "'=1+1.cif"


def test_offenders_on_the_command_line(tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    path = export([Record(RUNS, salt, {"total": np.eye(3)}, {})], [TOTAL], tmp_path)
    result = zoo("data", "check", str(path), "--format", "csv", cwd=tmp_path)
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert row["key"] == f"'{RUNS}"
