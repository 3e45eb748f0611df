"""Reading of tensors from a vasprun.xml by the oracle `vasp`, and the files that it refuses."""

from __future__ import annotations

import gzip
from pathlib import Path

import ase
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from vasp_calls import ELECTRONIC, IONIC, ask, in_order
from vasprun import vasprun, write_vasprun

from zoo.api import CalculationFailed
from zoo.oracles.vasp import Vasp, VaspHypers

pytestmark = pytest.mark.usefixtures("no_potentials")


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
    with pytest.raises(CalculationFailed, match=r"imaginary .*1 of 12"):
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
    "places": (moved, "V .*places"),
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
