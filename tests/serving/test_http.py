"""A served model answers as Python and the command line do."""

from __future__ import annotations

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from cli import zoo
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation
from scoring import Server

from zoo.data.petousis2017 import Petousis2017
from zoo.inference.predictor import Predictor


def as_json(answer: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(answer))


def test_a_cif_is_answered_with_the_json_of_the_command_line(served: Server, trained: Path) -> None:
    shown = json.loads(zoo("predict", "run", "NaCl.cif", "--format", "json", cwd=trained).stdout)[0]
    assert shown.pop("file") == "NaCl.cif"
    assert served.answers([{"cif": (trained / "NaCl.cif").read_text()}]) == [shown]


def test_a_dict_as_an_object_and_as_text_is_answered_as_in_python(
    served: Server, predictor: Predictor, crystals: list[Structure]
) -> None:
    asked = crystals[3]
    wanted = [as_json(predictor.predict(asked).as_dict())]
    assert served.answers([{"structure": asked.as_dict()}]) == wanted
    assert served.answers([{"structure": json.dumps(asked.as_dict())}]) == wanted


def test_one_crystal_needs_no_list(served: Server, salt: dict[str, Any]) -> None:
    assert served.answers(salt) == served.answers([salt])


def test_many_are_answered_in_order(served: Server, predictor: Predictor, crystals: list[Structure]) -> None:
    wanted = predictor.predict(crystals)
    for answer, expected in zip(served.answers([{"structure": s.as_dict()} for s in crystals]), wanted, strict=True):
        assert answer == as_json(expected.as_dict())


def test_one_bad_crystal_fails_alone(served: Server, salt: dict[str, Any], crystals: list[Structure]) -> None:
    halved = crystals[0].copy()
    halved[0] = {halved[0].specie.symbol: 0.5}
    close = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.01, 0, 0]])
    bad: dict[str, Any] = {
        "cannot be read": {"cif": "garbage"},
        "no text": {"cif": 5},
        "'cif'?": {"cfi": "x"},
        "'cif' or": {},
        "partly occupied": {"structure": halved.as_dict()},
        "0.5 Å apart": {"structure": close.as_dict()},
        "pymatgen": {"structure": [1, 2]},
        "no JSON object": {"structure": "{"},
        "type str": "a string",
        "NoneType": None,
    }
    answers = served.answers([salt, *bad.values(), salt])
    for words, answer in zip(bad, answers[1:-1], strict=True):
        assert answer.keys() == {"error"}
        assert words in answer["error"] and "\n" not in answer["error"]
    assert answers[0]["formula"] == "NaCl"
    np.testing.assert_allclose(answers[0]["tensor"], answers[-1]["tensor"], atol=1e-5)


def test_a_request_without_a_good_crystal_is_a_400_with_the_first_reason(served: Server) -> None:
    response = served.ask([{"cif": "garbage"}, {}])
    assert response.status_code == 400
    assert response.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "the CIF: " in response.json()["message"]


def test_options_reach_the_predictor(served: Server, predictor: Predictor, crystals: list[Structure]) -> None:
    options: dict[str, Any] = {"symprec": 0.01, "coverage": 0.5, "neighbours": 2}
    wanted = predictor.predict(crystals[1], **options).as_dict()
    assert served.answers([{"structure": crystals[1].as_dict()}], **options) == [as_json(wanted)]
    assert served.ask([{"structure": crystals[1].as_dict()}], coverage=0.55).status_code == 400


def test_the_answer_turns_with_the_crystal(served: Server, predictor: Predictor) -> None:
    """Rotated, mirrored, shifted, its atoms in another order, repeated."""
    crystals = [record.structure for record in list(Petousis2017(Petousis2017.Hypers()).records())[::5]]
    _, plain = max(
        zip(predictor.predict(crystals), crystals, strict=True), key=lambda pair: anisotropic(pair[0].tensor)
    )
    rotation = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    turned = {
        "rotated": (rotation, moved(plain, rotation)),
        "mirrored": (-rotation, moved(plain, -rotation)),
        "shifted": (np.eye(3), moved(plain, shift=[0.31, 0.12, -0.4])),
        "permuted": (np.eye(3), moved(plain, order=list(reversed(range(len(plain)))))),
        "repeated": (np.eye(3), plain.copy().make_supercell([2, 1, 1], in_place=False)),
    }
    asked = [plain, *(crystal for _, crystal in turned.values())]
    tensor, *others = [
        np.array(answer["tensor"]) for answer in served.answers([{"structure": s.as_dict()} for s in asked])
    ]
    size = np.abs(tensor).max()
    assert anisotropic(tensor) > 1e-4  # ten times what is tolerated below: else nothing turns
    for (name, (operation, _)), other in zip(turned.items(), others, strict=True):
        np.testing.assert_allclose(other, operation @ tensor @ operation.T, atol=1e-5 * size, err_msg=name)


def anisotropic(tensor: np.ndarray) -> float:
    """Its share that is no multiple of the unit tensor."""
    return float(np.linalg.norm(tensor - tensor.trace() / 3 * np.eye(3)) / np.linalg.norm(tensor))


def moved(
    crystal: Structure,
    rotation: np.ndarray | None = None,
    shift: list[float] | None = None,
    order: list[int] | None = None,
) -> Structure:
    lattice = Lattice(crystal.lattice.matrix @ (np.eye(3) if rotation is None else rotation.T))
    sites = [crystal[i] for i in order or range(len(crystal))]
    fractions = [site.frac_coords + (shift or [0, 0, 0]) for site in sites]
    return Structure(lattice, [site.specie for site in sites], fractions)


def test_concurrent_clients_get_the_numbers_of_python(
    served: Server, predictor: Predictor, crystals: list[Structure]
) -> None:
    wanted = {s.composition.reduced_formula: p for s, p in zip(crystals, predictor.predict(crystals), strict=True)}

    def ask(client: int) -> list[dict[str, Any]]:
        mine = [crystals[(client + i) % len(crystals)] for i in range(len(crystals))]
        return [served.answers([{"structure": structure.as_dict()}])[0] for structure in mine]

    with ThreadPoolExecutor(4) as clients:
        for answer in [answer for answers in clients.map(ask, range(4)) for answer in answers]:
            expected = wanted[answer["formula"]].tensor
            np.testing.assert_allclose(answer["tensor"], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_health_and_version_are_mlflow_s_own(served: Server) -> None:
    assert requests.get(f"{served.url}/ping", timeout=10).status_code == 200
    assert requests.get(f"{served.url}/version", timeout=10).text.count(".") >= 2
    assert requests.get(f"{served.url}/invocations", timeout=10).status_code == 405


@pytest.mark.parametrize("kind", ["cif", "structure"])
def test_nothing_but_answers_is_left_of_a_request(served: Server, salt: dict[str, Any], kind: str) -> None:
    """No trace of the crystal in an error: MLflow would echo the whole request."""
    marked = {kind: "MARK " * 1000}
    assert "MARK MARK" not in served.ask([marked]).text


def test_an_idle_connection_is_not_closed_while_its_client_thinks(served: Server) -> None:
    """Uvicorn's own limit is 5 s: a request that a client sends at that moment gets no answer."""
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=120)
    for pause in (6, 0):
        connection.request("GET", "/ping")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        time.sleep(pause)
    connection.close()
