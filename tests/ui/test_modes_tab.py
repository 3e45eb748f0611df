"""The tab that explains: on the page where an answer has an explanation, and nowhere else."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import springs

from zoo.contract.target import TensorTarget
from zoo.inference.explanation import Explanation, explanation_of
from zoo.inference.prediction import Prediction
from zoo.inference.raw_answers import Response
from zoo.phonons.polar_modes import ionic_tensor

pytest.importorskip("dash")

from plotly.utils import PlotlyJSONEncoder

from zoo.ui.modes_tab import figure, modes_tab, spectrum_tab


def explained(electronic: np.ndarray | None, soften: float = 0.0) -> Explanation:
    """Quartz of springs; `soften` pulls every eigenvalue of the potential down by so many eV/Å²."""
    structure = springs.quartz()
    matrix, born = springs.force_constants(structure), springs.charges(structure)
    answered = ionic_tensor(matrix, born, structure.volume)
    potential = matrix - soften * np.eye(len(matrix))
    return explanation_of(structure, Response(born, matrix, absolute=True), answered, electronic, potential)


def written(parts: Any) -> str:
    return json.dumps([part.to_plotly_json() for part in parts], cls=PlotlyJSONEncoder, ensure_ascii=False)


def test_modes_spectrum_and_charges() -> None:
    why = explained(2.4 * np.eye(3))
    text = written([*modes_tab(None, why), *spectrum_tab(None, why)])
    for words in ("Modes at Γ", "share of ε0", "clamped strain", "Infrared spectrum", "reflectivity", "Born charges"):
        assert words in text
    assert "Modes at Γ, other" in written(modes_tab("other", explained(2.4 * np.eye(3))))


def test_the_picture_has_an_absorption_and_a_reflectivity_for_each_axis_that_differs() -> None:
    spectrum = explained(2.4 * np.eye(3)).spectrum()
    drawn = figure(spectrum).data
    assert len(drawn) == 2 * len(spectrum.distinct_axes())
    assert all(np.isfinite(line.y).all() for line in drawn)


def test_without_an_electronic_tensor_or_stable_modes_it_says_why_there_is_no_spectrum() -> None:
    assert "None: the model gives no electronic tensor" in written(spectrum_tab(None, explained(None)))
    assert "imaginary in the potential" in written(spectrum_tab(None, explained(2.4 * np.eye(3), soften=100.0)))


def test_the_tabs_are_there_where_an_answer_is_explained(ensemble_card: Any) -> None:
    from zoo.ui.panel import Said, content, tabs

    target = TensorTarget("total", quantity="total dielectric")
    plain = Prediction(springs.quartz(), target, np.eye(3))
    full = dataclasses.replace(plain, explanation=explained(2.4 * np.eye(3)))
    assert list(tabs([Said("a", ensemble_card, plain)])) == ["answer", "structure"]
    both = [Said("a", ensemble_card, plain), Said("b", ensemble_card, full)]
    assert list(tabs(both)) == ["answer", "structure", "modes", "spectrum"]
    assert "Modes at Γ, b" in written(content("modes", both, springs.quartz()))
    assert "Infrared spectrum, b" in written(content("spectrum", both, springs.quartz()))
    assert content("answer", [], springs.quartz()) == [], "of a crystal that no model answers"


def test_the_structure_tab_tells_the_cell_and_what_surrounds_an_atom() -> None:
    from zoo.ui.structure_tab import structure_tab

    text = written(structure_tab(springs.quartz()))
    for words in ("4 O", "2 Si", "Å³ an atom", "g/cm³", "Space group"):
        assert words in text
