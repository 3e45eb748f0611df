"""Checks of what physics says of an ionic tensor, and of force constants, whatever the potential or the charges."""
# ruff: noqa: D102 (each test is documented by its check)

from __future__ import annotations

import numpy as np
import torch
from pymatgen.core import Lattice, Structure

from zoo.contract.plugin import Encoder
from zoo.graphs.crystal import Crystal
from zoo.phonons.force_constants import force_constants
from zoo.testing.compare import norms, orthogonal_matrices, rotate_crystal
from zoo.testing.conformance import ConformanceTests
from zoo.testing.pair import Pair
from zoo.testing.prototypes import prototypes, varied
from zoo.testing.symmetry_checks import repeated

BY_DISPLACEMENTS = 1e-3
"""Part of the largest element by which force constants of the same crystal, moved otherwise, may differ."""


def diamond_lattice(element: str, a: float) -> Structure:
    """Primitive cell of diamond, silicon, ...: two atoms that an inversion exchanges."""
    return Structure(Lattice(a / 2 * (np.ones((3, 3)) - np.eye(3))), [element] * 2, np.array([[0, 0, 0], [0.25] * 3]))


def check_no_optic_modes(pair: Pair) -> None:
    """A cell of one atom has no optic mode: its ionic tensor is exactly zero, alone and beside other crystals."""
    one = Structure(Lattice.from_parameters(2.713, 2.913, 3.117, 81, 99, 103), ["Ti"], [[0, 0, 0]])
    lonely = Structure(Lattice.cubic(4 * pair.model.encoder.cutoff), ["O"], [[0.2, 0.3, 0.4]])
    for tensor in (*pair.predict([one]), *pair.predict([lonely]), *pair.predict([*varied(), one])[-1:]):
        assert not tensor.any(), f"the ionic tensor of a cell of one atom is not zero, but\n{tensor.numpy()}"


def check_not_polar(pair: Pair) -> None:
    """Silicon, diamond: the two atoms are alike, so that nothing is charged, and the ionic tensor is zero.

    Also in a cell of eight atoms, in any orientation, beside a crystal that has one.
    """
    polar = prototypes()["m-3m"].structure
    size = norms(pair.predict([polar])).item()
    assert size > 0, "the ionic tensor of a perovskite is zero: nothing is charged"
    cells = [diamond_lattice("Si", 5.43), diamond_lattice("C", 3.57), repeated(diamond_lattice("C", 3.57), (2, 2, 1))]
    turned = [rotate_crystal(s, R) for s, R in zip(cells, orthogonal_matrices(3, seed=6), strict=True)]
    for crystals in (cells, turned):
        largest = norms(pair.predict([*crystals, polar])[:-1]).max().item()
        assert largest <= 1e-10 * max(size, 1.0), f"the ionic tensor of a crystal without charges is {largest:.1e}"


def check_positive(pair: Pair) -> None:
    """The ionic tensor is positive semi-definite: a static field lowers the energy. (`check_contract`: symmetric.)"""
    for tensor in (*pair.of_prototypes, *pair.predict([p.structure for p in prototypes().values()], torch.float32)):
        values = torch.linalg.eigvalsh(tensor)
        assert values[0] >= -1e-6 * values[-1].abs(), f"the ionic tensor has a negative eigenvalue: {values.numpy()}"


class IonicTests(ConformanceTests):
    """Tests of a readout that makes the ionic tensor of force constants: all of `ConformanceTests`, and three more.

    class TestMine(IonicTests):
        pair = Pair("nequip", MyReadout)
    """

    def test_no_optic_modes(self) -> None:
        check_no_optic_modes(self.pair)

    def test_not_polar(self) -> None:
        check_not_polar(self.pair)

    def test_positive(self) -> None:
        check_positive(self.pair)


def check_force_constants(potential: Encoder, structures: list[Structure]) -> None:
    """Force constants by displacements are symmetric, obey the sum rule, and turn with the crystal, improperly too.

    An inverted crystal has the same to rounding; that of a supercell, folded to the cell, to 1e-3.

    Args:
        potential: provides an energy; in float64 and eval mode.
        structures: of elements that it knows; a chiral one should be among them.
    """
    made = force_constants(potential, [Crystal.of(s) for s in structures])
    for structure, found in zip(structures, made, strict=True):
        phi = found.matrix
        n, largest = len(structure), np.abs(phi).max()
        assert largest > 0, f"{structure.formula} has no force constants: the energy does not depend on the positions"
        assert np.array_equal(phi, phi.T), "force constants are not symmetric"
        rest = np.abs(phi.reshape(n, 3, n, 3).sum(axis=2)).max()
        assert rest <= 1e-10 * largest, f"the acoustic sum rule is broken by {rest:.1e} eV/Å²"
        for index, R in enumerate(orthogonal_matrices(2, seed=8)):
            (turned,) = force_constants(potential, [Crystal.of(rotate_crystal(structure, R))])
            big = np.kron(np.eye(n), R.numpy())
            error = np.abs(turned.matrix - big @ phi @ big.T).max() / largest
            kind = "improper" if index % 2 else "proper"
            assert error <= BY_DISPLACEMENTS, f"force constants do not turn with a {kind} rotation: off by {error:.1e}"
        (inverted,) = force_constants(potential, [Crystal.of(rotate_crystal(structure, -torch.eye(3).double()))])
        error = np.abs(inverted.matrix - phi).max() / largest
        assert error <= 1e-10, f"the inverted {structure.formula} has other force constants: off by {error:.1e}"
        (double,) = force_constants(potential, [Crystal.of(repeated(structure, (2, 1, 1)))])
        # All images of an atom move together: the columns of its two copies add up.
        folded = double.matrix.reshape(2, 3 * n, 2, 3 * n).sum(axis=2)
        error = np.abs(folded - phi).max() / largest
        assert error <= BY_DISPLACEMENTS, f"a supercell has other force constants: off by {error:.1e}"
