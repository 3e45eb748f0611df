"""A recipe that screens in a second."""

from __future__ import annotations

from pathlib import Path

import pytest
from screened import MODEL, write_json


@pytest.fixture
def recipe(tmp_path: Path) -> dict:
    """Of 40 crystals, written by `save`."""
    write_json(tmp_path / "many.json", 40)
    return {
        "name": "mine",
        "model": str(MODEL),
        "candidates": {"path": "many.json"},
        "top": 6,
        "chunk": 8,
        "device": "cpu",
    }
