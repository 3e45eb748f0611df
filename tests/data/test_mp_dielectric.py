"""The dataset materials-project; a module in mp_api's place answers, with what emmet makes of calculations."""

from __future__ import annotations

import dataclasses
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli import refused, zoo
from fake_mp_api import SECRET, Calculation, RunType, Server, install, rutile
from pymatgen.core import Lattice, Structure
from pymatgen.core.tensors import Tensor

from zoo.contract.plugin import BadRecord, Record
from zoo.data import mp_download
from zoo.data.frame import residual
from zoo.data.mp_dielectric import MaterialsProjectDielectric
from zoo.data.mp_download import part, usual_id
from zoo.data.symmetry import symmetry
from zoo.data.twins import twins
from zoo.errors import ZooError
from zoo.testing import DatasetTests


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """With `mp_api` installed, so to speak, a key, and an empty cache."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mp_download, "AT_ONCE", 5)
    return install(monkeypatch)


def dataset(path: Path | None = None) -> MaterialsProjectDielectric:
    return MaterialsProjectDielectric(MaterialsProjectDielectric.Hypers(path=None if path is None else str(path)))


def found() -> dict[str, Record]:
    records = list(dataset().records())
    assert all(isinstance(record, Record) for record in records), records
    return {record.key: record for record in records if isinstance(record, Record)}


def one(server: Server, **changes: Any) -> Record:
    """Return the record of a single crystal whose calculation is another one."""
    server.calculations = {"mp-7": dataclasses.replace(rutile(1), **changes)}
    return found()["mp-7"]


def of_point_group(structure: Structure, tensor: np.ndarray) -> float:
    group = symmetry(structure, 0.01)
    assert group is not None
    return residual(np.array(tensor), group.rotations)


def test_tensor_and_structure_are_of_one_calculation(server: Server) -> None:
    records = found()
    assert list(records) == sorted(server.calculations)
    for key, record in records.items():
        calculation = server.calculations[key]
        np.testing.assert_allclose(record.structure.lattice.matrix, calculation.structure.lattice.matrix, atol=1e-9)
        np.testing.assert_allclose(record.targets["electronic"], calculation.electronic, atol=1e-9)
        np.testing.assert_allclose(record.targets["ionic"], calculation.ionic, atol=1e-9)
        np.testing.assert_allclose(
            record.targets["total"], np.add(calculation.electronic, calculation.ionic), atol=1e-9
        )
        assert record.left_out == {}
        assert of_point_group(record.structure, record.targets["total"]) < 1e-6
        assert record.properties == {
            "mp_id": key, "band_gap": 3.0, "space_group": 136, "task_id": calculation.task_id,
            "source": "materials-project",
        }  # fmt: skip


def test_the_published_tensor_would_not_fit_that_structure(server: Server) -> None:
    """It is in the IEEE frame: this is why the calculation is asked for."""
    document = server.dielectric(e_electronic=(1.0, 9.0), fields=["electronic"])[3]
    calculation = list(server.calculations.values())[3]
    assert of_point_group(calculation.structure, document.electronic) > 0.1
    np.testing.assert_allclose(
        document.electronic, Tensor(calculation.electronic).convert_to_ieee(calculation.structure), atol=1e-9
    )


@pytest.mark.parametrize(
    ("run_type", "level"),
    [(RunType.GGA, "PBE"), (RunType.GGA_U, "PBE+U"), (RunType.R2SCAN, "r2SCAN"), (RunType.HSE06, "unknown"),
     ("GGA", "PBE"), (None, "unknown")],
)  # fmt: skip
def test_level_of_theory(server: Server, run_type: Any, level: str) -> None:
    assert one(server, run_type=run_type).functional == level


def test_a_tensor_of_another_frame_is_left_out(server: Server) -> None:
    other = rutile(2)
    record = one(server, electronic=other.electronic)  # the same eigenvalues, along other axes
    assert set(record.targets) == {"ionic"}
    assert "under the point group of its structure" in record.left_out["electronic"]
    assert set(record.left_out) == {"electronic", "total"}


def test_a_document_that_names_another_calculation_is_left_out(server: Server) -> None:
    """The tensor is left out where its document names another calculation (mp-16236; mp-api issue 960)."""
    right = rutile(1)
    wrong = np.multiply(right.electronic, 1.3).tolist()
    record = one(server, electronic=wrong, published=right)
    assert "names another calculation" in record.left_out["electronic"]
    assert set(record.targets) == {"ionic"}


@pytest.mark.parametrize("published", [None, [[1.0]], [[1.0], [1.0, 2.0]], [[None] * 3] * 3, "none"])
def test_a_published_tensor_that_is_none_tells_nothing(tmp_path: Path, server: Server, published: Any) -> None:
    head, row, *_ = gzip.decompress(dataset().fetch().read_bytes()).splitlines()
    changed = json.loads(row) | {"published": {"electronic": published}}
    first = json.dumps(json.loads(head) | {"crystals": 1})
    (tmp_path / "x.jsonl").write_text(f"{first}\n{json.dumps(changed)}\n")
    (record,) = dataset(tmp_path / "x.jsonl").records()
    assert isinstance(record, Record) and record.left_out == {}


def test_near_metals_and_soft_modes_are_left_out(server: Server) -> None:
    right = rutile(1)
    metal = one(server, electronic=np.multiply(right.electronic, 6).tolist())
    assert metal.targets == {} and "above 30" in metal.left_out["electronic"]


def test_a_crystal_without_an_ionic_tensor(server: Server) -> None:
    record = one(server, ionic=None)
    assert set(record.targets) == {"electronic"} and record.left_out == {}


def test_what_cannot_be_read_is_named(server: Server) -> None:
    turned = rutile(3)
    grown = turned.structure.copy()
    grown.scale_lattice(1.1 * grown.volume)
    mixed = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5] * 3])
    server.calculations |= {
        "mp-101": dataclasses.replace(turned, task_id="mp-9101", electronic=None, published=turned),
        "mp-102": dataclasses.replace(turned, task_id="mp-9102", final=grown),
        "mp-103": dataclasses.replace(turned, task_id="mp-9103", structure=mixed, published=turned),
        "mp-104": dataclasses.replace(turned, task_id="mp-9104", electronic=[[1, 2], [3, 4]], published=turned),
    }
    lost, given = "mp-9005", server.tasks
    server.tasks = lambda **asked: [task for task in given(**asked) if task.task_id != lost]  # type: ignore[method-assign]
    bad = {record.key: record.reason for record in dataset().records() if isinstance(record, BadRecord)}
    assert set(bad) == {"mp-35", "mp-101", "mp-102", "mp-103", "mp-104"}
    for key, words in (("mp-35", lost), ("mp-101", "no electronic"), ("mp-102", "the cell changed"),
                       ("mp-103", "partly occupied"), ("mp-104", "3×3")):  # fmt: skip
        assert words in bad[key]


def test_a_stopped_download_goes_on(server: Server, tmp_path: Path) -> None:
    server.fails, server.after = ConnectionError("reset by peer"), 2  # the documents, and a page of calculations
    refused(
        zoo("data", "fetch", "materials-project", cwd=tmp_path),
        "does not answer", "reset by peer", "zoo data fetch materials-project goes on",
    )  # fmt: skip
    pages = tmp_path / "cache" / "datasets" / "materials-project.partial" / "pages.jsonl"
    assert len(pages.read_text().splitlines()) == 1 + 5
    with pages.open("a") as file:
        file.write('{"mp_id": "mp-28", "spec')  # a process that was killed as it wrote
    server.fails = None
    server.asked.clear()
    result = zoo("data", "fetch", "materials-project", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [len(call["task_ids"]) for call in server.asked] == [5, 2], "what was there was asked for again"
    file = Path(result.stdout.split(" is at ")[1].strip())
    assert file == tmp_path / "cache" / "datasets" / "materials-project" / mp_download.NAME
    assert not pages.parent.exists()
    head = json.loads(gzip.decompress(file.read_bytes()).splitlines()[0])
    assert head == {"format": 1, "database": "2026.01.01", "crystals": 12}
    server.asked.clear()
    assert len(found()) == 12
    assert server.asked == [], "it is here"


def test_both_ways_give_one_file(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = dataset().fetch().read_bytes()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "again"))
    server.fails, server.after = ConnectionError("no"), len(server.asked) + 2
    with pytest.raises(ZooError):
        dataset().fetch()
    server.fails = None
    assert dataset().fetch().read_bytes() == first


def test_another_database_begins_anew(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.fails, server.after = ConnectionError("no"), 2
    with pytest.raises(ZooError):
        dataset().fetch()
    server.fails, server.database = None, "2026.05.01"
    server.asked.clear()
    found()
    assert "another database" in caplog.text
    assert [len(call.get("task_ids", ())) for call in server.asked] == [0, 5, 5, 2]


def test_the_fingerprint_is_the_files_and_the_databases(server: Server, tmp_path: Path) -> None:
    before = dataset().fingerprint()
    copy = tmp_path / "copy.jsonl.gz"
    copy.write_bytes(dataset().fetch().read_bytes())
    assert dataset(copy).fingerprint() == before
    head, *rows = gzip.decompress(copy.read_bytes()).splitlines()
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(b"\n".join([head.replace(b"2026.01.01", b"2026.02.01"), *rows]) + b"\n")
    assert dataset(plain).fingerprint() != before
    assert len(list(dataset(plain).records())) == 12


def test_a_damaged_file_is_downloaded_again(server: Server) -> None:
    file = dataset().fetch()
    file.write_bytes(file.read_bytes()[:-40])
    server.asked.clear()
    assert len(found()) == 12
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "holds 0 of 0"), (b"[1]\n", "line 1"), (b'{"mp_id": "mp-1"}\n', "no file of the dataset"),
     (b'{"format": 1, "database": null, "crystals": 3}\n{"mp_id": "mp-1"}\n', "1 of 3 crystals"),
     (b'{"format": 1, "database"', "cannot be read")],
)  # fmt: skip
def test_another_file_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ZooError, match=words) as told:
        list(dataset(tmp_path / "x.jsonl").records())
    assert "zoo data fetch materials-project" in str(told.value)


def test_a_row_without_its_fields_cannot_be_read(tmp_path: Path) -> None:
    row = '{"format": 1, "database": null, "crystals": 1}\n{"mp_id": "mp-1"}\n'
    (tmp_path / "x.jsonl").write_text(row)
    (bad,) = dataset(tmp_path / "x.jsonl").records()
    assert isinstance(bad, BadRecord) and bad.key == "mp-1" and "missing" in bad.reason


def test_without_key_or_package_one_line_says_what_to_do(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MP_API_KEY")
    command = ("data", "fetch", "materials-project")
    refused(zoo(*command, cwd=tmp_path), "export MP_API_KEY", "dataset materials-project")
    monkeypatch.setitem(sys.modules, "mp_api", None)
    monkeypatch.delitem(sys.modules, "mp_api.client")
    refused(zoo(*command, cwd=tmp_path), 'pip install "crystal-tensor-zoo[mp]"')
    assert not server.asked


def test_a_server_that_is_down_or_mad_is_one_line(server: Server, tmp_path: Path) -> None:
    command = ("data", "fetch", "materials-project")
    server.fails = RuntimeError(f"REST query returned with error status code 403, x-api-key: {SECRET}")
    result = zoo(*command, cwd=tmp_path)
    refused(result, "refuses the key")
    assert SECRET not in result.stderr
    server.fails = None
    server.calculations, before = {}, server.calculations
    refused(zoo(*command, cwd=tmp_path), "names no crystal with a dielectric tensor", "newer mp-api")
    server.calculations = {key: Calculation(of.task_id, of.structure, None, None) for key, of in before.items()}
    refused(zoo(*command, cwd=tmp_path), "of 12 calculations none", "newer mp-api")


def test_the_key_is_in_no_file(server: Server, tmp_path: Path) -> None:
    found()
    assert server.keys == [SECRET]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and all(SECRET.encode() not in path.read_bytes() for path in files)


def test_twins_by_id(server: Server) -> None:
    (record, *_), other = found().values(), rutile(1).structure
    twin = Record("mine", other, {}, {"mp_id": record.key})
    assert [(pair.a, pair.by) for pair in twins([record], [twin])] == [(record.key, "id")]


def test_the_commands_know_it(server: Server, tmp_path: Path) -> None:
    result = zoo("data", "info", "materials-project", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "records   12" in result.stdout and "PBE 12" in result.stdout and "CC BY 4.0" in result.stdout
    checked = zoo("data", "check", "materials-project", cwd=tmp_path)
    assert "No tensor is over 0.05." in checked.stdout, checked.stderr
    assert "materials-project" in zoo("data", "list", cwd=tmp_path).stdout
    kinds = json.loads(zoo("cache", "--json", cwd=tmp_path).stdout)["kinds"]
    assert [(kind["kind"], kind["entries"]) for kind in kinds] == [("datasets", 1)]


def test_ids_are_written_in_two_ways() -> None:
    assert usual_id("mp-149") == usual_id("mp-aaaaaaft") == usual_id("aaaaaaft") == usual_id("mp-ft") == "mp-149"
    assert usual_id("mvc-12") == "mvc-12"
    assert usual_id("mp-hikaj") == f"mp-{7 * 26**4 + 8 * 26**3 + 10 * 26**2 + 9}"
    assert usual_id("mp-zzzzzz") == "mp-zzzzzz", "beyond the last that was a number"


def test_ids_of_newer_clients(server: Server) -> None:
    """They write those of calculations with letters in one document, with numbers in the other."""
    given = server.tasks

    def tasks(**asked: Any) -> list[Any]:
        found = given(**asked)
        for task in found:
            number, letters = int(task.task_id.removeprefix("mp-")), ""
            while number:
                number, digit = divmod(number, 26)
                letters = chr(ord("a") + digit) + letters
            task.task_id = f"mp-{letters.rjust(8, 'a')}"
        return found

    server.tasks = tasks  # type: ignore[method-assign]
    records = found()
    assert {record.properties["task_id"] for record in records.values()} == {f"mp-{9000 + i}" for i in range(12)}


def test_documents_may_be_dicts() -> None:
    assert part({"output": {"bandgap": 1.0}}, "output", "bandgap") == 1.0
    assert part({"output": None}, "output", "bandgap") is None
    assert part(object(), "input", "structure") is None


class TestConformance(DatasetTests):
    """The checks of every dataset."""

    dataset = "materials-project"

    @pytest.fixture(autouse=True)
    def _answers(self, server: Server) -> None:
        """Something answers."""
