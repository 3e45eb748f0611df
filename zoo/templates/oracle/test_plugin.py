"""Requirements of every oracle: tensors in the crystal's frame, the same each time, a reason where there is none."""

from pathlib import Path

import numpy as np
import pytest
from my_plugin import MyPlugin, MyPluginHypers
from pymatgen.core import Lattice, Structure

from zoo.api import CalculationFailed, Candidate

ORACLE = MyPlugin(MyPluginHypers())


def rock_salt(metal: str, anion: str, edge: float) -> Candidate:
    """By the edge of the cubic cell, Å."""
    half = edge / 2
    lattice = Lattice([[0, half, half], [half, 0, half], [half, half, 0]])
    return Candidate(metal + anion, Structure(lattice, [metal, anion], np.array([[0, 0, 0], [0.5, 0.5, 0.5]])))


MAGNESIA = rock_salt("Mg", "O", 4.212)


def test_the_tensors_that_it_promises(tmp_path: Path) -> None:
    """The tensors have the right names and shapes, the same the second time; the structure is untouched."""
    before = MAGNESIA.structure.copy()
    tensors = ORACLE.tensors(MAGNESIA, tmp_path)
    assert tensors, "a result that somebody else brings has to be put into the folder first"
    assert MAGNESIA.structure == before
    targets = ORACLE.targets()
    for name, tensor in tensors.items():
        assert targets[name].name == name
        assert tensor.shape == targets[name].shape
        assert tensor.dtype == np.float64
        assert np.isfinite(tensor).all()
        np.testing.assert_allclose(tensor, tensor.T)
        np.testing.assert_array_equal(ORACLE.tensors(MAGNESIA, tmp_path)[name], tensor)  # asked again


def test_a_supercell_is_the_same_crystal(tmp_path: Path) -> None:
    """For an intensive tensor."""
    twice = Candidate("twice", MAGNESIA.structure * (2, 1, 1))
    np.testing.assert_allclose(ORACLE.tensors(twice, tmp_path)["total"], ORACLE.tensors(MAGNESIA, tmp_path)["total"])


def test_it_is_not_far_from_what_is_measured(tmp_path: Path) -> None:
    """Within 5 %: MgO 9.8, LiF 9.0 (Ashcroft, Mermin, Solid State Physics, 1976, for the latter)."""
    for candidate, measured in ((MAGNESIA, 9.8), (rock_salt("Li", "F", 4.026), 9.0)):
        assert np.trace(ORACLE.tensors(candidate, tmp_path)["total"]) / 3 == pytest.approx(measured, rel=0.05)


def test_a_crystal_without_a_result_says_why(tmp_path: Path) -> None:
    """The hyperparameter does what its docstring says."""
    with pytest.raises(CalculationFailed, match="Cl"):
        ORACLE.tensors(rock_salt("Na", "Cl", 5.640), tmp_path)
    with pytest.raises(CalculationFailed, match="beyond"):
        MyPlugin(MyPluginHypers(largest=5.0)).tensors(MAGNESIA, tmp_path)
