"""Soft modes are warned of by their share of the ionic tensor, several potentials by how far they are apart."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from pymatgen.core import Structure
from torch import Tensor

from zoo.contract.batch import CrystalBatch
from zoo.inference.phonon_warnings import phonon_warnings
from zoo.inference.predictor import Predictor
from zoo.inference.raw_answers import Response
from zoo.phonons.force_constants import ForceConstants

ROCK_SALT = Structure(2.82 * (np.ones((3, 3)) - np.eye(3)), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def chain(polar: float, silent: float) -> tuple[ForceConstants, np.ndarray]:
    """Three atoms in a row of which the outer two are alike: its modes against the middle one are polar, others not."""
    against, apart = np.array([1, -2, 1]) / 6**0.5, np.array([1, 0, -1]) / 2**0.5
    matrix = polar * np.outer(against, against) + silent * np.outer(apart, apart)
    born = np.array([1.0, -2.0, 1.0])[:, None, None] * np.eye(3)
    return ForceConstants.of(np.kron(matrix, np.eye(3))), born


@pytest.mark.parametrize(
    ("polar", "silent", "words"),
    [
        (3.0, 2.0, None),
        (3.0, 0.05, None),
        (3.0, -0.5, None),
        (0.05, 2.0, "100 % of the ionic tensor comes from modes that are very soft"),
        (-0.2, 2.0, "100 % of the ionic tensor comes from modes that are imaginary"),
        (-0.2, -0.5, "imaginary in the potential (lowest -0.500 eV/Å²)"),
    ],
)
def test_a_soft_mode_matters_where_it_carries_the_tensor(polar: float, silent: float, words: str | None) -> None:
    found, born = chain(polar, silent)
    corrected = found.eigenvectors * np.maximum(found.eigenvalues, 0.1) @ found.eigenvectors.T
    warnings = phonon_warnings(found, Response(born, corrected))
    assert len(warnings) == (words is not None)
    if words is not None:
        assert words in warnings[0] and "\n" not in warnings[0]


def test_a_readout_that_does_not_explain_is_warned_of_any_soft_mode() -> None:
    assert "very soft modes" in phonon_warnings(chain(3.0, 0.05)[0])[0]
    assert "imaginary modes" in phonon_warnings(chain(3.0, -0.5)[0])[0]
    assert phonon_warnings(chain(3.0, 2.0)[0]) == []


def test_a_large_force_and_potentials_that_disagree() -> None:
    found, born = chain(3.0, 2.0)
    found = ForceConstants.of(found.matrix, largest_force=0.3)
    near, far = (np.array([a * np.eye(3), b * np.eye(3)]) for a, b in ((5.0, 6.0), (5.0, 15.0)))
    assert len(phonon_warnings(found, Response(born, found.matrix), near)) == 1
    force, apart = phonon_warnings(found, Response(born, found.matrix), far)
    assert "0.30 eV/Å" in force
    assert "5.00, 15.00" in apart
    assert len(phonon_warnings(found, Response(born, found.matrix), np.zeros((2, 3, 3)))) == 1, "none is polar"


def test_a_cell_of_a_wrong_size_is_warned_of_where_symmetry_forbids_a_force(predictor: Predictor) -> None:
    """A rock salt crystal whose lengths are scaled by a tenth is warned of by its pressure, as its forces are zero."""
    for scale, word in ((0.9, "compressed"), (1.0, None), (1.1, "stretched")):
        oxide = Structure(2.105 * scale * (np.ones((3, 3)) - np.eye(3)), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        told = {doubt.kind: str(doubt) for doubt in predictor.predict(oxide).warnings}
        assert "force" not in told
        assert ("pressure" in told) == (word is not None)
        assert word is None or word in told["pressure"]


@pytest.mark.sevennet
def test_two_potentials_answer_by_each_alone(single: Predictor) -> None:
    """A potential beside one of twice its stiffness: the tensor of each, and that of the mean between them."""
    one = single.potentials[0]
    stiffer = copy.copy(one)

    def twice(energy: Callable[[CrystalBatch], Tensor]) -> Callable[[CrystalBatch], Tensor]:
        return lambda batch: 2 * energy(batch)

    object.__setattr__(stiffer, "even_energy", twice(one.even_energy))
    both = Predictor(single.card, single.members, single.device, potentials=[one, stiffer])
    why = both.predict(ROCK_SALT, explain=True).explanation
    assert why is not None and why.by_potential is not None
    soft, stiff = (float(np.trace(tensor)) for tensor in why.by_potential)
    assert soft > float(np.trace(why.answered)) > stiff
    alone = single.predict(ROCK_SALT).parts["ionic"].tensor
    assert why.by_potential[0] == pytest.approx(alone, rel=1e-4, abs=1e-6)
    assert len(why.as_dict()["by_potential"]) == 2
