import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from zoo.config.dataset_settings import FrameCheck
from zoo.contract.plugin import Record
from zoo.contract.target import TensorTarget
from zoo.data.frame import offenders, residual, summarise, violation, zero_proves
from zoo.data.petousis2017 import Petousis2017
from zoo.data.symmetry import CRYSTAL_SYSTEMS, crystal_system, space_group, symmetry
from zoo.graphs.crystal import Crystal
from zoo.graphs.space_group import SpaceGroup

TOTAL = TensorTarget(name="total", quantity="total dielectric")
SYMPREC = 0.01


def crystal(number, lattice):
    """Three general positions: exactly this space group, whose axes are those of the lattice."""
    sites = [[0.13, 0.21, 0.34], [0.41, 0.07, 0.19], [0.29, 0.38, 0.05]]
    return Structure.from_spacegroup(number, lattice, ["Si", "O", "Al"], sites)


# One crystal a system; the principal axis along z, in monoclinic ones along y (b).
CRYSTALS = {
    "triclinic": crystal(2, Lattice.from_parameters(6, 7, 8, 80, 95, 103)),
    "monoclinic": crystal(10, Lattice.monoclinic(7, 6, 8, 102)),
    "orthorhombic": crystal(47, Lattice.orthorhombic(6, 7, 9)),
    "tetragonal": crystal(75, Lattice.tetragonal(7, 9)),
    "trigonal": crystal(147, Lattice.hexagonal(8, 9)),
    "hexagonal": crystal(168, Lattice.hexagonal(8, 9)),
    "cubic": crystal(195, Lattice.cubic(8)),
}
seeds = st.integers(0, 2**32 - 1)


def rotation(seed):
    return Rotation.random(rng=np.random.default_rng(seed)).as_matrix()


def turned(structure, matrix):
    return Structure(Lattice(structure.lattice.matrix @ matrix.T), structure.species, structure.frac_coords)


def rotated(tensor, matrix):
    for _ in range(tensor.ndim):
        tensor = np.einsum("ij,...j->i...", matrix, tensor)
    return tensor


def invariant(structure, seed, rank=2):
    """A random tensor that the crystal allows: the mean over its point group."""
    tensor = np.random.default_rng(seed).normal(size=(3,) * rank)
    if rank == 2:
        tensor = tensor + tensor.T
    return np.mean([rotated(tensor, r) for r in symmetry(structure, SYMPREC).rotations], axis=0)


def measured(structure, tensor):
    return violation(Record("a", structure, {"total": tensor}), TOTAL, SYMPREC)


@pytest.mark.parametrize("system", CRYSTAL_SYSTEMS)
def test_operations_are_those_of_the_crystal_in_its_own_frame(system):
    """Each maps lattice and atoms onto themselves (up to a translation), in any orientation and handedness."""
    structure = CRYSTALS[system]
    turn = rotation(1)
    swapped = Lattice(structure.lattice.matrix[[1, 0, 2]])  # left-handed
    left = Structure(swapped, structure.species, structure.frac_coords[:, [1, 0, 2]])
    assert np.linalg.det(left.lattice.matrix) < 0
    for s in (turned(structure, turn), turned(left, turn)):
        found = symmetry(s, SYMPREC)
        assert crystal_system(found.number) == system
        squares = found.rotations @ found.rotations.transpose(0, 2, 1)
        np.testing.assert_allclose(squares, np.broadcast_to(np.eye(3), squares.shape), atol=1e-10)
        inverse = np.linalg.inv(s.lattice.matrix)
        frac = s.frac_coords[[i for i, site in enumerate(s) if site.specie.symbol == "Si"]]
        for r in found.rotations:
            integer = s.lattice.matrix @ r.T @ inverse
            np.testing.assert_allclose(integer, np.round(integer), atol=1e-6)
            moved = frac @ integer
            # All these groups are symmorphic: no translation comes with the operation.
            assert all(min(np.linalg.norm((m - f) - np.round(m - f)) for f in frac) < 1e-6 for m in moved)


@pytest.mark.parametrize("system", CRYSTAL_SYSTEMS)
@settings(deadline=None, max_examples=10)
@given(seed=seeds)
def test_zero_in_the_right_frame(system, seed):
    turn = rotation(seed)
    tensor = rotated(invariant(CRYSTALS[system], seed), turn)
    found = measured(turned(CRYSTALS[system], turn), tensor)
    assert found.residual < 1e-9
    assert found.crystal_system == system


@pytest.mark.parametrize("system", ["tetragonal", "trigonal", "hexagonal"])
@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_uniaxial_residual_grows_with_the_error(system, seed):
    """Zero proves the orientation: a wrong tensor, whatever the rotation, has a residual of half its error at least."""
    tensor = invariant(CRYSTALS[system], 0)
    wrong = rotated(tensor, rotation(seed))
    error = np.linalg.norm(wrong - tensor) / np.linalg.norm(tensor)
    assert measured(CRYSTALS[system], wrong).residual >= 0.5 * error
    about_c = Rotation.from_euler("z", seed % 360, degrees=True).as_matrix()
    np.testing.assert_allclose(rotated(tensor, about_c), tensor, atol=1e-9)


