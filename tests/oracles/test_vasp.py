"""The oracle `vasp`: inputs key by key, and what is read of a vasprun.xml or refused."""

from __future__ import annotations

import gzip
import shlex
import sys
from pathlib import Path

import ase
import numpy as np
import pymatgen.core
import pytest
from cli import refused, zoo
from pydantic import ValidationError
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Incar, Kpoints, Poscar
from vasprun import vasprun, write_vasprun

from zoo.api import CalculationFailed, Candidate
from zoo.config import plugins
from zoo.errors import ZooError
from zoo.oracles.vasp import Vasp, VaspHypers

ELECTRONIC = np.array([[2.9, 0.1, 0.0], [0.1, 3.1, 0.2], [0.0, 0.2, 3.3]])
IONIC = np.array([[7.0, 0.0, 0.5], [0.0, 8.0, 0.0], [0.5, 0.0, 9.0]])


@pytest.fixture(autouse=True)
def _no_potentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's pymatgen is configured to."""
    monkeypatch.delitem(pymatgen.core.SETTINGS, "PMG_VASP_PSP_DIR", raising=False)


@pytest.fixture
def oxide() -> Structure:
    """Sr and Ti between oxygens, in a skew cell of no standard setting, oxygens first and last."""
    cell = np.array([[3.9, 0.1, 0.0], [0.05, 3.8, 0.2], [-0.1, 0.3, 4.1]])
    sites = [[0.5, 0, 0.5], [0.01, 0, 0], [0.5, 0.52, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0]]
    return Structure(Lattice(cell), ["O", "Sr", "V", "O", "O"], sites)


def ask(structure: Structure, folder: Path, **hypers: object) -> dict[str, np.ndarray] | None:
    """What the oracle says."""
    found = Vasp(VaspHypers(**hypers)).tensors(Candidate("c-1", structure), folder)  # type: ignore[arg-type]
    return None if found is None else dict(found)


def in_order(structure: Structure) -> Structure:
    """As it is in the POSCAR."""
    return structure.get_sorted_structure()


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
    "LEPSILON": (False, "tensors come of it"),
    "LDAUU": (3.0, "by element"),
    "kpar": (2, "no key of an INCAR"),
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


@pytest.mark.parametrize("compressed", [False, True])
def test_tensors_are_those_with_local_fields(oxide: Structure, tmp_path: Path, compressed: bool) -> None:
    noise = np.array([[0, 1e-4, 0], [0, 0, 0], [0, 0, 0]])
    text = vasprun(in_order(oxide), epsilon=ELECTRONIC + noise, epsilon_ion=IONIC)
    if compressed:
        (tmp_path / "vasprun.xml.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (tmp_path / "vasprun.xml").write_text(text)
    found = ask(oxide, tmp_path)
    assert found is not None
    assert set(found) == set(Vasp(VaspHypers()).targets()) == {"electronic", "ionic", "total"}
    np.testing.assert_allclose(found["electronic"], ELECTRONIC + (noise + noise.T) / 2, atol=1e-7)
    np.testing.assert_allclose(found["ionic"], IONIC, atol=1e-7)
    np.testing.assert_array_equal(found["total"], found["electronic"] + found["ionic"])
    assert all((tensor == tensor.T).all() and tensor.dtype == np.float64 for tensor in found.values())


def test_noise_of_an_ionic_part_that_is_zero_is_no_asymmetry(tmp_path: Path) -> None:
    silicon = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]).get_primitive_structure()
    noise = np.array([[0, 3e-6, 0], [-3e-6, 0, 0], [0, 0, 0]])
    write_vasprun(tmp_path / "vasprun.xml", silicon, epsilon=13.0 * np.eye(3), epsilon_ion=noise)
    found = ask(silicon, tmp_path)
    assert found is not None and not found["ionic"].any()


