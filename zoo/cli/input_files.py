"""Crystals that a command is given: files, folders, standard input, and the option that names their format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zoo.data.crystal_files import NamedCrystal


def _known(context: click.Context, option: click.Parameter, given: str | None) -> str | None:
    from zoo.data.file_kinds import kind_named

    return None if given is None else kind_named(given)


input_format: Any = click.option(
    "--input-format",
    metavar="NAME",
    callback=_known,
    help="Of all files, as cif, poscar, json, extxyz, traj, db, xsf, pwi; default: by name, else by content.",
)
"""Option of a command that reads crystals."""


def read_crystals(files: Iterable[str], kind: str | None) -> Iterator[NamedCrystal]:
    """Yield the crystals of all files, with a line on stderr about each folder; see `crystals_in`."""
    from zoo.data.crystal_files import crystals_in

    return crystals_in(files, kind, lambda line: click.echo(line, err=True))
