"""Force constants from few displacements: as many as needed, and the same as from all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import springs
import torch
from e3nn import o3
from pymatgen.core import Lattice, Structure

from zoo.api import CrystalBatch, Embedding, Encoder, Hypers, Provides, ZooError
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graph
from zoo.graphs.space_group import SpaceGroup
from zoo.phonons import force_constants as by_displacements
from zoo.phonons.displacements import assemble, displacements
from zoo.phonons.force_constants import force_constants
from zoo.testing import PairPotential, check_atomic_energies, check_force_constants, prototypes, second_derivatives
from zoo.testing.symmetry_checks import repeated


class Harmonic(Encoder):
    """A quadratic energy about where the atoms of one crystal are: central differences have no error."""

    Hypers = Hypers
    cutoff = 2.0

    def __init__(self, structure: Structure) -> None:
        super().__init__(Hypers())
        self.rest = torch.from_numpy(structure.cart_coords)
        self.matrix = springs.force_constants(structure)

    @classmethod
    def provides(cls, hypers: Hypers) -> Provides:
        return Provides(o3.Irreps("1x0e"), energy=True)

    def forward(self, batch: CrystalBatch) -> Embedding:
        raise NotImplementedError

    def energy(self, batch: CrystalBatch) -> torch.Tensor:
        moved = (batch.positions.reshape(batch.n_crystals, -1, 3) - self.rest).flatten(1)
        return 0.5 * (moved @ torch.from_numpy(self.matrix) * moved).sum(dim=1)


def wurtzite() -> Structure:
    return Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.25, 5.21), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]
    )


def left_quartz() -> Structure:
    """The mirror image, in a cell of the other hand's coordinates but of the same hand."""
    right = springs.quartz()
    return Structure(right.lattice, right.species, -right.frac_coords)


CRYSTALS = {
    "cubic": (springs.salt(), 2, 2),  # one displacement of each atom; inversion gives the opposite one
    "cubic, 16 atoms": (repeated(springs.salt(), (2, 2, 2)), 2, 2),  # all copies follow by translations
    "hexagonal, polar": (wurtzite(), 2, 4),  # one oblique to the axis, no operation turns it around
    "tetragonal": (springs.rutile(), None, None),
    "chiral": (springs.quartz(), None, None),
    "the other hand": (left_quartz(), None, None),
    "triclinic, inversion": (prototypes()["-1"].structure, 6, 9),  # Ti: 3, turned around; O: 3, both ways
    "triclinic": (prototypes()["1"].structure, 12, 24),  # all
}


@pytest.fixture(params=sorted(CRYSTALS))
def crystal(request: pytest.FixtureRequest) -> Structure:
    return CRYSTALS[request.param][0]


@pytest.mark.parametrize("name", [name for name, (_, count, _) in CRYSTALS.items() if count])
def test_as_few_as_can_be(name: str) -> None:
    structure, count, replicas = CRYSTALS[name]
    made = displacements(SpaceGroup.of(Crystal.of(structure)))
    assert len(made) == count
    assert sum(1 if one.opposite is not None else 2 for one in made) == replicas
    assert all(np.linalg.norm(one.direction) == pytest.approx(1) for one in made)


def test_an_opposite_is_one() -> None:
    """The operation turns the direction around and leaves the atom; where none does, there is none."""
    for structure, *_ in CRYSTALS.values():
        group = SpaceGroup.of(Crystal.of(structure))
        for one in displacements(group):
            turns = (np.abs(group.rotations @ one.direction + one.direction).max(axis=1) < 1e-6) & (
                group.moves[:, one.atom] == one.atom
            )
            assert (one.opposite is None) == (not turns.any())
            assert one.opposite is None or turns[one.opposite]