def test_a_real_file_of_vasp_is_read(tmp_path: Path) -> None:
    """ASE's own test data: NaCl by VASP 6.3.2 with LEPSILON, without ions."""
    real = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / "vasprun_dfpt.xml"
    if not real.is_file():
        pytest.skip("this ase has no test data")
    (tmp_path / "vasprun.xml").write_bytes(real.read_bytes())
    half = 2.72739551
    salt = Structure(Lattice([[0, half, half], [half, 0, half], [half, half, 0]]), ["Cl", "Na"], [[0.5] * 3, [0] * 3])
    found = ask(salt, tmp_path)
    assert found is not None and set(found) == {"electronic"}
    np.testing.assert_allclose(found["electronic"], 2.6958435 * np.eye(3), atol=1e-7)


def translations(structure: Structure) -> np.ndarray:
    """(3N, N, 3) orthonormal modes of which the last three are translations, as of VASP."""
    masses = np.sqrt([float(site.specie.atomic_mass) for site in structure])
    rows = [np.outer(masses, axis).ravel() for axis in np.eye(3)]
    size = 3 * len(structure)
    basis = np.linalg.qr(np.array([*rows, *np.random.default_rng(0).normal(size=(size - 3, size))]).T)[0].T
    return np.concatenate([basis[3:], basis[:3]]).reshape(size, len(structure), 3)


def test_only_optical_modes_must_be_stable(oxide: Structure, tmp_path: Path) -> None:
    crystal = in_order(oxide)
    stable = [*np.linspace(200.0, 1.0, 12), 0.1, -0.2, -0.3]  # translations that are not quite at zero
    given = {"epsilon": ELECTRONIC, "epsilon_ion": IONIC, "modes": translations(crystal)}
    write_vasprun(tmp_path / "vasprun.xml", crystal, squares=stable, **given)
    assert ask(oxide, tmp_path) is not None
    write_vasprun(tmp_path / "vasprun.xml", crystal, squares=[*stable[:11], -0.1, *stable[12:]], **given)
    with pytest.raises(CalculationFailed, match=r"imaginary optical modes at Γ \(1 of 12\)"):
        ask(oxide, tmp_path)


