"""The oracle `vasp`: its inputs, key by key, and what the user may put there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Incar, Kpoints, Poscar
from vasp_calls import ELECTRONIC, IONIC, ask, in_order
from vasprun import write_vasprun

from zoo.api import CalculationFailed
from zoo.config import plugins
from zoo.errors import ZooError
from zoo.oracles.vasp import VaspHypers

pytestmark = pytest.mark.usefixtures("no_potentials")


def test_inputs_are_the_papers(oxide: Structure, tmp_path: Path) -> None:
    before = oxide.copy()
    assert ask(oxide, tmp_path) is None
    assert oxide == before
    incar = Incar.from_file(tmp_path / "INCAR")
    expected = {
        "ENCUT": 600, "PREC": "Accurate", "EDIFF": 1e-7, "ISMEAR": 0, "SIGMA": 0.05, "LEPSILON": True, "IBRION": 8,
        "NSW": 1, "LREAL": False, "LASPH": True, "ISPIN": 2, "LDAU": True, "LDAUTYPE": 2, "LDAUU": [0, 3.25, 0],
        "LDAUL": [0, 2, 0], "LDAUJ": [0, 0, 0], "MAGMOM": [0.6, 5.0, 0.6, 0.6, 0.6], "LMAXMIX": 4, "LWAVE": False,
    }  # fmt: skip
    assert {key: incar.get(key) for key in expected} == expected
    assert not {"NPAR", "NCORE", "KPAR", "KSPACING"} & set(incar)
    kpoints = Kpoints.from_file(tmp_path / "KPOINTS")
    assert 0.7 * 3000 < np.prod(kpoints.kpts[0]) * len(oxide) <= 1.1 * 3000
    assert (tmp_path / "POTCAR.spec").read_text().split() == ["Sr_sv", "V_pv", "O"]
    readme = (tmp_path / "README.txt").read_text()
    for words in ("missing: POTCAR", "licence", "PMG_VASP_PSP_DIR", "--symbols Sr_sv V_pv O --functional PBE"):
        assert words in readme
    assert not (tmp_path / "POTCAR").exists()


def test_u_is_for_oxides_and_fluorides_alone(oxide: Structure, tmp_path: Path) -> None:
    oxide.replace_species({"O": "S"})
    ask(oxide, tmp_path)
    assert not any(key.startswith("LDAU") for key in Incar.from_file(tmp_path / "INCAR"))


def test_settings_reach_the_inputs(oxide: Structure, tmp_path: Path) -> None:
    more = {"KPAR": 4, "LDAU": False, "ALGO": "Normal"}
    ask(oxide, tmp_path, encut=700, sigma=0.01, ediff=1e-8, kpoints_per_reciprocal_atom=100, user_incar=more)
    incar = Incar.from_file(tmp_path / "INCAR")
    found = {key: incar.get(key) for key in ("ENCUT", "SIGMA", "EDIFF", *more)}
    assert found == {"ENCUT": 700, "SIGMA": 0.01, "EDIFF": 1e-8, "KPAR": 4, "LDAU": False, "ALGO": "Normal"}
    assert "LDAUU" not in incar
    assert np.prod(Kpoints.from_file(tmp_path / "KPOINTS").kpts[0]) * len(oxide) <= 110


BAD = {
    "ENCUT": (500, "say encut"),
    "LEPSILON": (False, "tensors"),
    "LDAUU": (3.0, "by element"),
    "kpar": (2, "key of an INCAR"),
    "ALGO": ("Normal\nLEPSILON = F", "in one line"),
    "SYSTEM": ("a; IBRION = 5", "in one line"),
    "LVEL": ([1, 2], "in one line"),
}


@pytest.mark.parametrize("key", BAD)
def test_what_is_no_plain_key_of_an_incar_is_refused(key: str) -> None:
    value, words = BAD[key]
    with pytest.raises(ZooError, match=words):
        plugins.hypers("oracle", "vasp", {"user_incar": {key: value}})
    with pytest.raises(ValidationError):
        VaspHypers(user_incar={key: value})  # type: ignore[dict-item]


@pytest.mark.parametrize("handedness", [1, -1])
def test_the_frame_is_kept(oxide: Structure, tmp_path: Path, handedness: int) -> None:
    """A left-handed lattice is inverted, which no tensor of rank 2 notices."""
    crystal = Structure(Lattice(oxide.lattice.matrix[:: int(handedness)]), oxide.species, oxide.frac_coords)
    assert np.sign(np.linalg.det(crystal.lattice.matrix)) == handedness
    ask(crystal, tmp_path)
    written = Poscar.from_file(tmp_path / "POSCAR", check_for_potcar=False).structure
    np.testing.assert_allclose(written.lattice.matrix, handedness * crystal.lattice.matrix, atol=1e-10)
    np.testing.assert_allclose(written.frac_coords, in_order(crystal).frac_coords, atol=1e-10)
    write_vasprun(tmp_path / "vasprun.xml", written, epsilon=ELECTRONIC, epsilon_ion=IONIC)
    found = ask(crystal, tmp_path)
    assert found is not None
    np.testing.assert_allclose(found["total"], ELECTRONIC + IONIC, atol=1e-7)


def test_oxidation_states_and_constraints_change_nothing(oxide: Structure, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "decorated").mkdir()
    ask(oxide, tmp_path / "plain")
    decorated = oxide.copy()
    decorated.add_oxidation_state_by_element({"Sr": 2, "V": 4, "O": -2})
    decorated.add_site_property("selective_dynamics", [[False] * 3] * len(oxide))
    decorated.add_site_property("magmom", [3.0] * len(oxide))
    ask(decorated, tmp_path / "decorated")
    for name in ("INCAR", "POSCAR", "KPOINTS", "POTCAR.spec"):
        assert (tmp_path / "decorated" / name).read_text() == (tmp_path / "plain" / name).read_text()


def test_what_vasp_cannot_take_has_failed(oxide: Structure, tmp_path: Path) -> None:
    oxide[0] = {"O": 0.5, "F": 0.5}
    with pytest.raises(CalculationFailed, match="partly occupied"):
        ask(oxide, tmp_path)
    with pytest.raises(CalculationFailed, match=r"no potential .*Po"):
        ask(Structure(Lattice.cubic(3.4), ["Po"], [[0, 0, 0]]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_the_user_has_put_there_stays(oxide: Structure, tmp_path: Path) -> None:
    ask(oxide, tmp_path)
    (tmp_path / "INCAR").write_text("ENCUT = 650\n")
    assert ask(oxide, tmp_path) is None
    assert (tmp_path / "INCAR").read_text() == "ENCUT = 650\n"
    for path in tmp_path.iterdir():
        path.unlink()
    write_vasprun(tmp_path / "vasprun.xml", in_order(oxide), epsilon=ELECTRONIC, epsilon_ion=IONIC)
    assert ask(oxide, tmp_path) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["vasprun.xml"]
