"""Perturbed structures have the kind and size that they state, and depend on the crystal's key and number alone."""

from __future__ import annotations

import numpy as np
import pytest
import springs
from ase.data import covalent_radii
from pymatgen.core import Element, Lattice, Structure

from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import crystal_graph
from zoo.pretraining.perturbations import KINDS, LEAST_ATOMS, RATTLE, STRAIN, perturbed, repeated, too_close

SALT = Crystal.of(springs.salt())
QUARTZ = Crystal.of(springs.quartz())


def of_kind(crystal: Crystal, kind: str, count: int = 400, **options):
    return [one for one in perturbed(crystal, "mp-1", count, **options) if one.kind == kind]


def test_the_first_is_the_crystal_itself_and_all_kinds_follow() -> None:
    first, *others = perturbed(QUARTZ, "mp-1", 9)
    assert first.crystal is QUARTZ and first.kind == "itself" and first.rattle == first.strain == 0
    assert [one.kind for one in others] == 2 * list(KINDS)


def test_random_numbers_are_those_of_key_number_and_seed() -> None:
    few, many = list(perturbed(QUARTZ, "mp-1", 3)), list(perturbed(QUARTZ, "mp-1", 6))
    for one, other in zip(few, many, strict=False):
        assert np.array_equal(one.crystal.positions, other.crystal.positions)
    for different in (perturbed(QUARTZ, "mp-2", 3), perturbed(QUARTZ, "mp-1", 3, seed=1)):
        assert not np.allclose(list(different)[1].crystal.positions, few[1].crystal.positions)


def test_rattled_by_the_size_that_is_told() -> None:
    made = of_kind(QUARTZ, "rattled")
    ratios = [(one.crystal.positions - QUARTZ.positions).std() / one.rattle for one in made]
    assert np.mean(ratios) == pytest.approx(1, abs=0.04), "27 numbers each, 100 structures"
    sizes = np.array([one.rattle for one in made])
    assert RATTLE[0] <= sizes.min() < 0.015 and 0.2 < sizes.max() <= RATTLE[1]
    assert np.median(sizes) == pytest.approx(np.sqrt(RATTLE[0] * RATTLE[1]), rel=0.4), "even in the logarithm"
    assert all(np.array_equal(one.crystal.cell, QUARTZ.cell) for one in made)


def test_strained_symmetrically_by_the_size_that_is_told() -> None:
    made = of_kind(QUARTZ, "strained")
    for one in made:
        stretch = np.linalg.solve(QUARTZ.cell, one.crystal.cell)
        assert np.allclose(stretch, stretch.T, atol=1e-12)
        assert np.abs(np.linalg.eigvalsh(stretch) - 1).max() == pytest.approx(one.strain, abs=1e-12)
        assert np.allclose(one.crystal.positions, QUARTZ.positions @ stretch)
    assert 0.04 < max(one.strain for one in made) <= STRAIN
    volumes = [abs(np.linalg.det(one.crystal.cell)) / abs(np.linalg.det(QUARTZ.cell)) for one in made]
    assert min(volumes) < 0.97 and max(volumes) > 1.03, "compressed and expanded"


def test_swapped_by_exchange_or_within_the_group() -> None:
    made = of_kind(QUARTZ, "swapped")
    exchanged = [one for one in made if "->" not in one.swap]
    replaced = [one for one in made if "->" in one.swap]
    assert min(len(exchanged), len(replaced)) > 30
    for one in exchanged:
        assert sorted(one.crystal.numbers) == sorted(QUARTZ.numbers)
        assert (one.crystal.numbers != QUARTZ.numbers).sum() == 2
    for one in replaced:
        old, new = (Element(symbol) for symbol in one.swap.split(" -> "))
        assert old.group == new.group and old != new
        assert np.array_equal(one.crystal.numbers, np.where(QUARTZ.numbers == old.Z, new.Z, QUARTZ.numbers))
        radii = covalent_radii[one.crystal.numbers].sum() / covalent_radii[QUARTZ.numbers].sum()
        growth = np.linalg.det(one.crystal.cell) / np.linalg.det(QUARTZ.cell)
        assert growth == pytest.approx(radii**3), "a larger element has more room"
    assert {one.swap[:2].strip() for one in replaced} == {"Si", "O"}


def test_only_elements_that_are_known_come_in() -> None:
    made = of_kind(QUARTZ, "swapped", elements=frozenset({8, 14, 32}))
    assert {one.swap for one in made if "->" in one.swap} == {"Si -> Ge"}
    assert all("->" not in one.swap for one in of_kind(QUARTZ, "swapped", elements=frozenset({8, 14})))
    ice = Crystal(np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([1, 8]), 4 * np.eye(3))
    assert not any(one.swap.startswith("H ->") for one in of_kind(ice, "swapped")), "hydrogen is like none"


def test_an_element_without_a_like_is_rattled() -> None:
    lone = Crystal(np.zeros((1, 3)), np.array([26]), 2.5 * np.eye(3))
    assert [one.kind for one in perturbed(lone, "Fe", 5, elements=frozenset({26}))][4] == "rattled"


def test_a_small_cell_is_repeated_before_its_atoms_move() -> None:
    for one in perturbed(SALT, "salt", 9):
        moves = one.kind not in ("itself", "strained")
        assert len(one.crystal.numbers) == (LEAST_ATOMS if moves else 2)
    large = repeated(SALT, 9)
    as_structure = Structure(Lattice(large.cell), large.numbers, large.positions, coords_are_cartesian=True)
    assert len(large.numbers) == 16
    assert as_structure.get_primitive_structure().volume == pytest.approx(abs(np.linalg.det(SALT.cell)))
    assert min(as_structure.lattice.abc) == pytest.approx(2 * min(springs.salt().lattice.abc)), "no axis is left out"


def test_too_close() -> None:
    def pair(distance: float) -> bool:
        crystal = Crystal(np.array([[0.1, 0, 0], [0.1, 0, distance]]), np.array([14, 8]), 6 * np.eye(3))
        return too_close(crystal_graph(crystal, 4.0))

    assert pair(1.0) and not pair(1.6), "Si-O has 1.6 Å"
    assert pair(5.1), "an image counts"
