"""Answers as text, HTML and JSON, and the warnings that need no model."""

from __future__ import annotations

import copy
import json
import pickle
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from zoo.contract.target import TensorTarget
from zoo.data.tensors import DIELECTRIC
from zoo.evaluation.derived import describe
from zoo.inference.doubt import KINDS, Doubt
from zoo.inference.doubts import doubts_of_elements, doubts_of_size
from zoo.inference.ellipsoid_svg import SIZE, ellipsoid
from zoo.inference.prediction import Prediction, Predictions
from zoo.inference.prediction_text import block

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ALL = tuple(range(1, 104))


def alone(name: str, tensor: np.ndarray, **more: Any) -> Prediction:
    target = DIELECTRIC[name]
    return Prediction(SALT, target, tensor, derived=describe(tensor, target), **more)


@pytest.fixture
def joint() -> Prediction:
    """Sodium chloride as a model of all three tensors answers: with the rounding of float32."""
    noise = 1e-7 * np.array([[0, 1, -1], [1, 0, 3], [-1, 3, 0]])
    electronic, ionic = 2.4 * np.eye(3) + noise, np.diag([3.0, 3.0, 3.25]) - noise
    interval = {"polycrystalline": [2.3000001, 2.4999999], "eigenvalues": [[2.3, 2.5]] * 3}
    parts = {
        "electronic": alone("electronic", electronic, coverage=0.9, intervals=interval),
        "ionic": alone("ionic", ionic, coverage=0.9, intervals={"polycrystalline": [2.5, 3.75]}),
    }
    total = alone("total", electronic + ionic, coverage=0.9, intervals={"polycrystalline": [4.9, 6.1]})
    return replace(total, parts=parts, warnings=(Doubt("novel", "unlike <b>"), Doubt("force", "a force")))


def test_one_line_has_the_constants_and_counts_the_warnings(joint: Prediction) -> None:
    line = repr(joint)
    assert "\n" not in line
    for words in ("NaCl", "cubic", "ε∞ 2.40 (2.30 to 2.50)", "ε0 3.08 (2.50 to 3.75)", "ε 5.48", "2 warnings"):
        assert words in line, line
    assert "warning" not in repr(replace(joint, warnings=()))


def test_the_block_has_three_tensors_side_by_side(joint: Prediction) -> None:
    lines = str(joint).splitlines()
    assert max(map(len, lines)) <= 100
    (head,) = (line for line in lines if "ε∞" in line)
    first = lines[lines.index(head) + 1]
    for column, number in ((head.index("ε∞"), "2.400"), (head.index("ε0"), "3.000"), (head.rindex("ε"), "5.400")):
        assert first[column:].startswith(number), "each below its name"
    assert "warning (novel): unlike <b>" in lines and "-0.0" not in str(joint)


def test_json_has_zeros_where_symmetry_has(joint: Prediction) -> None:
    content = json.loads(json.dumps(joint.as_dict()))
    assert content["tensor"] == [[5.4, 0, 0], [0, 5.4, 0], [0, 0, 5.65]]
    assert content["ionic"]["tensor"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3.25]]
    assert content["electronic"]["intervals"]["polycrystalline"] == [2.3, 2.5]
    assert content["warning_kinds"] == ["novel", "force"] and content["warnings"][1] == "a force"
    written = json.dumps(content)
    assert "-0.0" not in written and not re.search(r"\d\.\d{7,}|e-\d", written)
    small = alone("ionic", np.diag([2e-6, 2e-6, 1e-6]))
    assert small.as_dict()["tensor"][0][0] == 2e-6, "a small tensor is no noise"
    assert alone("ionic", np.zeros((3, 3))).as_dict()["tensor"] == [[0] * 3] * 3


def test_a_notebook_shows_three_tensors_and_marks_warnings(joint: Prediction) -> None:
    shown = joint._repr_html_()
    assert shown.count("<svg") == 3 and shown.count("⚠") == 2 and len(shown) < 40_000
    assert "unlike &lt;b&gt;" in shown and "2.40 (2.30 to 2.50)" in shown
    ElementTree.fromstring(shown)  # else a browser would have to guess
    none = replace(joint, target=TensorTarget("x", "i"), tensor=np.ones(3), derived={}, parts={}, warnings=())
    assert "<svg" not in none._repr_html_()