def test_operations_are_those_of_the_crystal(crystal: Structure) -> None:
    """Each brings every atom onto one of its kind, and (its rotation, where atoms go) form a group."""
    group = SpaceGroup.of(Crystal.of(crystal))
    numbers = np.array(crystal.atomic_numbers)
    assert np.array_equal(group.rotations[0], np.eye(3)) or np.allclose(group.rotations[0], np.eye(3))
    for rotation, move in zip(group.rotations, group.moves, strict=True):
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert sorted(move) == list(range(len(crystal))) and (numbers[move] == numbers).all()
    known = {
        (tuple(np.rint(1e3 * r).ravel() + 0.0), tuple(m)) for r, m in zip(group.rotations, group.moves, strict=True)
    }
    for i in range(min(len(group.moves), 12)):
        product = group.rotations[i] @ group.rotations[-1], group.moves[i][group.moves[-1]]
        assert (tuple(np.rint(1e3 * product[0]).ravel() + 0.0), tuple(product[1])) in known


def test_the_number_of_operations() -> None:
    """A chiral crystal's are six rotations; those of a left-handed cell, and of a supercell, are found as well."""
    quartz = springs.quartz()
    for one in (quartz, left_quartz(), Structure(Lattice(-quartz.lattice.matrix), quartz.species, quartz.frac_coords)):
        group = SpaceGroup.of(Crystal.of(one))
        assert len(group.moves) == 6 and np.allclose(np.linalg.det(group.rotations), 1)
    assert len(SpaceGroup.of(Crystal.of(repeated(springs.salt(), (2, 2, 2)))).moves) == 48 * 8
    overlapping = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 1e-9]])
    assert len(SpaceGroup.of(Crystal.of(overlapping)).moves) == 1, "without symmetry, but not without an answer"


def test_equal_to_all_displacements_of_springs(crystal: Structure) -> None:
    """Nothing is lost: what the group makes of few columns is every column, to rounding of coordinates."""
    potential = Harmonic(crystal)
    (found,) = force_constants(potential, [Crystal.of(crystal)])
    largest = np.abs(potential.matrix).max()
    assert largest > 0.1
    np.testing.assert_allclose(found.matrix, potential.matrix, rtol=0, atol=1e-8 * largest)
    assert found.largest_force < 1e-12


def test_columns_are_assembled_before_any_average(crystal: Structure) -> None:
    """An error here would be hidden by symmetrisation where the wrong element is small."""
    matrix = springs.force_constants(crystal)
    group = SpaceGroup.of(Crystal.of(crystal))
    made = displacements(group)
    blocks = matrix.reshape(len(crystal), 3, len(crystal), 3)
    columns = np.stack([blocks[:, :, one.atom] @ one.direction for one in made])
    np.testing.assert_allclose(assemble(group, made, columns), matrix, rtol=0, atol=1e-8 * np.abs(matrix).max())


def test_average_over_the_group(crystal: Structure) -> None:
    """It leaves what is invariant, and makes of anything what every operation leaves."""
    group = SpaceGroup.of(Crystal.of(crystal))
    n = len(crystal)
    matrix = springs.force_constants(crystal)
    np.testing.assert_allclose(group.average(matrix), matrix, atol=1e-8 * np.abs(matrix).max())
    anything = np.random.default_rng(0).normal(size=(3 * n, 3 * n))
    mean = group.average(anything)
    np.testing.assert_allclose(group.average(mean), mean, atol=1e-12)
    for rotation, move in zip(group.rotations, group.moves, strict=True):
        big = np.zeros((n, 3, n, 3))
        big[move, :, np.arange(n)] = rotation
        big = big.reshape(3 * n, 3 * n)
        np.testing.assert_allclose(big @ mean @ big.T, mean, atol=1e-12)
    assert (len(group.moves) == 1) == np.allclose(mean, anything)


def exact(potential: Encoder, structure: Structure) -> np.ndarray:
    batch = collate([crystal_graph(structure, potential.cutoff)], torch.float64)
    return second_derivatives(potential, batch)[0].matrix


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    yield lambda size: monkeypatch.setattr(by_displacements, "STEP", size)