def test_what_goes_unseen():
    """Tensors turned against their crystals without a residual, as `zero_proves` says."""
    unseen = {
        "triclinic": rotation(5),
        "monoclinic": Rotation.from_euler("y", 40, degrees=True).as_matrix(),
        "orthorhombic": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    }
    for system, matrix in unseen.items():
        tensor = invariant(CRYSTALS[system], 3)
        wrong = rotated(tensor, matrix)
        assert np.linalg.norm(wrong - tensor) > 0.1 * np.linalg.norm(tensor), system
        assert measured(CRYSTALS[system], wrong).residual < 1e-9, system
    cubic = invariant(CRYSTALS["cubic"], 3)
    np.testing.assert_allclose(rotated(cubic, rotation(5)), cubic, atol=1e-9)
    # A swap of b with another principal axis.
    tensor = np.diag([1.0, 2.0, 3.0])
    assert measured(CRYSTALS["monoclinic"], tensor[[1, 0, 2]][:, [1, 0, 2]]).residual < 1e-9


def test_what_is_seen():
    for system in ("monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal"):
        wrong = rotated(invariant(CRYSTALS[system], 3), Rotation.from_rotvec([0.5, 0.3, 0.4]).as_matrix())
        assert measured(CRYSTALS[system], wrong).residual > 0.05, system
    assert measured(CRYSTALS["cubic"], np.diag([3.0, 2.0, 2.0])).residual > 0.05


def test_value_of_the_residual():
    """diag(1, 2, 2) under a quarter turn about z becomes diag(2, 1, 2): sqrt(2) of 3."""
    quarter = Rotation.from_euler("z", 90, degrees=True).as_matrix()[None]
    assert residual(np.diag([1.0, 2.0, 2.0]), quarter) == pytest.approx(2**0.5 / 3)


def test_any_rank():
    inversion = -np.eye(3)[None]
    piezo = np.random.default_rng(0).normal(size=(3, 3, 3))
    assert residual(piezo, inversion) == pytest.approx(2)  # none in a centrosymmetric crystal
    for rank in (1, 2, 3, 4):
        turn = rotation(rank)
        operations = symmetry(turned(CRYSTALS["tetragonal"], turn), SYMPREC).rotations
        tensor = rotated(invariant(CRYSTALS["tetragonal"], rank, rank), turn)
        assert residual(tensor, operations) < 1e-9
        if rank > 1:
            assert residual(rotated(tensor, rotation(9)), operations) > 0.05
    # Not symmetric: the order of the indices must come back.
    tensor = np.random.default_rng(0).normal(size=(3, 3, 3))
    turn = rotation(7)
    expected = np.linalg.norm(np.einsum("ia,jb,kc,abc->ijk", turn, turn, turn, tensor) - tensor)
    assert residual(tensor, turn[None]) == pytest.approx(expected / np.linalg.norm(tensor))


def test_undefined_where_the_tensor_is_noise_or_there_is_no_symmetry():
    tensor = invariant(CRYSTALS["tetragonal"], 0)
    ionic = TensorTarget(name="ionic")
    noise = np.diag([1.0, 2.0, 3.0]) * 1e-4
    record = Record("a", CRYSTALS["tetragonal"], {"total": tensor, "ionic": noise})
    assert violation(record, ionic, SYMPREC).residual is None
    assert violation(record, TOTAL, SYMPREC).residual < 1e-9
    assert measured(CRYSTALS["cubic"], np.zeros((3, 3))).residual is None
    twins = Structure(Lattice.cubic(4), ["Na", "Na"], [[0, 0, 0], [0, 0, 0]])
    assert symmetry(twins) is None and space_group(twins) is None
    assert measured(twins, np.eye(3)).residual is None
    check = FrameCheck()
    found = offenders([record, Record("b", twins, {"ionic": np.diag([1.0, 2, 3])})], ionic, check)
    assert [(m.key, m.residual) for m in found] == [("a", None), ("b", None)]


def test_offenders_are_those_of_the_full_measurement():
    """Nearly isotropic tensors skip the symmetry search; the outcome must not change."""
    records = list(Petousis2017(Petousis2017.Hypers()).records())[::8]
    check = FrameCheck(tolerance=0.01)
    every = [violation(record, TOTAL, check.symprec) for record in records]
    assert offenders(records, TOTAL, check) == [m for m in every if m.residual > check.tolerance] != []


def test_a_reoriented_structure_is_found():
    """As tables hold them: the structure in a standard setting, the tensor in the frame of the calculation."""
    caught = total = 0
    for record in list(Petousis2017(Petousis2017.Hypers()).records())[::6]:
        tensor = record.targets["total"]
        found = violation(record, TOTAL, SYMPREC)
        anisotropic = np.linalg.norm(tensor - np.trace(tensor) / 3 * np.eye(3)) > 0.2 * np.linalg.norm(tensor)
        if found.crystal_system in ("tetragonal", "trigonal", "hexagonal") and anisotropic:
            turn = Rotation.from_rotvec([0.9, 0.5, 0.2]).as_matrix()
            wrong = Record(record.key, turned(record.structure, turn), record.targets)
            total += 1
            caught += len(offenders([wrong], TOTAL, FrameCheck()))
            assert offenders([record], TOTAL, FrameCheck()) == [] or found.residual > 0.05
    assert total > 10
    assert caught == total


