"""Make the files of the datasets phonondb2018 and petretto2018 from what their authors published.

    git clone https://github.com/WMD-group/phononDB && git -C phononDB checkout b5fa78d
    pip install "crystal-tensor-zoo[phonons]"
    python scripts/derive_open_labels.py phonondb2018 phononDB/phonon_db_tarred

    python scripts/derive_open_labels.py petretto2018 --table phonon_dielectric_mp.json.gz    # downloads the rest

phonondb2018: the archives of Togo's phonon database of 2018 (VASP, PBEsol; CC BY 4.0; originals at mdr.nims.go.jp), one
a crystal, as github.com/WMD-group/phononDB keeps them. Of those with Born charges and 2 to 30 atoms in the primitive
cell it keeps cell, ε∞, Z* (phonopy's, of all atoms, with the sum rule), and Φ at Γ from FORCE_SETS, symmetrised by
phonopy. A quarter of a second a crystal; it goes on where it was broken off.

petretto2018: the 1,520 crystals of Petretto et al. (2018) with ε∞ and Z*, as github.com/shiangfang/e3nn-models
(24b023a) keeps them; identifiers and mean total constants are from matminer's table phonon_dielectric_mp
(matminer.datasets), which knows most of them, by the crystal.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from zoo.data.download import download
from zoo.phonons.modes import gamma_modes
from zoo.phonons.polar_modes import polar_modes
from zoo.storage.cache import cache_root

MOST_ATOMS = 30
PETRETTO_URL = (
    "https://raw.githubusercontent.com/shiangfang/e3nn-models/"
    "24b023a8ed078e55e7db33460decd4d4f5d51e26/data/phonon_becs_epsilon.xyz"
)
PETRETTO_SHA256 = "0f3db1972e983ff690586cd87050af2d03edf9c9c16688362198830d65166f54"

Row = dict[str, Any]


def settings(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The supercell and primitive matrix in a phonopy.conf: nine numbers each, the second one fractions."""
    lines = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    values = {name.strip(): [float(Fraction(number)) for number in given.split()] for name, given in lines}
    supercell = np.array(values["DIM"])
    primitive = np.array(values.get("PRIMITIVE_AXIS", np.eye(3).ravel()))
    return (np.diag(supercell) if supercell.size == 3 else supercell.reshape(3, 3)), primitive.reshape(3, 3)


def crystal(archive: Path) -> tuple[Row, np.ndarray] | None:
    """One archive -> the crystal and its Φ, (3N, 3N) float32; None where it has no charges, one atom or too many."""
    import spglib
    from phonopy import Phonopy
    from phonopy.file_IO import parse_BORN, parse_FORCE_SETS
    from phonopy.interface.vasp import read_vasp

    with tempfile.TemporaryDirectory() as place, tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
        (folder,) = Path(place).iterdir()
        if not ((folder / "BORN").is_file() and (folder / "FORCE_SETS").is_file()):
            return None
        supercell, primitive = settings((folder / "phonopy.conf").read_text())
        unit = read_vasp(folder / "POSCAR-unitcell")
        if not 1 < round(len(unit) * abs(np.linalg.det(primitive))) <= MOST_ATOMS:  # one atom has no optic mode
            return None
        phonon = Phonopy(unit, supercell_matrix=supercell, primitive_matrix=primitive, log_level=0)
        phonon.dataset = parse_FORCE_SETS(filename=folder / "FORCE_SETS")
        given = parse_BORN(phonon.primitive, filename=folder / "BORN")
        assert given is not None
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    cell = phonon.primitive
    # Without the charges (no non-analytic term) the dynamical matrix at Γ is Φ of the cell over the masses' roots.
    assert phonon.dynamical_matrix is not None
    phonon.dynamical_matrix.run([0, 0, 0])
    roots = np.repeat(np.sqrt(cell.masses), 3)
    phi = phonon.dynamical_matrix.dynamical_matrix.real * np.outer(roots, roots)
    phi = 0.5 * (phi + phi.T)
    lattice, born, electronic = np.array(cell.cell), np.array(given["born"]), np.array(given["dielectric"])
    modes = gamma_modes(phi, cell.masses)
    lowest = float(modes.eigenvalues.min())
    row = {
        "mpid": folder.name.removesuffix("-20180417"),
        "lattice": _rounded(lattice, 8),
        "species": list(cell.symbols),
        "frac": _rounded(cell.scaled_positions, 8),
        "electronic": _rounded(electronic, 6),
        "ionic": _rounded(polar_modes(modes, born, abs(np.linalg.det(lattice))).ionic, 5),
        "born": _rounded(born, 5),
        "unstable": lowest < 0,
        "smallest_optic_eigenvalue": round(lowest, 6),
        "space_group": int(spglib.get_symmetry_dataset((lattice, cell.scaled_positions, cell.numbers), 0.01).number),
    }
    return row, phi.astype(np.float32)


def _rounded(values: Any, digits: int) -> list:
    return np.round(np.asarray(values, dtype=np.float64), digits).tolist()


