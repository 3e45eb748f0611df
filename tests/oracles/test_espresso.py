"""The oracle of Quantum ESPRESSO: results, refusals, restarts; a real calculation where the programs are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from ase import units
from played import DYNMAT, ERROR, MGO, PH, RELAX, SCF, Played, potential, turned
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation
from waiting import content, leap, until, written

from zoo.api import CalculationFailed, Candidate
from zoo.data.frame import residual
from zoo.data.petousis2017 import Petousis2017
from zoo.data.symmetry import symmetry
from zoo.errors import ZooError
from zoo.oracles import espresso_inputs as inputs
from zoo.oracles import espresso_results as results
from zoo.oracles import external
from zoo.oracles.espresso import Espresso
from zoo.oracles.espresso_calculation import largest_move
from zoo.oracles.espresso_frame import Oriented
from zoo.oracles.espresso_hypers import EspressoHypers

pytestmark = pytest.mark.extended


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path)


def test_from_crystal_to_tensors(played: Played) -> None:
    tensors = played.ask()
    assert list(tensors) == list(played.oracle().targets()) == ["electronic", "ionic", "total"]
    assert np.allclose(tensors["electronic"], 3.405432 * np.eye(3), atol=1e-6)
    assert np.allclose(tensors["ionic"], 14.232899 * np.eye(3), atol=1e-6)
    assert np.allclose(tensors["total"], 17.638331 * np.eye(3), atol=1e-6)
    assert played.calls() == ["relax 0", "scf 0", "ph 0", "dynmat 0"]
    assert "2.1300000000" in (played.folder / "scf.in").read_text()  # where the relaxation has left the oxygen
    assert not (played.folder / "scratch").exists()
    report = json.loads((played.folder / "report.json").read_text())
    assert report["candidate"] == "mine"
    assert report["band_gap_on_mesh_ev"] == pytest.approx(4.7812)
    assert report["largest_force_ev_per_angstrom"] == pytest.approx(0.012855, rel=1e-3)
    assert report["largest_move_in_relaxation_angstrom"] == pytest.approx(0.005)
    assert report["largest_sum_of_born_charges"] == pytest.approx(0.161377381)
    assert report["versions"] == {"pw.x": "6.7MaX", "ph.x": "6.7MaX"}
    assert report["pseudopotentials"]["O"]["electrons"] == 6
    assert list(report["seconds"]) == ["relax", "scf", "ph", "dynmat"]
    again = played.ask()
    assert played.calls() == []
    assert all((again[name] == tensors[name]).all() for name in tensors)


def test_electronic_alone_as_it_lies(played: Played) -> None:
    tensors = played.ask(ionic=False, relax=False)
    assert list(tensors) == list(played.oracle(ionic=False).targets()) == ["electronic"]
    assert played.calls() == ["scf 0", "ph 0"]


def test_another_input_is_another_calculation(played: Played) -> None:
    played.ask()
    played.calls()
    played.ask(threads=2, wall_hours=1.0)
    assert played.calls() == []
    played.ask(tr2_ph=1e-15)
    assert played.calls() == ["scf 0", "ph 0", "dynmat 0"]  # the wavefunctions were gone, the relaxed ions were not
    played.ask(tr2_ph=1e-15, ecutwfc=30.0)
    assert played.calls() == ["relax 0", "scf 0", "ph 0", "dynmat 0"]
    potential(Path(played.hypers["pseudopotentials"]), "Mg.upf", 2)
    played.ask(tr2_ph=1e-15, ecutwfc=30.0)
    assert played.calls() == ["relax 0", "scf 0", "ph 0", "dynmat 0"]
    played.ask(MGO.copy().scale_lattice(80.0), tr2_ph=1e-15, ecutwfc=30.0, largest_move=2.0)
    assert played.calls() == ["relax 0", "scf 0", "ph 0", "dynmat 0"]


def test_noise_in_the_last_digits_makes_no_other_calculation(played: Played) -> None:
    played.ask()
    played.calls()
    noise = np.random.default_rng(0).normal(scale=1e-14, size=(3, 3))
    played.ask(Structure(Lattice(MGO.lattice.matrix + noise), MGO.species, MGO.frac_coords + noise[:2]))
    assert played.calls() == []


def test_how_it_is_run_may_change(played: Played, tmp_path: Path) -> None:
    played.ask()
    played.calls()
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(played.place, elsewhere)
    changes = {name: f"sh {elsewhere / name}.x" for name in ("pw", "ph", "dynmat")} | {"threads": 2, "wall_hours": 1.0}
    assert set(changes) == Espresso.may_change
    for files in ([], ["report.json"]):  # finished, and killed before that was written down
        for name in files:
            (played.folder / name).unlink()
        played.ask(**changes)
        assert played.calls() == []


def test_how_far_atoms_have_moved() -> None:
    cell = Lattice.from_parameters(3, 3.5, 9, 70, 50, 65)
    before = Structure(cell, ["Mg", "O", "O"], [[0.98, 0.1, 0.1], [0.02, 0.5, 0.9], [0.4, 0.99, 0.5]])
    moves = np.array([[0.1, -0.2, 0.1], [0.2, 0.1, -0.1], [-0.3, 0.1, 0.0]])  # their mean is zero
    for drift in ([0, 0, 0], [0.4, 1.0, -0.7], [2.0, 2.0, 2.0]):
        for images in ([0, 0, 0], [1, 0, -1]):
            after = before.frac_coords + np.multiply.outer(images, [1, -1, 2])
            after = cell.get_cartesian_coords(after) + moves + drift
            moved = Structure(cell, before.species, after, coords_are_cartesian=True)
            assert largest_move(before, moved) == pytest.approx(np.sqrt(0.1), abs=1e-9)
    assert largest_move(before, before) == 0


def test_a_crystal_that_relaxes_into_another_is_refused_before_more_is_run(played: Played) -> None:
    played.prints("relax", RELAX.replace("2.1300000000", "3.1600000000"))
    with pytest.raises(CalculationFailed) as failure:
        played.ask()
    assert "0.52 Å" in str(failure.value) and "largest_move (0.3 Å)" in str(failure.value)
    assert played.calls() == ["relax 0"]
    played.ask(largest_move=0.6)
    assert played.calls() == ["scf 0", "ph 0", "dynmat 0"]
    with pytest.raises(CalculationFailed, match="another structure"):  # a finished one too
        played.ask(largest_move=0.5)
    assert played.calls() == []


def kill_in(played: Played, stage: str) -> None:
    """Let another process begin the calculation, and kill it while a stage runs; the program lives on."""
    played.says(f"{stage}.hangs")
    code = textwrap.dedent(f"""\
        import pathlib
        from pymatgen.core import Structure
        from zoo.api import Candidate
        from zoo.oracles.espresso import Espresso
        from zoo.oracles.espresso_hypers import EspressoHypers
        structure = Structure.from_dict({MGO.as_dict()!r})
        oracle = Espresso(EspressoHypers(**{played.hypers!r}))
        oracle.tensors(Candidate("mine", structure), pathlib.Path({str(played.folder)!r}))
        """)
    ours = subprocess.Popen([sys.executable, "-c", code])
    pid = int(written(played.place / "pid"))
    until(lambda: content(played.folder / external.LOCK).split()[:1] == [str(pid)])  # it is known by then
    ours.send_signal(signal.SIGKILL)
    ours.wait()
    assert Path(f"/proc/{pid}").exists()
    (played.place / "pid").unlink()
    (played.place / f"{stage}.hangs").unlink()


def test_killed_in_the_response(played: Played) -> None:
    kill_in(played, "ph")
    assert played.calls() == ["relax 0", "scf 0", "ph 0"]
    assert np.allclose(played.ask()["total"], 17.638331 * np.eye(3), atol=1e-6)
    assert played.calls() == ["ph 1", "dynmat 0"]  # it went on


def test_killed_in_the_ground_state(played: Played) -> None:
    kill_in(played, "scf")
    assert played.calls() == ["relax 0", "scf 0"]
    played.ask()
    assert played.calls() == ["scf 0", "ph 0", "dynmat 0"]


def test_a_response_that_cannot_go_on_begins_anew(played: Played) -> None:
    kill_in(played, "ph")
    played.calls()
    played.says("ph.fails_to_recover")
    played.ask()
    assert played.calls() == ["ph 1", "ph 0", "dynmat 0"]


def test_what_was_begun_for_another_input_does_not_go_on(played: Played) -> None:
    kill_in(played, "ph")
    played.calls()
    played.ask(tr2_ph=1e-15)
    assert played.calls() == ["ph 0", "dynmat 0"]


def test_an_output_that_was_cut_off_is_made_again(played: Played) -> None:
    played.ask()
    played.calls()
    (played.folder / "report.json").unlink()
    (played.folder / "ph.out").write_text(PH.replace("JOB DONE", ""))
    played.ask()
    assert played.calls() == ["scf 0", "ph 0", "dynmat 0"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("scf", SCF.replace("13.0614", " 8.2700"), "-0.01 eV"),
        ("scf", SCF.replace("has been achieved in  10", "NOT achieved after 200"), "pw.x: no convergence"),
        ("scf", ERROR, "S matrix"),
        ("relax", RELAX + "The maximum number of steps has been reached.", "pw.x: the relaxation"),
        ("ph", PH.replace("JOB DONE", "No convergence has been achieved"), "ph.x: no convergence"),
        ("ph", PH.replace("3.405431990", "0.405431990"), "eigenvalue of 0.405"),
        ("ph", PH.replace("-0.000000000       0.000000000", "1.000000000 0.0", 1), "index symmetry"),
        ("ph", PH.replace("3.405431990", "3.605431990", 1), "the crystal's symmetry"),
        ("ph", PH.replace("3.405431990", "***********"), "out of range"),
        ("dynmat", DYNMAT.replace("297.05 ", "-57.05 ", 1), "-57 cm⁻¹"),
        ("dynmat", DYNMAT.replace("297.05 ", "  1.05 ", 1), "has 1 cm⁻¹"),
    ],
)
def test_a_crystal_that_is_refused(played: Played, name: str, text: str, words: str) -> None:
    played.prints(name, text)
    with pytest.raises(CalculationFailed) as failure:
        played.ask()
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)
    assert not (played.folder / "report.json").exists()
    assert not (played.folder / "scratch").exists()


def test_a_crystal_that_is_refused_before_anything_is_run(played: Played) -> None:
    cubic = Lattice.cubic(4)
    for structure, words in (
        (Structure(cubic, ["Mg", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]]), "11 electrons"),
        (Structure(cubic, ["Mg", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]]), "for S"),
        (Structure(cubic, [{"Mg": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]), "disordered"),
        (Structure(cubic, ["Mg", "O"], [[0, 0, 0], [0, 0, 0.05]]), "0.5 Å apart"),
    ):
        with pytest.raises(CalculationFailed, match=words):
            played.ask(structure)
    assert played.calls() == []


def test_the_wall_limit(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    played.says("ph.hangs")
    with monkeypatch.context() as clock, pytest.raises(CalculationFailed, match=r"ph\.x .* wall limit"):
        leap(clock, lambda: content(played.place / "pid"), 3600.0)
        played.ask(wall_hours=1.0)
    assert not (played.folder / "scratch").exists()


def test_the_wall_limit_counts_what_was_killed(played: Played) -> None:
    ph = played.place / "ph.x"
    whole = ph.read_text()
    ph.write_text("#!/bin/sh\nmkdir -p scratch/_ph0\nkill -TERM $$\n")
    for killed_after in (1000, 2000):  # seconds; as if it had printed its last line then
        with pytest.raises(ZooError, match="SIGTERM"):
            played.ask()
        began = (played.folder / "stages.json").stat().st_mtime
        os.utime(played.folder / "ph.out", (began + killed_after,) * 2)
    ph.write_text(whole)
    played.calls()
    kept = shutil.copytree(played.folder, played.place / "kept")
    with pytest.raises(CalculationFailed, match="wall limit"):
        played.ask(wall_hours=2900 / 3600)
    assert played.calls() == []
    shutil.rmtree(played.folder)
    shutil.copytree(kept, played.folder)  # with its times
    played.ask(wall_hours=2.0)
    assert played.calls() == ["ph 1", "dynmat 0"]
    seconds = json.loads((played.folder / "report.json").read_text())["seconds"]
    assert seconds["ph"] == pytest.approx(3000, abs=900)
    assert seconds["relax"] < 900


def test_a_program_that_fails_without_a_word(played: Played) -> None:
    played.says("ph.fails")
    with pytest.raises(CalculationFailed, match=r"status 1 .*ph\.out"):
        played.ask()


def test_a_program_that_breaks_down(played: Played) -> None:
    (played.place / "ph.x").write_text("#!/bin/sh\nkill -SEGV $$\n")
    with pytest.raises(CalculationFailed, match=r"SIGSEGV.*ph\.out"):
        played.ask()


def test_a_status_of_mpirun_that_is_no_signal(played: Played) -> None:
    mpirun = played.place / "pw.x"
    mpirun.write_text("#!/bin/sh\necho 'mpirun was unable to find'\necho 'Executable: pw.x'\necho ---\nexit 134\n")
    with pytest.raises(ZooError, match=r"Executable: pw\.x; .*134, .*relax\.out"):
        played.ask()
    mpirun.write_text("#!/bin/sh\necho 'mpirun noticed that rank 0 exited on signal 6 (Aborted).'\nexit 134\n")
    with pytest.raises(CalculationFailed, match="SIGABRT"):
        played.ask()


def test_a_program_that_is_killed_goes_on(played: Played) -> None:
    ph = played.place / "ph.x"
    whole = ph.read_text()
    ph.write_text("#!/bin/sh\nmkdir -p scratch/_ph0\nkill -KILL $$\n")
    with pytest.raises(ZooError, match=r"SIGKILL.*workers\.count"):
        played.ask()
    played.calls()
    ph.write_text(whole)
    played.ask()
    assert played.calls() == ["ph 1", "dynmat 0"]


def test_a_program_that_is_killed_twice_is_too_large(played: Played) -> None:
    """Else it would bar the way for all crystals that come after it."""
    (played.place / "pw.x").write_text("#!/bin/sh\nkill -KILL $$\n")
    with pytest.raises(ZooError, match="SIGKILL"):
        played.ask()
    with pytest.raises(CalculationFailed, match="killed twice"):
        played.ask()


def test_what_is_wrong_for_every_crystal(played: Played, tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"'no-pw'.*install quantum-espresso"):
        played.ask(pw="no-pw")
    with pytest.raises(ZooError, match="'/no/where'"):
        played.ask(pseudopotentials="/no/where")
    assert played.calls() == []
    played.prints("relax", "There are not enough slots available in the system\n")
    played.says("relax.fails")
    with pytest.raises(ZooError, match="not enough slots"):
        played.ask()
    played.prints("relax", ERROR.replace("cdiaghg", "read_namelists").replace("S matrix", "bad line in namelist"))
    with pytest.raises(ZooError, match="cannot read"):
        played.ask()


# --- A real one ------------------------------------------------------------------------------------------------------


ESPRESSO = Espresso(EspressoHypers(ecutwfc=30.0, k_density=100.0))
MISSING = ESPRESSO.missing()


def by_hand(folder: Path, volume: float) -> np.ndarray:
    """4π e²/V Zᵀ Φ⁻¹ Z, of the force constants and Born charges that ph.x wrote, with the acoustic sum rule.

    Gonze and Lee, Phys. Rev. B 55, 10355 (1997), eq. (57); in Rydberg units, where e² = 2; no mass enters.
    """
    text = (folder / inputs.DYNAMICAL_MATRIX).read_text()
    charges = results.born_charges(text)
    n = len(charges)
    constants = np.zeros((n, 3, n, 3))
    lines = text.split("Dynamical  Matrix")[1].split("Dielectric Tensor")[0].splitlines()[4:]
    for at in range(0, 4 * n * n, 4):
        i, j = (int(number) - 1 for number in lines[at].split())
        constants[i, :, j, :] = [[float(number) for number in line.split()[::2]] for line in lines[at + 1 : at + 4]]
    rigid = np.kron(np.ones((n, 1)), np.eye(3)) / np.sqrt(n)  # all atoms move alike
    without = np.eye(3 * n) - rigid @ rigid.T
    constants = without @ constants.reshape(3 * n, 3 * n) @ without
    by_displacement = (charges - charges.mean(0)).transpose(0, 2, 1).reshape(3 * n, 3)
    inverse = np.linalg.pinv(0.5 * (constants + constants.T), rcond=1e-6)
    return 8 * np.pi / (volume / units.Bohr**3) * by_displacement.T @ inverse @ by_displacement


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_real_calculation(tmp_path: Path) -> None:
    # Rhombohedral boron nitride of Petousis' table, layered and so anisotropic, in another orientation than there.
    record = next(each for each in Petousis2017(Petousis2017.Hypers()).records() if each.key == "mp-13150")
    crystal = turned(record.structure, Rotation.random(random_state=3).as_matrix())
    tensors = ESPRESSO.tensors(Candidate("mp-13150", crystal), tmp_path)
    assert list(tensors) == ["electronic", "ionic", "total"]
    rotations = symmetry(crystal).rotations  # type: ignore[union-attr]
    assert len(rotations) == 6
    table = turned(record.structure, np.eye(3))
    assert np.allclose(table.lattice.abc, crystal.lattice.abc)
    for tensor in tensors.values():
        assert np.allclose(tensor, tensor.T, atol=1e-12)
        assert residual(tensor, rotations) < 1e-4
    # This mesh and cutoff are coarse; with more of both it is 1 % from the table.
    known = np.linalg.eigvalsh(record.targets["electronic"])
    assert np.allclose(np.linalg.eigvalsh(tensors["electronic"]), known, rtol=0.08)
    rotation = Rotation.random(random_state=3).as_matrix()
    assert np.linalg.norm(rotation.T @ tensors["electronic"] @ rotation - record.targets["electronic"]) < 0.5
    oriented = Oriented.of(crystal)
    ionic = oriented.back(by_hand(tmp_path, crystal.volume))
    assert np.linalg.norm(tensors["ionic"]) > 0.5
    assert np.allclose(tensors["ionic"], ionic, atol=1e-3 * np.linalg.norm(ionic))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["band_gap_on_mesh_ev"] > 4
    assert report["largest_force_ev_per_angstrom"] < 0.01
    assert sum(abs(each) < 1 for each in report["frequencies_per_cm"]) == 3
    assert not (tmp_path / "scratch").exists()