def test_petousis_is_in_its_frame():
    """Measured: half the residuals of the electronic tensors are below 1e-6, none above 5 %."""
    electronic = TensorTarget(name="electronic")
    records = list(Petousis2017(Petousis2017.Hypers()).records())[::5]
    summary = summarise([violation(record, electronic, SYMPREC) for record in records], 0.05)[-1]
    assert (summary.crystal_system, summary.count, summary.over) == ("all", 212, 0)
    assert summary.median < 1e-6


def test_summary():
    tensor = np.diag([1.0, 2.0, 3.0])
    violations = [
        measured(CRYSTALS[s], t) for s, t in [("orthorhombic", tensor), ("cubic", tensor), ("cubic", 0 * tensor)]
    ]
    ortho, cubic, every = summarise(violations, 0.05)
    assert (ortho.crystal_system, ortho.count, ortho.over, ortho.undefined) == ("orthorhombic", 1, 0, 0)
    assert (cubic.count, cubic.over, cubic.undefined) == (2, 1, 1)
    assert cubic.median == cubic.largest == violations[1].residual
    assert (every.count, every.over) == (3, 1)
    (nothing,) = summarise([violations[2]], 0.05)[:1]
    assert nothing.median is None and nothing.largest is None


def test_words_for_each_system():
    elastic = TensorTarget(name="elastic", formula="ijkl=jikl=klij")
    for system in CRYSTAL_SYSTEMS:
        assert zero_proves(TOTAL, system)
        assert ("nothing" in zero_proves(elastic, system)) == (system == "triclinic")
    assert "nothing" in zero_proves(TOTAL, "triclinic")
    assert "rotation about b" in zero_proves(TOTAL, "monoclinic")
    assert "axis swaps" in zero_proves(TOTAL, "orthorhombic")


def charges_of(structure, seed):
    """Random tensors of atoms that the crystal allows: the mean over its space group."""
    tensors = np.random.default_rng(seed).normal(size=(len(structure), 3, 3))
    group = SpaceGroup.of(Crystal.of(structure), SYMPREC)
    mean = np.zeros_like(tensors)
    for r, moves in zip(group.rotations, group.moves, strict=True):
        mean[moves] += np.array([rotated(tensor, r) for tensor in tensors])
    return mean / len(group.rotations)


@pytest.mark.parametrize("system", CRYSTAL_SYSTEMS)
def test_tensors_of_atoms_follow_the_space_group(system):
    """They are zero in the right frame, atoms without a label included, and not where atoms or axes are swapped."""
    born = TensorTarget(name="born", formula="ij", per_atom=True)
    turn = rotation(3)
    crystal = turned(CRYSTALS[system], turn)
    tensors = np.array([rotated(tensor, turn) for tensor in charges_of(CRYSTALS[system], 5)])

    def residual_of(values):
        return violation(Record("a", crystal, {"born": values}), born, SYMPREC).residual

    assert residual_of(tensors) < 1e-9
    partly = tensors.copy()
    partly[0] = np.nan
    assert residual_of(partly) < 1e-9
    assert residual_of(tensors.transpose(0, 2, 1)) < 1e-9, "the convention of the indices cannot be told"
    assert residual_of(np.roll(tensors, 1, axis=0)) > 0.05
    other = np.array([rotated(tensor, rotation(4)) for tensor in tensors])
    assert (residual_of(other) > 0.05) == (system != "triclinic"), "inversion and identity turn nothing"
    assert residual_of(0 * tensors) is None
    record = Record("a", crystal, {"born": np.roll(tensors, 1, axis=0)})
    assert [m.key for m in offenders([record], born, FrameCheck())] == ["a"]


@pytest.mark.parametrize(
    ("number", "system"),
    [(1, "triclinic"), (2, "triclinic"), (3, "monoclinic"), (15, "monoclinic"), (16, "orthorhombic"),
     (74, "orthorhombic"), (75, "tetragonal"), (142, "tetragonal"), (143, "trigonal"), (167, "trigonal"),
     (168, "hexagonal"), (194, "hexagonal"), (195, "cubic"), (230, "cubic")],
)  # fmt: skip
def test_crystal_system_of_a_number(number, system):
    assert crystal_system(number) == system


def test_the_record_s_own_space_group_comes_first():
    cubic = CRYSTALS["cubic"]
    assert crystal_system(cubic) == crystal_system(Record("a", cubic, {})) == "cubic"
    assert crystal_system(Record("a", cubic, {}, {"space_group": 139})) == "tetragonal"
    assert crystal_system(Record("a", cubic, {}, {"space_group": "P23"})) == "cubic"


def test_space_groups_are_those_of_the_table():
    records = list(Petousis2017(Petousis2017.Hypers()).records())[::7]
    assert all(symmetry(record.structure).number == record.properties["space_group"] for record in records)