@pytest.mark.parametrize("name", ["hexagonal, polar", "chiral", "triclinic"])
def test_errors_of_the_second_order(name: str, steps) -> None:
    """Of an anharmonic energy: small, and four times as large for twice the displacement."""
    crystal = CRYSTALS[name][0]
    potential = PairPotential(PairPotential.Hypers())
    wanted = exact(potential, crystal)
    largest = np.abs(wanted).max()
    errors = []
    for size in (0.0025, 0.005, 0.01):
        steps(size)
        (found,) = force_constants(potential, [Crystal.of(crystal)])
        errors.append(np.abs(found.matrix - wanted).max() / largest)
    assert errors[1] < 1e-3
    assert errors[1] / errors[0] == pytest.approx(4, rel=0.1) and errors[2] / errors[1] == pytest.approx(4, rel=0.1)


def test_several_crystals_at_once_are_those_of_each() -> None:
    structures = [structure for structure, *_ in CRYSTALS.values()]
    potential = PairPotential(PairPotential.Hypers())
    together = force_constants(potential, [Crystal.of(s) for s in structures])
    for structure, found in zip(structures, together, strict=True):
        (alone,) = force_constants(potential, [Crystal.of(structure)])
        np.testing.assert_allclose(found.matrix, alone.matrix, rtol=0, atol=1e-10)
        forces = by_displacements.forces_of(
            potential.energy, collate([crystal_graph(structure, potential.cutoff)], torch.float64)
        )
        assert found.largest_force == pytest.approx(float(forces.norm(dim=1).max()), abs=2e-3)
        values = np.linalg.eigvalsh(found.matrix)
        np.testing.assert_allclose(found.eigenvalues, values, atol=1e-9)
        np.testing.assert_allclose(
            found.eigenvectors * found.eigenvalues @ found.eigenvectors.T, found.matrix, atol=1e-9
        )


def test_what_every_potential_must_pass() -> None:
    structures = [springs.quartz(), wurtzite(), prototypes()["-1"].structure]
    check_force_constants(PairPotential(PairPotential.Hypers()), structures)
    lone = Structure(Lattice.cubic(3.1), ["Po"], [[0.1, 0.2, 0.3]])
    (one,) = force_constants(PairPotential(PairPotential.Hypers()), [Crystal.of(lone)])
    assert np.abs(one.matrix).max() < 1e-12 and one.largest_force < 1e-12


class Chiral(PairPotential):
    """A pair potential and a little of an energy that changes sign in the mirror."""

    energy_is_chiral = True
    part = 0.05

    def energy(self, batch: CrystalBatch) -> torch.Tensor:
        r = batch.within(self.cutoff)
        vectors = r.edge_vectors()
        weight = (1 - vectors.norm(dim=1, keepdim=True) / self.cutoff) ** 3 * (1 + 0.1 * r.numbers[r.src, None])
        sums = [r.sum_to_atoms(weight**k * vectors) for k in (1, 2, 3)]
        triple = (torch.linalg.cross(sums[0], sums[1], dim=1) * sums[2]).sum(dim=1)
        return super().energy(batch) + triple.new_zeros(r.n_crystals).index_add(0, r.crystal, self.part * triple)


class AsIs(Chiral):
    """The same, whose author forgot to say so."""

    energy_is_chiral = False


def test_an_energy_without_parity_counts_with_its_mirror_image() -> None:
    structures = [prototypes()["1"].structure, springs.quartz()]
    check_force_constants(Chiral(Chiral.Hypers()), structures)
    with pytest.raises(AssertionError, match=r"improper|inverted"):
        check_force_constants(AsIs(AsIs.Hypers()), structures)


def test_the_check_catches_a_potential_that_depends_on_the_cell() -> None:
    class PerAtom(PairPotential):
        def energy(self, batch: CrystalBatch) -> torch.Tensor:
            return super().energy(batch) / batch.atoms_per_crystal()

    with pytest.raises(AssertionError, match="a supercell"):
        check_force_constants(PerAtom(PerAtom.Hypers()), [springs.salt()])

    class Absolute(PairPotential):
        def energy(self, batch: CrystalBatch) -> torch.Tensor:
            moved = batch.positions[:, 2].square()
            return super().energy(batch).index_add(0, batch.crystal, moved)

    with pytest.raises(AssertionError, match="proper rotation"):
        check_force_constants(Absolute(Absolute.Hypers()), [prototypes()["1"].structure])


