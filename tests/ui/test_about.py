"""The page's paragraph about a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from zoo.model.checkpoint import read_card
from zoo.ui.about import about

CARD = read_card(Path(__file__).parents[1] / "checkpoints" / "format_4")


@pytest.mark.parametrize(
    ("count", "words"),
    [(1_027, "on 1,027 crystals of"), ([820, 821, 821], "on 820 to 821 crystals of"), (None, "on petousis2017")],
)
def test_the_number_of_training_crystals(count: int | list[int] | None, words: str) -> None:
    text = str(about("mine", dataclasses.replace(CARD, metrics={**CARD.metrics, "n_train": count})))
    assert words in text
