"""What a user can put right: one line that names the fix, exit code 2, no traceback."""

from __future__ import annotations

import difflib
import errno
import types
import typing
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError


class ZooError(Exception):
    """Bad input or a missing part. The message is one line for the user and names the fix."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` or, where nothing is near, the list of what there is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" There is: {', '.join(known)}." if known else ""


def explain_validation(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """The first of pydantic's complaints as one line: where, what is wrong and, for an unknown key, the nearest one."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        return f"{where}: unknown key '{dotted}'.{did_you_mean(path[-1], known)}"
    if first["type"] == "missing":
        return f"{where}: the key '{dotted}' is missing"
    got = first.get("input")
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"{where}: {dotted}: {message}, got {got!r}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields of the model that `path` leads to."""
    for part in path:
        info = model.model_fields.get(part)
        inner = _model_in(info.annotation) if info is not None else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for choice in typing.get_args(annotation):
            found = _model_in(choice)
            if found is not None:
                return found
    return None


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def clear_disk_errors(folder: Path, fix: str = "choose another folder with --out") -> Iterator[None]:
    """Turn a full disk, or a folder that may not be written, into a ZooError that names the folder and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ZooError(f"the disk of {folder} is full: free some space or {fix}") from error
        if error.errno in _CLOSED:
            raise ZooError(f"{error.filename or folder} cannot be written: {error.strerror}; {fix}") from error
        raise
