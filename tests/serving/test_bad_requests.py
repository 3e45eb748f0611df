"""What is no question gets a 4xx and one sentence; the server lives on and keeps nothing of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pymatgen.core import Lattice, Structure
from scoring import Server

from zoo.tracking.request_validation import PATH, BadRequest, Limits, RequestValidation, checked

GOOD = b'{"inputs": [{"cif": "x"}]}'


def sentence(response: requests.Response, status: int) -> str:
    assert response.status_code == status, response.text[:500]
    content = response.json()
    assert content.keys() == {"error_code", "message"}
    message = content["message"]
    assert message and "\n" not in message and "Traceback" not in message and len(message) <= 500
    return message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b"  \n ", "is empty"),
        (b"{", "is no JSON"),
        (b"nonsense", "is no JSON"),
        (bytes(range(256)), "UTF-8"),
        (b"\x1f\x8b\x08\x00" + bytes(200), "is no JSON"),
        (b"[1, 2]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"{}", '"inputs" is missing'),
        (b'{"inputs": []}', '"inputs" is empty'),
        (b'{"inputs": "x"}', '"inputs" is no'),
        (b'{"inputs": null}', '"inputs" is no'),
        (b'{"input": []}', "'inputs'?"),
        (b'{"instances": []}', "unknown key 'instances'"),
        (b'{"dataframe_split": {}}', "unknown key 'dataframe_split'"),
        (b'{"inputs": [{"cif": "x"}], "params": 3}', '"params" is'),
        (b'{"inputs": [{"cif": "x"}], "params": {"coverge": 1}}', "'coverage'?"),
        (b'{"inputs": [{"cif": "x"}], "params": {"coverage": "x"}}', "'coverage' is"),
        (b'{"inputs": [{"cif": "x"}], "params": {"neighbours": 1.5}}', "'neighbours' is"),
        (b'{"inputs": [{"cif": "x"}], "params": {"functional": 3}}', "'functional' is"),
        (b'{"inputs": [{"cif": "x"}], "params": {"coverage": 1' + b"0" * 400 + b"}}", "'coverage' is too large"),
        (b'{"inputs": [{"cif": "x"}], "params": {"neighbours": -1' + b"0" * 400 + b"}}", "'neighbours' is too large"),
        (b'{"inputs": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"inputs": [{"structure": ' + b'{"lattice":' * 400 + b"1" + b"}" * 400 + b"}]}", "pymatgen"),
        (b'{"inputs": [{"cif": "' + b"x" * 5_000_000 + b'"}]}', "5,000,000 characters"),
        (b'{"inputs": [' + b"{}," * 1000 + b"{}]}", "1,001 crystals"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_wrong_bodies(served: Server, body: bytes, words: str) -> None:
    assert words in sentence(served.post(body), 400)


@pytest.mark.parametrize("option", ["coverage", "neighbours", "symprec"])
def test_an_option_of_hundreds_of_digits(option: str) -> None:
    """No float holds it: refused before the model sees it."""
    body = json.dumps({"inputs": [{"cif": "x"}], "params": {option: 10**400}}).encode()
    with pytest.raises(BadRequest, match=f"'{option}' is too large"):
        checked(body, "application/json", Limits())


@pytest.mark.parametrize("content_type", [None, "text/csv", "text/plain", "application/vnd.apache.parquet"])
def test_another_content_type(served: Server, content_type: str | None) -> None:
    assert "Content-Type: application/json" in sentence(served.post(GOOD, content_type), 415)


def test_the_charset_may_be_said(served: Server, salt: dict[str, Any]) -> None:
    body = json.dumps({"inputs": [salt]}).encode()
    assert served.post(body, "application/json; charset=utf-8").status_code == 200
    assert "application/json" in sentence(served.post(body, "application/json; charset=latin-1"), 415)


def test_crystals_that_no_model_can_answer(served: Server, salt: dict[str, Any]) -> None:
    unknown = salt["cif"].replace("\nNa ", "\nXx ")
    assert "'Xx'" in sentence(served.ask([{"cif": unknown}]), 400)
    shared = salt["cif"].replace("_fract_z\n", "_fract_z\n_atom_site_occupancy\n").replace("0 0 0\n", "0 0 0 0.5\n")
    assert "partly occupied" in sentence(served.ask([{"cif": shared.replace("0.5 0.5 0.5\n", "0.5 0.5 0.5 1\n")}]), 400)
    large = Structure(Lattice.cubic(5.64), ["Na"] * 4 + ["Cl"] * 4, [[0, 0, 0]] * 8).make_supercell([5, 10, 25])
    assert len(large) == 10_000
    for crystal in ({"structure": large.as_dict()}, {"cif": p1(large)}):
        assert "10,000 atoms" in sentence(served.ask([crystal]), 400)


def p1(crystal: Structure) -> str:
    """As a CIF without symmetry, which pymatgen takes long to write."""
    lattice = crystal.lattice
    lines = ["data_x"]
    lines += [f"_cell_length_{name} {length}" for name, length in zip("abc", lattice.abc, strict=True)]
    names = ("alpha", "beta", "gamma")
    lines += [f"_cell_angle_{name} {angle}" for name, angle in zip(names, lattice.angles, strict=True)]
    lines += ["loop_", "_atom_site_label", *(f"_atom_site_fract_{axis}" for axis in "xyz")]
    lines += [f"{site.specie} {site.a:.5f} {site.b:.5f} {site.c:.5f}" for site in crystal]
    return "\n".join(lines)


def test_a_request_of_too_many_atoms_is_refused_before_any_is_predicted(served: Server) -> None:
    cell = Structure(
        Lattice.cubic(30), ["Na"] * 900, [[i % 10 / 10, i // 10 % 10 / 10, i // 100 / 10] for i in range(900)]
    )
    response = served.ask([{"structure": cell.as_dict(verbosity=0)}] * 23)
    assert "20,700 atoms" in sentence(response, 400)


def zeros(megabytes: int) -> Iterator[bytes]:
    for _ in range(megabytes):
        yield bytes(10**6)


def test_a_body_of_50_mb_is_a_413_and_leaves_no_memory_behind(served: Server) -> None:
    """With a length, without one, and as valid JSON."""
    valid = b'{"inputs": [{"cif": "' + b"x" * 50 * 10**6 + b'"}]}'

    def once() -> None:
        for body in (bytes(50 * 10**6), zeros(50), valid):
            assert "16 MB" in sentence(served.post(body), 413)

    once()
    before = served.resident()
    for _ in range(4):
        once()
    assert served.resident() < before + 25


def test_bodies_within_the_limit_leave_no_memory_behind(served: Server) -> None:
    """What an allocator keeps for the next request comes to an end; bodies that are kept do not."""
    size, count = 15, 20
    body = b'{"inputs": [{"cif": "' + b"x" * size * 10**6 + b'"}]}'
    for _ in range(count // 2):
        sentence(served.post(body), 400)
    before = served.resident()
    for _ in range(count):
        sentence(served.post(body), 400)
    assert served.resident() - before < 0.5 * size * count


def test_after_all_that_it_answers(served: Server, salt: dict[str, Any]) -> None:
    assert served.answers([salt])[0]["formula"] == "NaCl"


def test_two_content_types() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": GOOD}

    async def app(*_: Any) -> None:
        pytest.fail("MLflow takes the first of the two, and would fail on it")

    types = [(b"content-type", b"text/csv"), (b"content-type", b"application/json")]
    scope = {"type": "http", "path": PATH, "method": "POST", "headers": types}
    asyncio.run(RequestValidation(app, Limits())(scope, receive, send))
    assert sent[0]["status"] == 400
    assert "two Content-Type headers" in json.loads(sent[1]["body"])["message"]