def phonondb(folder: Path, out: Path) -> None:
    """Write `out` and, beside it, the force constants; a file for each archive that is done lies in `out`.parts."""
    archives = sorted(folder.glob("*.tar.lzma"))
    if not archives:
        raise SystemExit(f"{folder}: no *.tar.lzma; it is the folder phonon_db_tarred of github.com/WMD-group/phononDB")
    parts = out.with_name(f"{out.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    refused: dict[str, str] = {}
    for archive in tqdm(archives, unit=" archives", disable=None):
        part = parts / f"{archive.name}.npz"
        if part.is_file():
            continue
        try:
            found = crystal(archive)
        except Exception as error:  # phonopy raises whatever its inner code does; the other archives shall be read
            refused[archive.name] = " ".join(str(error).split())[:200] or type(error).__name__
            continue
        text, phi = ("null", np.zeros(0)) if found is None else (json.dumps(found[0]), found[1])
        unfinished = part.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(file, row=np.array(text), phi=phi)
        unfinished.replace(part)
    rows, matrices = [], []
    for archive in archives:
        if archive.name in refused:
            continue
        with np.load(parts / f"{archive.name}.npz", allow_pickle=False) as saved:
            row = json.loads(str(saved["row"]))
            if row is not None:
                rows.append(row)
                matrices.append(saved["phi"].ravel())
    for name, reason in refused.items():
        print(f"left out: {name}: {reason}")
    if not rows:
        raise SystemExit(f"{folder}: no archive has charges and force constants")
    order = sorted(range(len(rows)), key=lambda i: int(rows[i]["mpid"].rpartition("-")[2]))
    offsets = np.cumsum([0, *(matrices[i].size for i in order)])
    beside = out.with_name("phonondb2018_force_constants.npz")
    np.savez_compressed(
        beside,
        values=np.concatenate([matrices[i] for i in order]),
        offsets=offsets,
        mpid=np.array([rows[i]["mpid"] for i in order]),
    )
    write([rows[i] for i in order], out)
    print(f"{len(rows)} crystals -> {out}, {beside}")


def petretto(source: Path, table: Path | None, out: Path) -> None:
    """Write `out` from the extxyz, with what the table knows of its crystals."""
    import ase.io
    from pymatgen.core import Lattice, Structure

    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != PETRETTO_SHA256:
        raise SystemExit(f"{source}: not the published file (sha256 {digest}, expected {PETRETTO_SHA256})")
    known = _known(_table(table)) if table is not None else {}
    rows = []
    for atoms in ase.io.read(source, index=":", format="extxyz"):
        symbols, positions = atoms.get_chemical_symbols(), atoms.positions
        structure = Structure(Lattice(atoms.cell.array), symbols, positions, coords_are_cartesian=True)
        match = known.get(_mark(structure), {})
        rows.append(
            {
                "structure": structure.as_dict(),
                "electronic": _rounded(np.reshape(atoms.info["eps"], (3, 3)), 6),
                "born_charges": _rounded(atoms.arrays["becs"].reshape(-1, 3, 3), 5),
                "mpid": match.get("mpid"),
                "eps_total_mean": match.get("eps_total"),
            }
        )
    write(rows, out)
    print(f"{len(rows)} crystals, {sum(row['mpid'] is not None for row in rows)} with an identifier -> {out}")


def _table(path: Path) -> list[Row]:
    content = json.loads(gzip.decompress(path.read_bytes()))
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def _known(rows: Iterable[Row]) -> dict[tuple, Mapping[str, Any]]:
    """The rows of matminer's table by formula, number of atoms and volume; two of one mark are no answer."""
    from pymatgen.core import Structure

    found: dict[tuple, Mapping[str, Any]] = {}
    twice = set()
    for row in rows:
        mark = _mark(Structure.from_dict(row["structure"]))
        if mark in found:
            twice.add(mark)
        found[mark] = row
    return {mark: row for mark, row in found.items() if mark not in twice}


def _mark(structure: Any) -> tuple:
    """The same calculation has the same cell: its volume to 1e-3 Å³ tells crystals of one formula apart."""
    return structure.composition.reduced_formula, len(structure), round(structure.volume, 3)


def write(rows: list[Row], out: Path) -> None:
    """Gzipped JSON, one crystal a line, without name or time: the same source gives the same bytes."""
    text = "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n"
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as packed:
        packed.write(text.encode())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(buffer.getvalue())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=("phonondb2018", "petretto2018"))
    parser.add_argument("source", type=Path, nargs="?", help="the folder of archives, or the extxyz; else downloaded")
    parser.add_argument("--table", type=Path, help="petretto2018: matminer's phonon_dielectric_mp.json.gz")
    parser.add_argument("--out", type=Path, help="default: where the dataset looks for it, in the cache")
    chosen = parser.parse_args()
    out = chosen.out or cache_root() / "datasets" / chosen.dataset / f"{chosen.dataset}.json.gz"
    if chosen.dataset == "petretto2018":
        petretto(
            chosen.source or download(PETRETTO_URL, PETRETTO_SHA256, out.with_name("phonon_becs_epsilon.xyz")),
            chosen.table,
            out,
        )
    elif chosen.source is None:
        parser.error("phonondb2018 needs SOURCE, the folder of archives")
    else:
        phonondb(chosen.source, out)


if __name__ == "__main__":
    main()
