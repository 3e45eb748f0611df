"""The page without a browser: files that are sent, models on offer, numbers for people, the command's errors."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli import refused, zoo
from pymatgen.core import Lattice, Structure

from zoo.contract.target import TensorTarget
from zoo.errors import ZooError
from zoo.evaluation.derived import describe
from zoo.inference.prediction import Prediction

pytest.importorskip("dash")

from plotly.utils import PlotlyJSONEncoder

from zoo.registry import box
from zoo.ui.app import create_app
from zoo.ui.models import MAX_ATOMS, Models
from zoo.ui.panel import Said, answer_tab, formula, keys, number
from zoo.ui.server import offered
from zoo.ui.uploads import MAX_BYTES, Crystal, crystals_of, structure_of

CIF = """data_x
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na 0 0 0 OCCUPANCY
Cl 0.5 0.5 0.5 1
"""


def url(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    return f"data:application/octet-stream;base64,{base64.b64encode(raw).decode()}"


def as_text(components: list[Any]) -> str:
    return json.dumps([one.to_plotly_json() for one in components], cls=PlotlyJSONEncoder, ensure_ascii=False)


def test_a_cif_and_a_poscar_are_read() -> None:
    assert len(structure_of("a.cif", url(CIF.replace("OCCUPANCY", "1")))) == 8
    cell = Structure(Lattice([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]), ["Si", "Si"], [[0, 0, 0], [0.25] * 3])
    found = structure_of("POSCAR", url(cell.to(fmt="poscar")))
    assert found.lattice.matrix == pytest.approx(cell.lattice.matrix), "its own frame"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("broken.cif", "data_x\n_cell_length_a 3\n", "cannot be read"),
        ("partly.cif", CIF.replace("OCCUPANCY", "0.5"), "partly occupied"),
        ("binary.cif", bytes(range(256)) * 40, "cannot be read"),
        ("empty.cif", "", "cannot be read"),
        ("photo.png", b"\x89PNG", "neither a CIF"),
        ("large.cif", "x" * (MAX_BYTES + 1), "5 MB"),
        (
            "many.cif",
            CIF.replace("OCCUPANCY", "1").replace("Na 0 0 0 1", "\n".join(f"Na 0.{n:03} 0.1 0.2 1" for n in range(9))),
            "atoms",
        ),
        ("../../etc/POSCAR", "nothing", "cannot be read"),
        ("POSCAR\n" + "x" * 500, "nothing", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_the_name_and_no_path_of_this_machine(
    name: str, content: str | bytes, words: str
) -> None:
    with pytest.raises(ZooError, match=words) as caught:
        structure_of(name, url(content))
    assert str(caught.value).startswith(f"{name}: ")
    assert "/tmp" not in str(caught.value)


def test_what_is_no_data_url_is_an_error_in_its_place() -> None:
    good = {"name": "a.cif", "content": url(CIF.replace("OCCUPANCY", "1"))}
    first, second, third = crystals_of([{"name": "x.cif", "content": "data:,%"}, good, {"name": "y", "error": "y: no"}])
    assert isinstance(first.structure, ZooError) and isinstance(third.structure, ZooError)
    assert isinstance(second.structure, Structure)


def test_only_models_on_offer_are_loaded(ensemble: Path) -> None:
    models = Models({str(ensemble / "run"): "run"}, "cpu")
    with pytest.raises(ZooError, match="not among"):
        models.ask(str(ensemble / "run" / "model"), [])
    assert models.get(str(ensemble / "run")).max_atoms == MAX_ATOMS


def test_a_crystal_that_fails_does_not_keep_the_others_from_an_answer(ensemble: Path) -> None:
    models = Models({str(ensemble / "run"): "run"}, "cpu")
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
    large = salt * (6, 6, 6)
    crystals = [
        Crystal("large", large),
        Crystal("salt", salt),
        Crystal("broken", ZooError("broken: no")),
        Crystal("salt again", salt),
    ]
    first, second, third, fourth = models.ask(str(ensemble / "run"), crystals)
    assert isinstance(first, ZooError) and "1,728 atoms" in str(first)
    assert isinstance(third, ZooError)
    assert second.polycrystalline == pytest.approx(fourth.polycrystalline, rel=1e-6)
    assert len(second.nearest) == 5 and second.coverage == 0.9
    narrow = models.ask(str(ensemble / "run"), crystals, coverage=0.5)[1]
    assert narrow.coverage == 0.5


def test_an_answer_is_at_the_level_of_theory_that_is_chosen(ensemble: Path) -> None:
    plain = str(ensemble / "run")
    models = Models({box.DEFAULT: "box", plain: "plain"}, "cpu")
    app = create_app(models)
    choose = next(one for key, one in app.callback_map.items() if "functional.options" in key)["callback"].__wrapped__
    options, value, said, disabled = choose(box.DEFAULT, "PBEsol")
    assert options == ["PBE", "PBEsol"] and value == "PBEsol" and said.startswith("PBE,") and not disabled
    assert choose(plain, "PBEsol")[:2] == ([], None) and choose(plain, None)[3]
    assert choose("no such model", None)[0] == []
    salt = Structure(Lattice([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
    asked = [Crystal("salt", salt)]
    own, first, other = (models.ask(box.DEFAULT, asked, functional=level)[0] for level in (None, "PBE", "PBEsol"))
    assert own.polycrystalline == first.polycrystalline != other.polycrystalline
    with pytest.raises(ZooError, match="PBEsol"):
        models.ask(plain, asked, functional="PBEsol")


def test_numbers_are_for_people() -> None:
    assert [number(x) for x in (1.23456, -1.5, -0.0001, 123.456, None, 1e40)] == [
        "1.235",
        "−1.500",
        "0.000",
        "123.5",
        "undefined",
        "over 100,000",
    ]
    low = [part.children for part in formula("K2Ti2O5") if not isinstance(part, str)]
    assert low == ["2", "2", "5"]


@pytest.mark.parametrize(
    ("target", "shape", "words"),
    [
        (TensorTarget("born", "ij", per_atom=True), (25, 3, 3), ["atom 20", "and 5 more"]),
        (TensorTarget("piezoelectric", "ijk=ikj", unit="C/m²"), (3, 3, 3), ["xyz"]),
        (TensorTarget("dipole", "i"), (3,), ["1.000"]),
        (TensorTarget("stress", "ij=ji", unit="GPa"), (3, 3), ["Eigenvalue λ₁, GPa"]),
    ],
)
def test_tensors_of_any_kind_are_written(
    ensemble: Path, target: TensorTarget, shape: tuple[int, ...], words: list[str]
) -> None:
    card = Models({str(ensemble / "run"): "run"}, "cpu").get(str(ensemble / "run")).card
    tensor = np.ones(shape)
    numbers = {} if target.per_atom else describe(tensor, target)
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )
    answer = Prediction(rutile, target, tensor, derived=numbers, spread=0.1 * tensor)
    total = Prediction(rutile, TensorTarget("total", quantity="dielectric"), np.eye(3))
    for said in ([Said("a", card, answer)], [Said("a", card, answer), Said("b", card, total)]):
        written = json.dumps(
            [part.to_plotly_json() for part in answer_tab(said)], cls=PlotlyJSONEncoder, ensure_ascii=False
        )
        assert all(word in written for word in words), written
        assert "difference" not in written, "of tensors of two kinds"


def test_an_answer_in_parts_has_a_column_and_a_tensor_for_each(ensemble: Path) -> None:
    card = Models({str(ensemble / "run"): "run"}, "cpu").get(str(ensemble / "run")).card

    def answer(name: str, value: float) -> Prediction:
        target = TensorTarget(name, quantity=f"{name} dielectric")
        tensor = value * np.eye(3)
        salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        return Prediction(salt, target, tensor, derived=describe(tensor, target))

    parts = {"electronic": answer("electronic", 3.25), "ionic": answer("ionic", 6.5)}
    said = [Said("a", card, dataclasses.replace(answer("total", 9.75), parts=parts))]
    for components in (answer_tab(said), keys(said)):
        written = as_text(components)
        assert all(f"{value:.3f}" in written for value in (3.25, 6.5, 9.75)), written


def test_files_that_cannot_be_read_are_counted_and_the_first_that_can_is_chosen(ensemble: Path) -> None:
    app = create_app(Models({str(ensemble / "run"): "run"}, "cpu"))
    read = next(one for key, one in app.callback_map.items() if "read.children" in key)
    files = [{"name": "a.cif", "content": url("")}, {"name": "b", "error": "b: too large"}]
    good = {"name": "c.cif", "content": url(CIF.replace("OCCUPANCY", "1"))}

    def said(files: list[dict[str, str]]) -> tuple[dict[str, Any], str]:
        call = read["callback"].__wrapped__
        options, value, hidden, words = call(files)
        assert hidden == (len(options) < 2)
        return {"options": options, "value": value}, json.dumps(
            [one.to_plotly_json() for one in words], cls=PlotlyJSONEncoder
        )

    choice, words = said([*files, good])
    assert choice == {"options": [{"label": "c.cif", "value": 2}], "value": 2}
    assert "1 of 3 read" in words and "b: too large" in words and "a.cif: cannot be read" in words
    choice, words = said(files)
    assert choice == {"options": [], "value": None} and "0 of 2 read" in words
    assert said([good]) == ({"options": [{"label": "c.cif", "value": 0}], "value": 0}, "[]")


def test_another_sites_name_for_this_machine_is_refused(ensemble: Path) -> None:
    client = create_app(Models({str(ensemble / "run"): "run"}, "cpu")).server.test_client()
    assert client.get("/", headers={"Host": "127.0.0.1:8050"}).status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_the_registry_is_offered_beside_the_model_that_is_named(
    ensemble: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained / 'mlflow.db'}")
    offer = offered(str(ensemble / "run"), "small-total", "cpu")
    assert (offer.first, offer.second) == (str(ensemble / "run"), "models:/small-total@champion")
    assert next(iter(offer.models.names.values())) == "run"
    # Other tests of this process may have registered more.
    assert offer.models.names["models:/small-total@champion"].startswith("small-total, champion (version ")
    registered = offered(None, None, "cpu")
    assert registered.first == next(iter(registered.models.names)) == box.DEFAULT
    assert "models:/small-total@champion" in registered.models.names
    assert str(ensemble / "run") not in registered.models.names


def test_without_a_registry_there_is_the_model_in_the_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in (None, "http://127.0.0.1:9"):
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        if uri is not None:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert list(offered(None, None, "cpu").models.names) == box.names()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    refused(zoo("ui", "nothing-here", "--no-browser", cwd=tmp_path), "nothing-here", box.DEFAULT)


def test_a_port_in_use_is_told(ensemble: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(zoo("ui", "run", "--no-browser", "--port", port, "--device", "cpu", cwd=ensemble), port, "--port")


def test_without_the_extra_it_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("zoo.cli.ui_command.find_spec", lambda name: None if name == "dash" else real(name))
    refused(zoo("ui", "--no-browser", cwd=tmp_path), 'pip install "crystal-tensor-zoo[ui]"')
