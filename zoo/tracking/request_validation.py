"""Validation of requests before MLflow's scoring server: bad ones get a 4xx and one sentence.

MLflow reads a body of any length into memory, answers what is no JSON with all of it, and fails on a request without a
content type. `zoo serve` puts `RequestValidation` before its app. Limits on crystals and atoms hold in the model itself
(`zoo.tracking.served_model`), under plain `mlflow models serve`, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any

from zoo.errors import did_you_mean

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

WORKER_SETTINGS = "ZOO_SERVE"
"""Environment variable by which `zoo serve` tells its worker processes the folder, the limits and its own number."""
PATH = "/invocations"
OPTIONS: dict[str, bool | int | float | str] = {
    "symprec": 0.0,
    "coverage": 0.9,
    "neighbours": 0,
    "explain": False,
    "functional": "",
}
"""The options of a request (its `params`) and their defaults; symprec 0 is off, functional "" the model's own."""

NO_OBJECT = "no object"
"""Key by which an element of `inputs` that is no object is passed on, with its type: it fails alone."""

WANTED = 'a list of crystals, each {"cif": "text of a CIF"} or {"structure": what pymatgen\'s Structure.as_dict gives}'
MOST_INT = 2**53  # of an option: larger whole numbers have no float of their own, or none at all
DRAINED = 16  # times the limit: so much of a body that is too long is read, and thrown away, before the answer


