"""Cells of CSV files: a text from outside must not become a formula when a spreadsheet opens the file.

Excel, LibreOffice and their like run a cell that begins with `=`, `+`, `-` or `@`. An apostrophe before it makes it a
text. Whatever this package reads back comes through `cell_read`, which takes that apostrophe away again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Spreadsheets skip tabs and line ends before a formula. Apostrophes of the text's own get one more: none is lost.
_RUNS = re.compile(r"'*[=+\-@\t\r\n]")
_QUOTED = re.compile(r"'+[=+\-@\t\r\n]")


def csv_cell(value: Any) -> Any:
    """Return a value as it is written into a cell: an apostrophe goes before a text that a spreadsheet would run.

    Numbers, and texts that are numbers, stay as they are.
    """
    if not isinstance(value, str) or not _RUNS.match(value) or _is_number(value):
        return value
    return f"'{value}"


def cell_read(text: str) -> str:
    """Return the text of which `csv_cell` made this cell."""
    return text[1:] if _QUOTED.match(text) else text


def csv_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its column names and its values as they are written."""
    return {csv_cell(name): csv_cell(value) for name, value in row.items()}


def row_read(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a row of `csv.DictReader` with the texts that `csv_row` was given."""
    return {_read(name): _read(value) for name, value in row.items()}


def _read(value: Any) -> Any:
    return cell_read(value) if isinstance(value, str) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isprintable()