def test_several_answers_are_a_table_of_constants(joint: Prediction) -> None:
    answers = Predictions([joint, replace(joint, warnings=())])
    answers.names = ["a&b.cif", "b.cif"]
    shown = answers._repr_html_()
    ElementTree.fromstring(shown)
    assert "a&amp;b.cif" in shown and shown.count("2.40 (2.30 to 2.50)") == 2 and shown.count("⚠ novel") == 1
    frame = answers.dataframe()
    for name, value in (("electronic", 2.4), ("ionic", 3.083), ("total", 5.483)):
        assert frame[f"{name}_polycrystalline"][0] == pytest.approx(value, abs=1e-3)
    assert list(frame["warning_kinds"]) == ["novel, force", ""]
    assert frame["ionic_polycrystalline_high"][0] == 3.75 and "polycrystalline" not in frame
    assert Predictions()._repr_html_()


@pytest.mark.parametrize(
    ("target", "shape", "words"),
    [
        (TensorTarget("born", "ij", per_atom=True), (8, 3, 3), "atom 7"),
        (TensorTarget("piezoelectric", "ijk=ikj", unit="C/m²"), (3, 3, 3), "xyz"),
        (TensorTarget("dipole", "i"), (3,), "1.000"),
        (TensorTarget("stiffness", "ijkl=jikl=klij", unit="GPa", quantity="elastic"), (3,) * 4, "bulk modulus"),
    ],
)
def test_tensors_of_any_kind_are_written(target: TensorTarget, shape: tuple[int, ...], words: str) -> None:
    tensor = np.ones(shape)
    answer = Prediction(SALT, target, tensor, derived={} if target.per_atom else describe(tensor, target))
    assert words in str(answer) and words in answer._repr_html_() and target.name in repr(answer)
    assert block(answer.as_dict(), [target])


def test_an_ellipsoid_is_as_long_as_its_eigenvalues() -> None:
    """The outline of a sphere is a circle; a direction along which the tensor is long reaches the largest radius."""

    def radii(tensor: np.ndarray) -> tuple[float, float]:
        drawn = ElementTree.fromstring(ellipsoid(tensor, 4.0)).find("{*}ellipse")
        assert drawn is not None
        return float(drawn.get("rx", 0)), float(drawn.get("ry", 0))

    assert radii(4 * np.eye(3)) == pytest.approx((0.42 * SIZE,) * 2, abs=0.1)
    assert radii(2 * np.eye(3)) == pytest.approx((0.21 * SIZE,) * 2, abs=0.1)
    long, short = radii(np.diag([1.0, 1.0, 4.0]))
    assert long == pytest.approx(0.94 * 0.42 * SIZE, rel=0.03) and short == pytest.approx(0.25 * 0.42 * SIZE, rel=0.01)
    for tensor in (np.zeros((3, 3)), np.diag([-1.0, 0, 2])):
        assert np.isfinite(radii(tensor)).all()


@pytest.mark.parametrize(
    ("elements", "warned"),
    [
        (["Al"], True),
        (["Cu", "Zn"], True),
        (["Ti", "Ni", "Sn"], True),
        (["Ga", "As"], False),
        (["Mg", "Si"], False),
        (["Si"], False),
        (["Na", "Cl"], False),
    ],
)
def test_a_formula_of_metals_is_warned_of(elements: list[str], warned: bool) -> None:
    crystal = Structure(Lattice.cubic(6), elements, np.arange(len(elements))[:, None] * np.full(3, 0.3))
    doubts = doubts_of_elements(crystal, DIELECTRIC["total"], ALL)
    assert [doubt.kind for doubt in doubts] == ["metal"] * warned
    assert not doubts_of_elements(crystal, TensorTarget("stiffness", quantity="elastic"), ALL)
    unseen = doubts_of_elements(crystal, TensorTarget("any"), ())
    assert [doubt.kind for doubt in unseen] == ["unseen element"] and all(name in unseen[0] for name in elements)


def test_sizes_that_are_unusual_or_impossible_are_warned_of() -> None:
    total, ionic = DIELECTRIC["total"], DIELECTRIC["ionic"]
    assert not doubts_of_size(10 * np.eye(3), total, usual=20.0)
    assert [doubt.kind for doubt in doubts_of_size(12 * np.eye(3), total, usual=20.0)] == ["range"]
    assert not doubts_of_size(0.995 * np.eye(3), total)
    (low,) = doubts_of_size(0.9 * np.eye(3), total)
    assert low.kind == "range" and "0.9" in low
    assert not doubts_of_size(0.5 * np.eye(3), ionic) and len(doubts_of_size(-0.5 * np.eye(3), ionic)) == 1
    assert not doubts_of_size(-5 * np.eye(3), TensorTarget("strain"))


def test_a_warning_is_a_sentence_with_a_kind() -> None:
    one = Doubt("force", "a large force")
    for same in (one, copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert same == "a large force" and same.kind == "force" and same.kind in KINDS
    assert json.dumps([one]) == '["a large force"]'
