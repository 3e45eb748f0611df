"""Two small crystals, and what the tests of all encoders do with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from torch import Tensor

from zoo.api import CrystalBatch
from zoo.graphs.graph import collate, crystal_graph


def random_p1() -> Structure:
    """No symmetry, five atoms of four elements."""
    places = [[0.02, 0.05, 0.01], [0.45, 0.55, 0.38], [0.5, 0.1, 0.72], [0.13, 0.6, 0.6], [0.7, 0.8, 0.05]]
    return Structure(Lattice.from_parameters(4.3, 5.4, 6.1, 81, 97, 104), ["Ca", "Ti", "O", "O", "S"], places)


def quartz() -> Structure:
    """Chiral."""
    lattice = Lattice.hexagonal(4.913, 5.405)
    return Structure.from_spacegroup("P3_121", lattice, ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.4533]])


def rattled(structure: Structure, size: float = 0.08) -> Structure:
    """Every atom moved by a vector of normal numbers times `size`, Å."""
    moved = structure.cart_coords + size * np.random.default_rng(0).normal(size=(len(structure), 3))
    return Structure(structure.lattice, structure.species, moved, coords_are_cartesian=True, to_unit_cell=False)


def within(cutoff: float, *structures: Structure, dtype: torch.dtype = torch.float64) -> CrystalBatch:
    """A batch with the edges up to the cutoff, Å."""
    return collate([crystal_graph(structure, cutoff) for structure in structures], dtype)


def error(got: Tensor, wanted: Tensor) -> float:
    """Relative, over all."""
    return float(((got - wanted).norm() / wanted.norm()).detach())


def check_slope(total: Callable[[Tensor], Tensor]) -> None:
    """The derivative at zero of a function of one number, float64, against a central difference."""
    size = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(total(size), size)
    step = torch.tensor(1e-5, dtype=torch.float64)
    with torch.no_grad():
        difference = (total(step) - total(-step)) / (2 * step)
    assert float(derivative) == pytest.approx(float(difference), rel=1e-6)
