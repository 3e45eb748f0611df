"""The oracle `vasp` with a program in VASP's place: how it is run, and how that may end."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pymatgen.core
import pytest
from cli import refused, zoo
from pymatgen.core import Structure
from vasp_calls import ELECTRONIC, IONIC, ask, in_order
from vasprun import vasprun, write_vasprun

from zoo.api import CalculationFailed
from zoo.errors import ZooError
from zoo.oracles.vasp import Vasp, VaspHypers

pytestmark = pytest.mark.usefixtures("no_potentials")


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
    with pytest.raises(ZooError, match=r"POTCAR .*V_pv"):
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
    "open('vasprun.xml', 'w').write(text[:-30])": "status 0",
    "sys.exit(3)": "status 3",
    "os.kill(os.getpid(), 11)": "status -11",
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
    "never found": ("echo 'exec: vasp_std: not found'; exit 127", "not found; .*127"),
    "no slots": ("echo 'There are not enough slots'; echo ----; exit 1", "not enough slots; .* 1"),
    "a library": (
        "echo 'vasp.6.3.0: error while loading shared libraries: libmkl.so'; exit 127",
        r"shared libraries: libmkl.so",
    ),
    "not a word": ("exit 0", "printed nothing"),
    "no machine for it": ("kill -ILL $$", "this processor"),
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
    with pytest.raises(CalculationFailed, match="status 1"):
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
