"""The prototypes of the conformance suite are what they claim to be: else its checks of symmetry prove nothing."""

from __future__ import annotations

import numpy as np
import pytest
import spglib

from zoo.graphs.graph import crystal_graph
from zoo.testing import Prototype, prototypes
from zoo.testing.prototypes import SYSTEMS

ALL = list(prototypes().values())
SYSTEM_OF = {1: "triclinic", 3: "monoclinic", 16: "orthorhombic", 75: "tetragonal", 143: "trigonal", 168: "hexagonal"}


def test_all_32_classes_in_all_7_systems() -> None:
    assert len(ALL) == 32
    assert {p.system for p in ALL} == set(SYSTEMS)


@pytest.mark.parametrize("prototype", ALL, ids=lambda p: p.point_group)
def test_class_is_as_claimed_and_exact(prototype: Prototype) -> None:
    s = prototype.structure
    # At this tolerance spglib still sees all symmetry only where the coordinates are exact.
    found = spglib.get_symmetry_dataset((s.lattice.matrix, s.frac_coords, s.atomic_numbers), symprec=1e-9)
    assert found.pointgroup == prototype.point_group
    first = max([*SYSTEM_OF, 195], key=lambda n: n if n <= found.number else 0)
    assert SYSTEM_OF.get(first, "cubic") == prototype.system
    assert len(s) == len(spglib.find_primitive((s.lattice.matrix, s.frac_coords, s.atomic_numbers))[2])
    graph = crystal_graph(s, 3.0)
    vectors = graph.positions[graph.src] - graph.positions[graph.dst] + graph.shift @ graph.cell
    assert 1.5 < np.linalg.norm(vectors, axis=1).min() < 2.6  # Å: real bonds, no overlap


@pytest.mark.parametrize("prototype", ALL, ids=lambda p: p.point_group)
def test_operations_map_the_crystal_onto_itself(prototype: Prototype) -> None:
    """Orthogonal, a group, and each with some translation carries every atom to one of its element."""
    s, operations = prototype.structure, prototype.rotations
    assert np.abs(operations @ operations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-12
    products = np.einsum("aij,bjk->abik", operations, operations).reshape(-1, 9)
    assert np.abs(products[:, None] - operations.reshape(-1, 9)).max(-1).min(-1).max() < 1e-12
    inverse = np.linalg.inv(s.lattice.matrix)
    numbers = np.array(s.atomic_numbers)
    for R in operations:
        turned = s.cart_coords @ R.T @ inverse
        maps = []
        for shift in s.frac_coords - turned[0]:
            between = (turned + shift)[:, None] - s.frac_coords
            near = np.abs(between - np.round(between)).max(-1) < 1e-10
            maps.append((near & (numbers[:, None] == numbers)).any(axis=1).all())
        assert any(maps)


def test_axes_are_the_usual_ones() -> None:
    """Principal axis along z, monoclinic axis along y, orthorhombic axes along x, y, z."""
    axis = {"monoclinic": 1, "tetragonal": 2, "trigonal": 2, "hexagonal": 2}
    for prototype in ALL:
        if prototype.system in axis:
            images = prototype.rotations[:, :, axis[prototype.system]]
            assert np.abs(np.abs(images[:, axis[prototype.system]]) - 1).max() < 1e-12, prototype.point_group
        if prototype.system == "orthorhombic":
            assert np.abs(np.abs(prototype.rotations) - np.eye(3)).max() < 1e-12