REFUSED = {
    "metal": ({"bands": ((-2.0, 0.5), (-1.0, 4.0))}, "metal"),
    "unconverged": ({"steps": 10}, "not converged"),
    "no dielectric tensor": ({"epsilon": None, "epsilon_ion": None}, "LEPSILON"),
    "infinite": ({"epsilon": np.full((3, 3), np.nan)}, "not finite"),
    "asymmetric": ({"epsilon": ELECTRONIC + 4 * np.eye(3, k=1)}, "not symmetric"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_believed_has_failed(oxide: Structure, tmp_path: Path, case: str) -> None:
    parts, words = REFUSED[case]
    given = {"epsilon": ELECTRONIC, "epsilon_ion": IONIC, **parts}
    write_vasprun(tmp_path / "vasprun.xml", in_order(oxide), **given)
    with pytest.raises(CalculationFailed, match=words) as failed:
        ask(oxide, tmp_path)
    assert "\n" not in str(failed.value)


def turned(structure: Structure) -> Structure:
    rotation = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    return Structure(Lattice(structure.lattice.matrix @ rotation.T), structure.species, structure.frac_coords)


def moved(structure: Structure) -> Structure:
    structure.translate_sites([1], [0.01, 0, 0])
    return structure


ANOTHER = {
    "crystal": (lambda s: s.replace_species({"V": "Ti"}), "another crystal"),
    "cell": (lambda s: s.apply_strain(0.001), "another cell"),
    "frame": (turned, "another frame"),
    "places": (moved, "V at other places"),
}


@pytest.mark.parametrize("what", ANOTHER)
def test_results_of_another_structure_are_refused(oxide: Structure, tmp_path: Path, what: str) -> None:
    change, words = ANOTHER[what]
    other = change(in_order(oxide))
    write_vasprun(tmp_path / "vasprun.xml", other, epsilon=ELECTRONIC, epsilon_ion=IONIC)
    with pytest.raises(CalculationFailed, match=words):
        ask(oxide, tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_is_being_written_is_not_there_yet(oxide: Structure, tmp_path: Path, share: float) -> None:
    text = vasprun(in_order(oxide), epsilon=ELECTRONIC, epsilon_ion=IONIC)
    (tmp_path / "vasprun.xml").write_text(text[: int(share * len(text))])
    assert ask(oxide, tmp_path) is None


def test_a_file_that_is_none_of_vasp_has_failed(oxide: Structure, tmp_path: Path) -> None:
    whole = vasprun(in_order(oxide), epsilon=ELECTRONIC)
    empty = f"{whole[: whole.index('<calculation>')]}</modeling>"
    for text in ("<modeling></modeling>", "<modeling><i></modeling>", empty):
        (tmp_path / "vasprun.xml").write_text(text)
        with pytest.raises(CalculationFailed, match=r"vasprun\.xml is no"):
            ask(oxide, tmp_path)


@pytest.fixture
def potentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as pymatgen's of VASP's potentials; what is in it is none."""
    root = tmp_path / "potentials"
    for symbol in ("Sr_sv", "V_pv", "O"):
        place = root / "POT_GGA_PAW_PBE" / symbol / "POTCAR"
        place.parent.mkdir(parents=True)
        title = f"PAW_PBE {symbol} 01Jan2000"
        place.write_text(
            f" {title}\n 1.0\n parameters from PSCTR are:\n   VRHFIN ={symbol.split('_')[0]}: s\n   LEXCH  = PE\n"
            "   ENMAX  =  200.000; ENMIN  =  150.000 eV\n"
            f"   TITEL  = {title}\n END of PSCTR-controll parameters\n local part\n  1.0 2.0 3.0\n End of Dataset\n"
        )
    monkeypatch.setitem(pymatgen.core.SETTINGS, "PMG_VASP_PSP_DIR", str(root))
    return root


def test_potentials_are_written_where_they_are_configured(oxide: Structure, tmp_path: Path, potentials: Path) -> None:
    folder = tmp_path / "c-1"
    folder.mkdir()
    ask(oxide, folder)
    titles = [line.split()[1] for line in (folder / "POTCAR").read_text().splitlines() if line.startswith(" PAW")]
    assert titles == ["Sr_sv", "V_pv", "O"]
    assert not (folder / "POTCAR.spec").exists()
    assert "missing" not in (folder / "README.txt").read_text()
    (potentials / "POT_GGA_PAW_PBE" / "V_pv" / "POTCAR").unlink()
    (folder / "POTCAR").unlink()
    assert ask(oxide, folder) is None
    assert "V_pv" in (folder / "POTCAR.spec").read_text()
    assert "V_pv" in (folder / "README.txt").read_text()
    with pytest.raises(ZooError, match=r"no POTCAR for c-1: .*V_pv"):
        ask(oxide, folder, command=sys.executable)


def fake_vasp(tmp_path: Path, oxide: Structure, ending: str) -> str:
    """A program in VASP's place, which wants VASP's inputs."""
    text = vasprun(in_order(oxide), epsilon=ELECTRONIC, epsilon_ion=IONIC)
    program = tmp_path / "fake.py"
    program.write_text(
        "import os, sys\n"
        "assert {'INCAR', 'KPOINTS', 'POSCAR', 'POTCAR'} <= set(os.listdir('.'))\n"
        "print(' running on    1 total cores', flush=True)\n"
        f"text = {text!r}\n"
        f"{ending}\n"
    )
    return f"{sys.executable} {program}"


@pytest.mark.usefixtures("potentials")
def test_vasp_is_run_and_read(oxide: Structure, tmp_path: Path) -> None:
    folder = tmp_path / "c-1"
    folder.mkdir()
    command = fake_vasp(tmp_path, oxide, "open('vasprun.xml', 'w').write(text)")
    assert Vasp(VaspHypers(command=command)).missing() is None
    (folder / "vasprun.xml").write_text("<modeling>")  # of a run that was killed
    found = ask(oxide, folder, command=command)
    assert found is not None
    np.testing.assert_allclose(found["total"], ELECTRONIC + IONIC, atol=1e-7)
    assert (folder / "vasp.log").read_text() == " running on    1 total cores\n"


ENDINGS = {
    "open('vasprun.xml', 'w').write(text[:-30])": "ended with status 0",
    "sys.exit(3)": "ended with status 3",
    "os.kill(os.getpid(), 11)": "ended with status -11",
    "import time; time.sleep(60)": "wall limit",
}


@pytest.mark.usefixtures("potentials")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_without_a_result_has_failed(oxide: Structure, tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "c-1"
    folder.mkdir()
    hours = 0.5 / 3600 if "sleep" in ending else 0.1
    with pytest.raises(CalculationFailed, match=ENDINGS[ending]):
        ask(oxide, folder, command=fake_vasp(tmp_path, oxide, ending), wall_hours=hours)


LAUNCHES = {
    "never found": ("echo 'exec: vasp_std: not found'; exit 127", r"exec: vasp_std: not found; exit status 127"),
    "no slots": ("echo 'There are not enough slots'; echo ----; exit 1", r"There are not enough slots; exit status 1"),
    "a library": (
        "echo 'vasp.6.3.0: error while loading shared libraries: libmkl.so'; exit 127",
        r"shared libraries: libmkl.so",
    ),
    "not a word": ("exit 0", "it printed nothing; exit status 0"),
    "no machine for it": ("kill -ILL $$", "does not run on this processor"),
    "memory": ("echo ' running on    4 total cores'; echo '<modeling>' > vasprun.xml; kill -KILL $$", "want of memory"),
}


@pytest.mark.usefixtures("potentials")
@pytest.mark.parametrize("case", LAUNCHES)
def test_what_is_wrong_for_every_crystal_is_no_failure_of_one(oxide: Structure, tmp_path: Path, case: str) -> None:
    program, words = LAUNCHES[case]
    folder = tmp_path / "c-1"
    folder.mkdir()
    (folder / "vasprun.xml").write_text("<modeling>")  # of an earlier run that was killed: it says nothing of this one
    with pytest.raises(ZooError, match=words) as error:
        ask(oxide, folder, command=shlex.join(["sh", "-c", program]))
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


BEGAN = {
    "VASP 5": "echo ' running on    1 total cores'",
    "VASP 6.3": "echo ' running    4 mpi-ranks, with    1 threads/rank, on    1 nodes'",
    "serial": "echo ' vasp.5.4.4.18Apr17-6-g9f103f2a35 (build Mar 10 2022 12:00:00) complex'",
    "printed elsewhere": "echo '<modeling>' > vasprun.xml",
}


@pytest.mark.usefixtures("potentials")
@pytest.mark.parametrize("case", BEGAN)
def test_a_run_that_began_and_has_no_result_has_failed(oxide: Structure, tmp_path: Path, case: str) -> None:
    folder = tmp_path / "c-1"
    folder.mkdir()
    with pytest.raises(CalculationFailed, match="ended with status 1"):
        ask(oxide, folder, command=shlex.join(["sh", "-c", f"{BEGAN[case]}; exit 1"]))


def test_how_it_is_run_may_change(oxide: Structure, tmp_path: Path) -> None:
    changes = {"command": "false", "wall_hours": 1.0}
    assert set(changes) == Vasp.may_change
    assert Vasp(VaspHypers(**changes)).incar() == Vasp(VaspHypers()).incar()  # type: ignore[arg-type]
    write_vasprun(tmp_path / "vasprun.xml", in_order(oxide), epsilon=ELECTRONIC, epsilon_ion=IONIC)
    assert ask(oxide, tmp_path, **changes) is not None


def test_what_is_missing_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Vasp(VaspHypers()).missing() is None
    assert "no-such-vasp" in str(Vasp(VaspHypers(command="no-such-vasp")).missing())
    ready = Vasp(VaspHypers(command=sys.executable))
    assert "PMG_VASP_PSP_DIR" in str(ready.missing())
    monkeypatch.setitem(pymatgen.core.SETTINGS, "PMG_VASP_PSP_DIR", str(tmp_path))
    assert str(tmp_path / "POT_GGA_PAW_PBE") in str(ready.missing())


def test_the_command_line_knows_it(tmp_path: Path) -> None:
    result = zoo("list", "vasp", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "kpoints_per_reciprocal_atom" in result.stdout
    refused(zoo("list", "wasp", cwd=tmp_path), "vasp")