def test_too_large_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_displacements, "MAX_ATOMS", 5)
    with pytest.raises(ZooError, match=r"^6 atoms in the cell: .* up to 5.*primitive cell") as caught:
        force_constants(PairPotential(PairPotential.Hypers()), [Crystal.of(springs.rutile())])
    assert "\n" not in str(caught.value)


def test_forces_that_are_not_finite() -> None:
    """Atoms in one place: the crystal is named by its formula, whatever it is computed with."""

    class Coulomb(PairPotential):
        def energy(self, batch: CrystalBatch) -> torch.Tensor:
            inverse = 1 / batch.edge_vectors().norm(dim=1)
            return inverse.new_zeros(batch.n_crystals).index_add(0, batch.crystal[batch.dst], inverse)

    close = Structure(Lattice.cubic(4), ["Na", "Cl", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    with pytest.raises(ZooError, match=r"no finite forces in Na1 Cl2: are two of its atoms at one place\?") as caught:
        force_constants(Coulomb(Coulomb.Hypers()), [Crystal.of(springs.salt()), Crystal.of(close)])
    assert "\n" not in str(caught.value)


class TestSevenNet:
    """What a real network makes of it."""

    pytestmark = pytest.mark.sevennet

    @pytest.fixture(scope="class")
    def sevennet(self) -> Encoder:
        from zoo_sevennet import SevenNet

        return SevenNet(SevenNet.Hypers(layer=1)).double().eval().requires_grad_(False)

    def test_one_pass_is_the_mean_of_two(self, sevennet: Encoder) -> None:
        structure = springs.quartz()
        batch = collate([crystal_graph(s, sevennet.cutoff) for s in (structure, springs.salt())], torch.float64)
        with torch.no_grad():
            own, image = (
                sevennet.energy(dataclasses.replace(batch, positions=sign * batch.positions, cell=sign * batch.cell))
                for sign in (1, -1)
            )
            one_pass, two = sevennet.even_energy(batch), Encoder.even_energy(sevennet, batch)
        assert float((own - image).abs().max()) > 1e-6, "quartz would show nothing"
        torch.testing.assert_close(two, (own + image) / 2, rtol=1e-14, atol=0)
        torch.testing.assert_close(one_pass, two, rtol=1e-10, atol=0)

    def test_equal_to_all_displacements(self, sevennet: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
        """Up to the error of a displacement, which is another in another direction."""
        crystals = [Crystal.of(springs.salt())]
        few = force_constants(sevennet, crystals)
        identity = lambda crystal: SpaceGroup(np.eye(3)[None], np.arange(len(crystal.numbers))[None])  # noqa: E731
        monkeypatch.setattr(SpaceGroup, "of", identity)
        for found, wanted in zip(few, force_constants(sevennet, crystals), strict=True):
            np.testing.assert_allclose(found.matrix, wanted.matrix, atol=1e-3 * np.abs(wanted.matrix).max())

    @pytest.mark.extended
    def test_it_passes_what_every_potential_must(self, sevennet: Encoder) -> None:
        check_force_constants(sevennet, [springs.quartz(), wurtzite(), springs.salt()])
        right, left = force_constants(sevennet, [Crystal.of(springs.quartz()), Crystal.of(left_quartz())])
        np.testing.assert_allclose(left.matrix, right.matrix, atol=1e-10 * np.abs(right.matrix).max())


class Doubled(PairPotential):
    """Its energy is not the sum of the energies of atoms that it has inherited."""

    def energy(self, batch: CrystalBatch) -> torch.Tensor:
        return 2 * super().energy(batch)


def test_energies_of_atoms_must_add_up() -> None:
    potential = PairPotential(PairPotential.Hypers())
    batch = collate([crystal_graph(Crystal.of(springs.salt()), potential.cutoff)], torch.float64)
    check_atomic_energies(potential, batch)
    with pytest.raises(AssertionError, match="do not add up"):
        check_atomic_energies(Doubled(Doubled.Hypers()), batch)
