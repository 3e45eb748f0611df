"""Download of a file over HTTP: resumed where it broke off, checked against its SHA-256, renamed when complete."""

from __future__ import annotations

import hashlib
from pathlib import Path

import requests
from filelock import FileLock
from tqdm import tqdm

from zoo.errors import ZooError, clear_disk_errors

ATTEMPTS = 8
TIMEOUT = 30.0
"""Seconds without a byte after which an attempt is given up."""
_CHUNK = 1 << 18


def download(url: str, sha256: str, destination: Path) -> Path:
    """Return `destination`, downloaded from `url` unless it exists; a broken download (`*.part`) is continued.

    Raises:
        ZooError: no connection, another checksum, or a full disk; the line says what to do by hand.
    """
    part = destination.with_name(f"{destination.name}.part")
    with clear_disk_errors(destination.parent, fix="set ZOO_CACHE to another folder"):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{destination}.lock"):  # two runs at once would write into one another's part
            if destination.is_file():
                wrong = _wrong_checksum(destination, sha256)
                if wrong:
                    raise ZooError(f"{destination} has {wrong}; delete it and it is downloaded anew from {url}")
                return destination
            _download_part(url, part, destination)
            wrong = _wrong_checksum(part, sha256)
            if wrong:
                part.unlink()
                raise ZooError(f"what {url} sent has {wrong}; try again, or place the right file at {destination}")
            part.replace(destination)
    return destination


def _wrong_checksum(path: Path, sha256: str) -> str | None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == sha256 else f"the wrong checksum (sha256 {found[:12]}…, expected {sha256[:12]}…)"


def _download_part(url: str, part: Path, destination: Path) -> None:
    """Continue until the part is as long as the server says, or until an attempt brings nothing."""
    by_hand = f"download {url} by hand and place it at {destination}"
    for _ in range(ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            if _attempt(url, part, before, destination.name):
                return
        except requests.RequestException as error:
            if (part.stat().st_size if part.exists() else 0) == before:
                raise ZooError(f"cannot download {destination.name} ({_reason(error)}); {by_hand}") from None
    raise ZooError(f"the connection broke {ATTEMPTS} times; run again to continue, or {by_hand}")


def _attempt(url: str, part: Path, have: int, name: str) -> bool:
    """Make one request; return True when the file is complete.

    Raises:
        requests.RequestException: no connection, it broke, or a refusal.
    """
    # identity: a compressed transfer could neither be continued nor measured.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            size = response.headers.get("Content-Range", "").removeprefix("bytes */")
            if size == str(have):
                return True
            part.unlink()  # longer than the file: not a part of it
            return False
        response.raise_for_status()
        continued = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if response.status_code == requests.codes.partial_content and continued else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(desc=name, total=total, initial=start, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        return total is None or part.stat().st_size >= total


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    return "the connection broke" if isinstance(error, requests.exceptions.ChunkedEncodingError) else "no connection"
