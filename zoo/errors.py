"""Errors that a user can correct: one line that names the fix, exit code 2, no traceback."""

from __future__ import annotations

import difflib
import errno
import re
import reprlib
import types
import typing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError


class ZooError(Exception):
    """Error that the user can correct. The message is one line and names the fix."""


class LeftAlone(ZooError):
    """Another process of the same training has ended; that process, or the launcher, reports the reason."""


class CalculationFailed(Exception):
    """A crystal has no result, and would have none if it were asked for again; the message says why, in one line."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` or, if no known name is similar, the list of known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" There is: {', '.join(known)}." if known else ""


def explain_validation(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Turn pydantic's first error into one line: where, what is wrong and, for an unknown key, the most similar one."""
    first = error.errors()[0]
    # Of a value that may be of several types, pydantic adds the type to the path: `layer.int`.
    path = [str(part) for part in first["loc"] if not _TYPE.fullmatch(str(part))]
    dotted = _start(".".join(path))
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        return f"{where}: unknown key '{dotted}'.{did_you_mean(path[-1][:_SHOWN], known)}"
    if first["type"] == "missing":
        return f"{where}: the key '{dotted}' is missing"
    got = first.get("input")
    message = first["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list")
    message = message[:1].lower() + message[1:]
    subject = "" if path and message.startswith(f"{path[-1]} is ") else f"{dotted}: "
    return f"{where}: {subject}{message}, got {_start(_SHORT.repr(got))}"


# A key or a value may be megabytes, or lists in lists in lists: the beginning tells enough.
_SHOWN = 200
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = _SHOWN
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 10
_SHORT.maxlevel = 4


def _start(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_TYPE = re.compile(r"int|str|float|bool|literal\[.*\]|(tuple|list|dict|constrained-\w+|function-\w+)\[.*\]")


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the field names of the model at `path`; in a dict of models, the part with the entry's name is skipped."""
    parts = iter(path)
    for part in parts:
        info = model.model_fields.get(part)
        inner = _model_in(info.annotation) if info is not None else None
        if info is None or inner is None:
            return []
        if typing.get_origin(info.annotation) is dict:
            next(parts, None)
        model = inner
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, dict):
        for choice in typing.get_args(annotation):
            model = _model_in(choice)
            if model is not None:
                return model
    return None


_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK_FULL_WORDS = (
    "No space left on device",
    "File too large",
    "database or disk is full",
    "PytorchStreamWriter failed writing file",
    "inline_container.cc",  # torch.save: "unexpected pos 576 vs 534"
)
_CANNOT_WRITE = {errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


@contextmanager
def clear_disk_errors(folder: Path, fix: str = "choose another folder with --out") -> Iterator[None]:
    """Turn an error of writing into a folder into a ZooError that names `folder` and `fix`.

    These errors are a full disk, a quota, a missing permission and a file in place of the folder. torch, safetensors
    and SQLite wrap a full disk in errors of their own, which are recognised by their message.
    """
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        number, reason = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
        if number in _DISK_FULL or any(words in str(error) for words in _DISK_FULL_WORDS):
            raise ZooError(f"no space left for {folder}: free some, or {fix}") from error
        if number in _CANNOT_WRITE:
            raise ZooError(f"cannot write in {folder} ({reason}): {fix}") from error
        raise
