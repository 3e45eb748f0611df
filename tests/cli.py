"""The command line, called in this process: as a user's call, exit code and streams included, without the start-up."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from quick import small_pictures

from zoo.cli import main


@dataclass(frozen=True)
class Result:
    returncode: int
    stdout: str
    stderr: str


def zoo(*arguments: str, cwd: Path) -> Result:
    """`zoo ARGUMENTS...` in the folder `cwd`."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        small_pictures(),
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", ["zoo", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def refused(result: Result, *words: str) -> None:
    """One clear line on stderr, exit code 2, no traceback."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("zoo: "), result.stderr
    for word in words:
        assert word in last, last


def accept(path: Path) -> None:
    """Delete the checksum of a file that was changed on purpose, as the line about it says."""
    sums = path.with_name("checksums.json")
    entries = json.loads(sums.read_text())
    del entries[path.name]
    sums.write_text(json.dumps(entries))
