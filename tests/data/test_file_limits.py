"""Files that are small and hold much, or that would keep a parser busy for hours: refused before they are read."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from cli import refused, zoo
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from zoo.cli import predict_command
from zoo.data.crystal_files import crystals_in
from zoo.data.file import File, FileHypers
from zoo.data.formats import open_text
from zoo.data.structure_files import structure_from_file
from zoo.data.structures import structure_from_cif
from zoo.discovery.candidates import source_of
from zoo.discovery.screen_config import CandidateSource
from zoo.errors import ZooError
from zoo.storage import file_limits
from zoo.ui import uploads

MODEL = Path(__file__).parents[1] / "checkpoints" / "format_3"
SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PACK = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
FRAME = '1\nLattice="3 0 0 0 3 0 0 0 3" pbc="T T T" {}\nSi 0 0 0\n'


def poscar(folder: Path, ending: str, megabytes: int) -> Path:
    path = folder / f"POSCAR{ending}"
    with PACK[ending](path, "wb") as file:
        file.write(Poscar(SALT).get_str().encode())
        for _ in range(megabytes):
            file.write(b" " * 1_000_000)
    return path


def peak(do: Callable[[], object]) -> float:
    """Return the largest memory in MB that Python objects took meanwhile."""
    tracemalloc.start()
    try:
        do()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", PACK)
def test_a_packed_vasp_file(ending: str, tmp_path: Path) -> None:
    assert structure_from_file(poscar(tmp_path, ending, 0)).formula == "Na4 Cl4"
    path = poscar(tmp_path, ending, 300)

    def read() -> None:
        with pytest.raises(ZooError, match=rf"{path.name}.* 64 MB unpacked.*ZOO_MAX_FILE_MB"):
            structure_from_file(path)

    assert peak(read) < 200


def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = poscar(tmp_path, ".gz", 2)
    structure_from_file(path)
    monkeypatch.setenv("ZOO_MAX_FILE_MB", "1.5")
    with pytest.raises(ZooError, match=r"1\.5 MB"):
        structure_from_file(path)
    for bad in ("many", "-1", "nan", "0"):
        monkeypatch.setenv("ZOO_MAX_FILE_MB", bad)
        with pytest.raises(ZooError, match=f"ZOO_MAX_FILE_MB .*'{bad}'"):
            structure_from_file(path)


def test_a_large_file_that_is_not_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MAX_FILE_MB", "0.0001")
    SALT.to(str(tmp_path / "salt.cif"))
    with pytest.raises(ZooError, match=r"salt.cif.*ZOO_MAX_FILE_MB"):
        structure_from_file(tmp_path / "salt.cif")
    (tmp_path / "b.xyz").write_text(FRAME.format("") * 10)  # of many crystals: its size is limited where it is packed
    assert len(list(crystals_in([str(tmp_path / "b.xyz")]))) == 10


@pytest.mark.parametrize(("name", "start"), [("a.json", b"["), ("a.xyz", b"1\n"), ("a.csv", b"cif\n")])
class TestPackedFilesOfMany:
    @staticmethod
    def packed(folder: Path, name: str, start: bytes) -> str:
        with gzip.open(folder / f"{name}.gz", "wb") as file:
            file.write(start)
            for _ in range(70):
                file.write(b" " * 1_000_000)
        return str(folder / f"{name}.gz")

    def test_where_crystals_are_asked_for(self, name: str, start: bytes, tmp_path: Path) -> None:
        *_, last = crystals_in([self.packed(tmp_path, name, start)])
        assert isinstance(last.structure, ZooError)
        assert re.search(rf"{name}.* 64 MB unpacked.*ZOO_MAX_FILE_MB", str(last.structure))

    def test_as_a_dataset(self, name: str, start: bytes, tmp_path: Path) -> None:
        dataset = File(FileHypers(path=self.packed(tmp_path, name, start)))
        with pytest.raises(ZooError, match=f"{name}.*ZOO_MAX_FILE_MB"):
            list(dataset.records())

    def test_as_candidates(self, name: str, start: bytes, tmp_path: Path) -> None:
        source = source_of(CandidateSource(path=self.packed(tmp_path, name, start)))
        with pytest.raises(ZooError, match=f"{name}.*ZOO_MAX_FILE_MB"):
            list(source.found())


def test_on_the_command_line_the_others_are_answered(tmp_path: Path) -> None:
    poscar(tmp_path, ".gz", 70)
    SALT.to(str(tmp_path / "salt.cif"))
    result = zoo("predict", str(MODEL), "POSCAR.gz", "salt.cif", "--format", "csv", cwd=tmp_path)
    refused(result, "1 of 2")
    assert "POSCAR.gz" in result.stderr and "ZOO_MAX_FILE_MB" in result.stderr
    assert "salt.cif,NaCl" in result.stdout


def test_on_the_page(tmp_path: Path) -> None:
    sent = base64.b64encode(poscar(tmp_path, ".gz", 6).read_bytes()).decode()
    (crystal,) = uploads.crystals_of([{"name": "POSCAR.gz", "content": f"data:;base64,{sent}"}])
    assert isinstance(crystal.structure, ZooError)
    assert "POSCAR.gz" in str(crystal.structure) and "5 MB" in str(crystal.structure)
    assert "ZOO_MAX_FILE_MB" not in str(crystal.structure)


def cif(sites: int) -> str:
    lengths = "".join(f"_cell_length_{axis} 90\n" for axis in "abc")
    angles = "".join(f"_cell_angle_{name} 90\n" for name in ("alpha", "beta", "gamma"))
    names = "".join(f"_atom_site_{name}\n" for name in ("label", "fract_x", "fract_y", "fract_z"))
    rows = "".join(f"Si {i / sites:.7f} 0 0\n" for i in range(sites))
    return f"data_x\n{lengths}{angles}loop_\n{names}{rows}"


def test_a_cif_of_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "many.cif").write_text(cif(300_000))
    with monkeypatch.context() as patch:
        patch.setattr("zoo.data.cif._Parser.from_str", None)  # it is not parsed
        with pytest.raises(ZooError, match=r"many.cif.* 300,0\d\d lines.*ZOO_MAX_CRYSTAL_LINES"):
            structure_from_file(tmp_path / "many.cif")
        with pytest.raises(ZooError, match=r"300,0\d\d lines"):
            structure_from_cif((tmp_path / "many.cif").read_text())
    (tmp_path / "several.cif").write_text(cif(21_000))
    with pytest.raises(ZooError, match=r"21,000 atoms.* 20,000.*ZOO_MAX_CIF_ATOMS"):
        structure_from_file(tmp_path / "several.cif")
    monkeypatch.setenv("ZOO_MAX_CRYSTAL_LINES", "20")
    with pytest.raises(ZooError, match="at most 20 "):
        structure_from_cif(cif(30))


def test_reflections_beside_a_crystal_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MAX_CRYSTAL_LINES", "50")
    reflections = "1 2 3 4.0 5.0\n" * 100
    assert len(structure_from_cif(f"{cif(3)}_shelx_hkl_file\n;\n{reflections};\n")) == 3


@pytest.mark.parametrize(
    "counts", ["Si\n1000000000\n", "1000000000\n", "Si\n" + "9" * 30 + "\n", "Si O\nSi O\n9 9\n9 999999999\n"]
)
def test_counts_of_atoms_that_are_not_there(counts: str, tmp_path: Path) -> None:
    (tmp_path / "POSCAR").write_text(f"x\n1\n5 0 0\n0 5 0\n0 0 5\n{counts}Direct\n0 0 0\n")
    with pytest.raises(ZooError, match=r"POSCAR.* lines"):
        structure_from_file(tmp_path / "POSCAR")


@pytest.mark.parametrize("count", ["9" * 20, "9" * 5_000, "100001"])
def test_a_frame_of_more_atoms_than_are_read(count: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(FRAME.format("key=good") + f"{count}\nLattice\nSi 0 0 0\n")
    good, bad = crystals_in([str(tmp_path / "a.xyz")])
    assert isinstance(good.structure, Structure)
    assert isinstance(bad.structure, ZooError)
    assert "100,000" in str(bad.structure) and len(str(bad.structure)) < 300


def test_frames_after_one_that_is_too_large_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MAX_CRYSTAL_LINES", "2")
    frame = FRAME.format("key=good")
    (tmp_path / "a.xyz").write_text(frame + "3\nx\n" + "Si 0 0 0\n" * 3 + frame.replace("good", "last"))
    first, large, last = crystals_in([str(tmp_path / "a.xyz")])
    assert isinstance(first.structure, Structure) and isinstance(last.structure, Structure)
    assert isinstance(large.structure, ZooError) and "3 atoms" in str(large.structure)


@pytest.mark.parametrize("columns", ["999999999", "9" * 30])
def test_a_frame_of_more_columns_than_it_has(columns: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(FRAME.format(f"Properties=species:S:1:pos:R:3:more:R:{columns}"))
    (crystal,) = crystals_in([str(tmp_path / "a.xyz")])
    assert isinstance(crystal.structure, ZooError) and "columns" in str(crystal.structure)


def test_a_csv_that_is_nested_or_wide(tmp_path: Path) -> None:
    Poscar(SALT).write_file(str(tmp_path / "POSCAR"))
    (tmp_path / "a.csv").write_text(f"cif,total\nPOSCAR,{'[' * 3_000}\n")
    (crystal,) = crystals_in([str(tmp_path / "a.csv")])
    assert isinstance(crystal.structure, Structure)
    (tmp_path / "b.csv").write_text("x" * 200_000)
    (crystal,) = crystals_in([str(tmp_path / "b.csv")])
    assert isinstance(crystal.structure, ZooError) and "first line" in str(crystal.structure)


def test_more_crystals_than_a_call_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_command, "MAX_CRYSTALS", 3)
    (tmp_path / "a.xyz").write_text(FRAME.format("") * 4)
    refused(zoo("predict", str(MODEL), "a.xyz", cwd=tmp_path), "more than 3", "zoo screen")


def test_what_is_no_packed_file(tmp_path: Path) -> None:
    for name in ("a.json.gz", "POSCAR.gz", "POSCAR.bz2", "POSCAR.xz"):
        (tmp_path / name).write_bytes(b"no such thing")
        (crystal,) = crystals_in([str(tmp_path / name)])
        assert isinstance(crystal.structure, ZooError) and name in str(crystal.structure)
    with pytest.raises(ZooError, match="no such file"), open_text(tmp_path / "nowhere.json.gz"):
        pass


def test_defaults() -> None:
    assert file_limits.max_file_bytes() == 64_000_000
    assert (file_limits.max_crystal_lines(), file_limits.max_cif_atoms()) == (100_000, 20_000)
