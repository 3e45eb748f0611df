import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from zoo.data.structure_files import structure_from_file
from zoo.data.structures import structure_from_dict
from zoo.errors import ZooError


@pytest.fixture
def quartz():
    """α-quartz in an orientation of its own."""
    lattice = Lattice([[4.2, 1.1, 0.9], [-2.9, 3.9, -0.3], [-0.4, -0.7, 5.4]])
    return Structure(lattice, ["Si"] * 3 + ["O"] * 6, np.random.default_rng(0).random((9, 3)))


def test_dict_round_trip(quartz):
    read = structure_from_dict(quartz.as_dict())
    np.testing.assert_array_equal(read.lattice.matrix, quartz.lattice.matrix)
    np.testing.assert_array_equal(read.frac_coords, quartz.frac_coords)
    assert read.atomic_numbers == quartz.atomic_numbers


def test_charges_are_left_aside(quartz):
    quartz.add_oxidation_state_by_element({"Si": 4, "O": -2})
    assert structure_from_dict(quartz.as_dict()).symbol_set == ("O", "Si")


def test_site_properties_import_nothing(quartz):
    """pymatgen's own reader would import the module and call the class that a site property names."""
    content = quartz.as_dict()
    content["sites"][0]["properties"] = {"x": {"@module": "antigravity", "@class": "geohash"}}
    assert len(structure_from_dict(content)) == 9


def test_vasp_file_keeps_its_frame(quartz, tmp_path):
    quartz.to(filename=str(tmp_path / "POSCAR"), fmt="poscar")
    np.testing.assert_allclose(structure_from_file(tmp_path / "POSCAR").lattice.matrix, quartz.lattice.matrix)


def test_cif_frame_is_c_along_z_and_a_in_the_xz_plane(quartz, tmp_path):
    quartz.to(filename=str(tmp_path / "quartz.cif"))
    matrix = structure_from_file(tmp_path / "quartz.cif").lattice.matrix
    assert matrix[2] == pytest.approx([0, 0, quartz.lattice.c])
    assert matrix[0, 1] == pytest.approx(0) and matrix[0, 0] > 0
    np.testing.assert_allclose(matrix @ matrix.T, quartz.lattice.matrix @ quartz.lattice.matrix.T, rtol=1e-6)


def test_cif_with_symmetry_gives_all_atoms(tmp_path):
    (tmp_path / "NaCl.cif").write_text(
        "data_NaCl\n_cell_length_a 5.64\n_cell_length_b 5.64\n_cell_length_c 5.64\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_space_group_name_H-M_alt 'F m -3 m'\n_space_group_IT_number 225\n"
        "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        "_atom_site_occupancy\nNa1 Na 0 0 0 1\nCl1 Cl 0.5 0.5 0.5 1\n"
    )
    assert structure_from_file(tmp_path / "NaCl.cif").composition.as_dict() == {"Na": 4, "Cl": 4}


CIF = "data_x\n_cell_length_a 3\n_cell_length_b 3\n_cell_length_c 3\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
WHOLE = f"""{CIF}_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na 0 0 0.25
"""


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.cif", "garbage", "data_"),
        ("a.cif", "", "data_"),
        ("a.cif", CIF, "_cell_angle_gamma"),
        ("a.cif", WHOLE.replace("_cell_length_a", "_cell_length_A"), "_cell_length_a"),
        ("a.cif", WHOLE.replace("_cell_length_a 3", "_cell_length_a 3x"), "_cell_length_a .*3x"),
        ("a.cif", WHOLE.replace("_cell_length_a 3", "_cell_length_a 0"), "_cell_length_a .*0"),
        ("a.cif", WHOLE.replace("_fract_x", "_x"), "_atom_site_fract_x"),
        ("a.cif", WHOLE.replace("0.25", "0.2S"), "_atom_site_fract_z .*0.2S"),
        ("a.cif", WHOLE.replace("0.25", ""), "_atom_site_label"),
        (
            "a.cif",
            WHOLE.replace("_z\n", "_z\n_atom_site_occupancy\n").replace("0.25", "0.25 l"),
            "_atom_site_occupancy",
        ),
        ("a.cif", WHOLE + "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,y,w\n", "-x,y,w"),
        ("POSCAR", "one line", "cannot be read"),
        ("a.json", "{}", "no JSON of one crystal"),
        ("a.txt", "words", "neither a CIF"),
    ],
)
def test_broken_files_are_refused_in_one_line(name, text, line, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ZooError, match=line) as caught:
        structure_from_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_cif_that_is_broken_in_these_ways_can_be_read(tmp_path):
    (tmp_path / "a.cif").write_text(WHOLE)
    assert structure_from_file(tmp_path / "a.cif").formula == "Na1"


def test_missing_file(tmp_path):
    with pytest.raises(ZooError, match="no such file"):
        structure_from_file(tmp_path / "none.cif")


def test_partial_occupancy_is_refused(quartz, tmp_path):
    quartz[0] = {"Si": 0.5, "Ge": 0.5}
    quartz.to(filename=str(tmp_path / "mixed.cif"))
    with pytest.raises(ZooError, match="partly occupied"):
        structure_from_file(tmp_path / "mixed.cif")
    with pytest.raises(ZooError, match="partly occupied"):
        structure_from_dict(quartz.as_dict())


def test_two_crystals_in_one_cif_are_refused(quartz, tmp_path):
    quartz.to(filename=str(tmp_path / "a.cif"))
    text = (tmp_path / "a.cif").read_text()
    (tmp_path / "two.cif").write_text(text + text.replace("data_", "data_second_"))
    with pytest.raises(ZooError, match="holds 2 crystals"):
        structure_from_file(tmp_path / "two.cif")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda c: c.pop("lattice"), "a molecule, without a cell"),
        (lambda c: c.pop("sites"), "no dict"),
        (lambda c: c.update(lattice=3), "no dict"),
        (lambda c: c.update(sites=[]), "3×3 lattice"),
        (lambda c: c["lattice"].update(matrix=[[1, 0, 0], [0, 1, 0]]), "3×3 lattice"),
        (lambda c: c["lattice"].update(matrix=[[1, 0, 0], [0, 1, 0], [1, 1, 0]]), "span no volume"),
        (lambda c: c["lattice"].update(pbc=[True, True, False]), "not periodic"),
        (lambda c: c["sites"][0].update(abc=[0, 0, float("nan")]), "NaN"),
        (lambda c: c["sites"][0].update(species=[{"element": "Xx", "occu": 1}]), "'Xx'"),
    ],
)
def test_broken_dicts_are_refused(change, line, quartz):
    content = quartz.as_dict()
    change(content)
    with pytest.raises(ZooError, match=line):
        structure_from_dict(content)
