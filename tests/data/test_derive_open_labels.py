"""The script that makes the open labels of what was published, on small archives and tables made here."""

from __future__ import annotations

import gzip
import importlib.util
import json
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from tiny_labels import CESIUM_CHLORIDE, phonondb_row

from zoo.data.petretto2018 import Petretto2018
from zoo.data.phonondb2018 import PhononDB2018

SCRIPT = Path(__file__).parents[2] / "scripts" / "derive_open_labels.py"
SPRING = 1.5  # eV/Å², of the two sublattices against each other


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("derive_open_labels", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(folder: Path, mpid: str, born: bool = True) -> None:
    """Caesium chloride whose nearest neighbours are joined by springs, as the phonon database keeps a crystal."""
    phonopy = pytest.importorskip("phonopy")
    from phonopy.file_IO import write_FORCE_SETS
    from phonopy.interface.vasp import write_vasp
    from phonopy.structure.atoms import PhonopyAtoms

    inside = folder / f"{mpid}-20180417"
    inside.mkdir(parents=True)
    unit = PhonopyAtoms(
        symbols=["Cs", "Cl"], cell=CESIUM_CHLORIDE.lattice.matrix, scaled_positions=CESIUM_CHLORIDE.frac_coords
    )
    phonon = phonopy.Phonopy(unit, supercell_matrix=2 * np.eye(3), primitive_matrix=np.eye(3), log_level=0)
    phonon.generate_displacements(distance=0.01)
    cell = phonon.supercell
    for displaced in phonon.dataset["first_atoms"]:
        moved = np.zeros((len(cell), 3))
        moved[displaced["number"]] = displaced["displacement"]
        displaced["forces"] = forces(cell, moved)
    write_vasp(inside / "POSCAR-unitcell", unit)
    write_FORCE_SETS(phonon.dataset, filename=inside / "FORCE_SETS")
    (inside / "phonopy.conf").write_text("DIM = 2 0 0 0 2 0 0 0 2\nPRIMITIVE_AXIS = 1 0 0 0 1 0 0 0 1")
    if born:
        lines = [" ".join(map(str, (value * np.eye(3)).ravel())) for value in (2.5, 1.3, -1.3)]
        (inside / "BORN").write_text("# epsilon and Z* of atoms 1 2\n" + "\n".join(lines) + "\n")
    with tarfile.open(folder / f"materials-id-{mpid}.tar.lzma", "w:xz") as packed:
        packed.add(inside, arcname=inside.name)


def forces(cell: object, moved: np.ndarray) -> np.ndarray:
    """Springs along the eight bonds of each atom: their sum is isotropic, 8/3 of one."""
    lattice, fractions = np.array(cell.cell), np.array(cell.scaled_positions)  # type: ignore[attr-defined]
    found = np.zeros_like(moved)
    bond = 3**0.5 / 2 * CESIUM_CHLORIDE.lattice.a
    images = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T
    for i in range(len(moved)):
        for image in images:
            away = (fractions + image - fractions[i]) @ lattice
            for j in np.flatnonzero(np.abs(np.linalg.norm(away, axis=1) - bond) < 0.01):
                along = away[j] / bond
                found[i] += 3 / 8 * SPRING * along * (along @ (moved[j] - moved[i]))
    return found


def test_phonondb2018_from_archives(tmp_path: Path, script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is what is known of this crystal; archives without charges are passed over, broken ones are named."""
    archive(tmp_path, "mp-20")
    archive(tmp_path, "mp-3", born=False)
    (tmp_path / "materials-id-9.tar.lzma").write_bytes(b"no archive")
    out = tmp_path / "out" / "phonondb2018.json.gz"
    script.phonondb(tmp_path, out)
    assert "left out: materials-id-9.tar.lzma" in capsys.readouterr().out
    (row,) = json.loads(gzip.decompress(out.read_bytes()))
    wanted = phonondb_row("mp-20", spring=SPRING)
    for name in ("mpid", "species", "unstable", "space_group"):
        assert row[name] == wanted[name]
    for name in ("lattice", "frac", "electronic", "born", "ionic"):
        np.testing.assert_allclose(row[name], wanted[name], atol=1e-5)
    mass = 1 / (1 / 132.905 + 1 / 35.453)
    assert row["smallest_optic_eigenvalue"] == pytest.approx(SPRING / mass, rel=1e-3)
    (record,) = PhononDB2018(PhononDB2018.Hypers(path=str(out))).records()
    phi = SPRING * np.kron([[1, -1], [-1, 1]], np.eye(3))
    np.testing.assert_allclose(record.force_constants, phi, atol=1e-6)
    kept = out.read_bytes()
    archive(tmp_path, "mp-7")
    script.phonondb(tmp_path, out)
    assert [row["mpid"] for row in json.loads(gzip.decompress(out.read_bytes()))] == ["mp-7", "mp-20"]
    (tmp_path / "materials-id-mp-7.tar.lzma").unlink()
    script.phonondb(tmp_path, out)
    assert out.read_bytes() == kept, "the same archives give the same bytes"
    with pytest.raises(SystemExit, match=r"no \*.tar.lzma"):
        script.phonondb(tmp_path / "out", out)


def test_petretto2018_from_its_file(tmp_path: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Identifiers come from the table where one crystal of it, and one alone, is the same."""
    matrix = " ".join(map(str, CESIUM_CHLORIDE.lattice.matrix.ravel()))
    head = f'2\nLattice="{matrix}" Properties=species:S:1:pos:R:3:becs:R:9 eps="3 0 0 0 3 0 0 0 4" pbc="T T T"\n'
    charges = [[1.2, 0.1, 0, 0, 1.2, 0, 0, 0, 1.2], [-1.2, -0.1, 0, 0, -1.2, 0, 0, 0, -1.2]]
    atoms = "".join(
        f"{site.specie.symbol} {' '.join(map(str, [*site.coords, *charge]))}\n"
        for site, charge in zip(CESIUM_CHLORIDE, charges, strict=True)
    )
    source = tmp_path / "becs.xyz"
    source.write_text(head + atoms)
    larger = CESIUM_CHLORIDE.copy()
    larger.scale_lattice(100)
    data = [["mp-1", CESIUM_CHLORIDE.as_dict(), 9.5], ["mp-2", larger.as_dict(), 1.0]]
    table = tmp_path / "table.json.gz"
    table.write_bytes(gzip.compress(json.dumps({"columns": ["mpid", "structure", "eps_total"], "data": data}).encode()))
    out = tmp_path / "petretto2018.json.gz"
    with pytest.raises(SystemExit, match="not the published file"):
        script.petretto(source, table, out)
    monkeypatch.setattr(script, "PETRETTO_SHA256", script.hashlib.sha256(source.read_bytes()).hexdigest())
    script.petretto(source, table, out)
    (record,) = Petretto2018(Petretto2018.Hypers(path=str(out))).records()
    assert record.key == "petretto-mp-1" and record.means == {"total": 9.5}
    np.testing.assert_allclose(record.targets["electronic"], np.diag([3, 3, 4]), atol=1e-12)
    np.testing.assert_allclose(record.targets["born"].reshape(2, 9), charges, atol=1e-12)
    data.append(["mp-3", *data[0][1:]])
    table.write_bytes(gzip.compress(json.dumps({"columns": ["mpid", "structure", "eps_total"], "data": data}).encode()))
    script.petretto(source, table, out)
    (record,) = Petretto2018(Petretto2018.Hypers(path=str(out))).records()
    assert record.key == "petretto-row-0000"