@dataclass(frozen=True)
class Limits:
    """Limits of a served model; MLflow's `model_config`, each can be set when it is served.

    Attributes:
        max_atoms: of a crystal.
        max_edges: of a crystal's graph: pairs of atoms within the encoder's cutoff.
        max_crystals: of a request.
        max_total_atoms: of all crystals of a request.
        max_megabytes: of the body of a request.
        max_seconds: of a prediction, which runs in a process that is then killed; 0: no limit, in this process.
    """

    max_atoms: int = 1_000
    max_edges: int = 200_000
    max_crystals: int = 1_000
    max_total_atoms: int = 20_000
    max_megabytes: int = 16
    max_seconds: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any] | None) -> Limits:
        """From a model_config, with the defaults for what it does not say."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: int(value) for name, value in (config or {}).items() if name in known})


class BadRequest(Exception):
    """A status and the sentence that goes with it."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class RequestValidation:
    """ASGI middleware that validates what is posted to MLflow's `/invocations`."""

    def __init__(self, app: App, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:  # noqa: D102 ASGI
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            headers = dict(scope["headers"])
            if sum(name == b"content-type" for name, _ in scope["headers"]) > 1:
                raise _bad("there are two Content-Type headers; send one, Content-Type: application/json")
            body = await self._body(headers, receive)
            body = await asyncio.to_thread(
                checked, body, headers.get(b"content-type", b"").decode("latin-1"), self.limits
            )
        except BadRequest as error:
            await _answer(send, error.status, error.status.name, str(error))
            return
        await self.app(scope, _Replay(body, receive), _OneSentence(send))

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """All of it, in memory only if it is within the limit.

        Raises:
            BadRequest: it is not.
        """
        most = self.limits.max_megabytes * 10**6
        parts: list[bytes] = []
        seen, more = 0, True
        while more and seen <= DRAINED * most:  # a client that still sends would not see an answer
            message = await receive()
            if message["type"] != "http.request":
                raise BadRequest(HTTPStatus.BAD_REQUEST, "the request ended before its body did")
            part = message.get("body", b"")
            seen, more = seen + len(part), message.get("more_body", False)
            parts.append(part)
            if seen > most:
                parts.clear()
        if seen > most:
            size = int(headers.get(b"content-length", b"0")) or seen
            told = f"the body has {size / 1e6:.0f} MB, the limit is {self.limits.max_megabytes} MB"
            raise BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{told}: ask for fewer crystals at a time")
        return b"".join(parts)


def checked(body: bytes, content_type: str, limits: Limits) -> bytes:
    """The body for MLflow: `inputs`, a list of objects, and `params` that the model knows.

    One crystal becomes a list of one; what is no object becomes one that says so, to fail alone.

    Raises:
        BadRequest: it is no such thing.
    """
    kind, _, charset = content_type.lower().partition(";")
    if kind.strip() != "application/json" or charset.strip().replace('"', "") not in ("", "charset=utf-8"):
        told = f"the content type is '{content_type[:80]}'" if content_type else "there is no content type"
        raise BadRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{told}; send JSON, as Content-Type: application/json")
    if not body.strip():
        raise _bad(f'the body is empty; send {{"inputs": {WANTED}}}')
    try:
        content = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise _bad("the body is no JSON: it is not text in UTF-8") from None
    except RecursionError:
        raise _bad("the body is nested too deeply") from None
    except ValueError as error:
        raise _bad(f"the body is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise _bad(f'the body is no JSON object; send {{"inputs": {WANTED}}}')
    unknown = next((key for key in content if key not in ("inputs", "params")), None)
    if unknown is not None:
        raise _bad(f"unknown key '{unknown[:40]}'.{did_you_mean(unknown, ('inputs', 'params'))}")
    if "inputs" not in content:
        raise _bad(f'the key "inputs" is missing: {WANTED}')
    _check_options(content.get("params"))
    crystals = content["inputs"]
    if isinstance(crystals, dict):
        crystals = [crystals]
    if not isinstance(crystals, list) or not crystals:
        raise _bad(f'"inputs" is {"empty" if crystals == [] else "no list"}; it is {WANTED}')
    if len(crystals) > limits.max_crystals:
        raise _bad(f"{len(crystals):,} crystals in one request, at most {limits.max_crystals:,} are answered")
    asked = [one if isinstance(one, dict) else {NO_OBJECT: type(one).__name__} for one in crystals]
    return body if asked == content["inputs"] else json.dumps({**content, "inputs": asked}).encode()


def _check_options(params: Any) -> None:
    if params is None:
        return
    if not isinstance(params, dict):
        raise _bad('"params" is no object of options')
    for name, value in params.items():
        if name not in OPTIONS:
            raise _bad(f"unknown option '{name[:40]}'.{did_you_mean(name, OPTIONS)}")
        if isinstance(OPTIONS[name], bool):
            if not isinstance(value, bool):
                raise _bad(f"the option '{name}' is neither true nor false")
            continue
        if isinstance(OPTIONS[name], str):
            if not isinstance(value, str):
                raise _bad(f"the option '{name}' is no text")
            continue
        if isinstance(value, bool) or not isinstance(value, int if isinstance(OPTIONS[name], int) else (int, float)):
            raise _bad(f"the option '{name}' is no {'whole ' if isinstance(OPTIONS[name], int) else ''}number")
        if isinstance(value, int) and abs(value) > MOST_INT:
            raise _bad(f"the option '{name}' is too large a number")


def _bad(sentence: str) -> BadRequest:
    return BadRequest(HTTPStatus.BAD_REQUEST, sentence)


class _Replay:
    """Receives the body that has been read, then what comes after it."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body: bytes | None = body
        self.receive = receive

    async def __call__(self) -> Message:
        if self.body is None:
            return await self.receive()
        message = {"type": "http.request", "body": self.body, "more_body": False}
        self.body = None
        return message


class _OneSentence:
    """Sends an answer on; of an error the code and one line, without the stack trace and the echo of the request."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.status: int | None = None
        self.parts: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            self.status = message["status"]
        elif self.status is None:
            await self.send(message)
        elif message["type"] == "http.response.body":
            self.parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._tell(b"".join(self.parts).decode("utf-8", "replace"))

    async def _tell(self, text: str) -> None:
        assert self.status is not None
        code = HTTPStatus(self.status).name
        with contextlib.suppress(ValueError, KeyError, TypeError):  # the time limit's answer is plain text
            found = json.loads(text)
            code, text = found["error_code"], found["message"]
        sentence = text.rsplit("\nError: ", 1)[-1].strip().partition("\n")[0]
        await _answer(self.send, HTTPStatus(self.status), code, sentence[:500])


async def _answer(send: Send, status: HTTPStatus, code: str, sentence: str) -> None:
    body = json.dumps({"error_code": code, "message": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
