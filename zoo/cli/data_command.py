"""`zoo data`: look at datasets, check and fetch them."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.mptrj_command import mptrj

if TYPE_CHECKING:
    from zoo.contract.plugin import Record
    from zoo.contract.target import TensorTarget
    from zoo.data.frame import SymmetryViolation
    from zoo.data.twins import Twin

FORMATS = click.Choice(["table", "json", "csv"])


@click.group("data")
def data_command() -> None:
    """Look at datasets, check and fetch them."""


data_command.add_command(mptrj)


@data_command.command("list")
def list_datasets() -> None:
    """List the datasets that a recipe can name."""
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.config import plugins

    table = Table(box=None, header_style="bold")
    for column in ("name", "what it is", "package"):
        table.add_column(column)
    for name, point in plugins.available("dataset").items():
        table.add_row(name, _first_line(plugins.load("dataset", name)), plugins.origin(point))
    console().print(table)
    click.echo("\nzoo data info NAME says more; zoo data check NAME tests its tensors against the crystals' symmetry.")


@data_command.command("info")
@click.argument("source")
def info(source: str) -> None:
    """Targets, number of records by level of theory, and licence of a dataset.

    SOURCE is the name of a dataset, its name and settings as in a recipe, a file of your own, or a recipe.

    \b
    zoo data info petousis2017
    zoo data info '{name: phonondb2018, path: FOLDER}'
    """
    from zoo.cli.source import open_source
    from zoo.contract.plugin import BadRecord

    name, dataset, _ = open_source(source, None, "ij=ji")
    bad: list[BadRecord] = []
    readable = 0
    levels = Counter[str]()
    holding: dict[str, Counter[str]] = defaultdict(Counter)
    left_out = Counter[tuple[str, str]]()
    for record in dataset.records():
        if isinstance(record, BadRecord):
            bad.append(record)
            continue
        readable += 1
        levels[record.functional] += 1
        for label in record.targets:
            holding[label][record.functional] += 1
        if record.force_constants is not None:
            holding["force_constants"][record.functional] += 1
        left_out.update(record.left_out.items())
    click.echo(f"{name}: {_first_line(type(dataset))}")
    click.echo(f"records   {readable:,}" + (f", and {len(bad):,} that cannot be read" if bad else ""))
    click.echo(f"theory    {_by_level(levels)}")
    for target in dataset.targets().values():
        quantity = f", {target.quantity}" if target.quantity else ""
        count = holding[target.name]
        click.echo(
            f"target    {target.name} ({target.formula}, unit {target.unit}{quantity}): {count.total():,} crystals "
            f"({_by_level(count)})"
        )
    if "force_constants" in holding:
        count = holding["force_constants"]
        click.echo(f"label     force_constants (Φ at Γ, eV/Å²): {count.total():,} crystals ({_by_level(count)})")
    for (label, reason), number in left_out.items():
        click.echo(f"left out  {label} of {number:,}: {reason}")
    click.echo(f"licence   {dataset.licence}")
    _say_bad([{"key": record.key, "reason": record.reason} for record in bad])


@data_command.command("fetch")
@click.argument("name")
def fetch(name: str) -> None:
    """Download a dataset now, so that runs need no network later.

    A broken download is continued; the file is checked against its checksum.
    """
    from zoo.cli.source import open_source

    _, dataset, _ = open_source(name, None, "ij=ji")
    place = dataset.fetch()
    click.echo(f"{name} is at {place}" if place is not None else f"{name} needs no download")


@data_command.command("export")
@click.argument("source")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--target", help="The tensor in a file of your own; by default total.")
@click.option("--formula", default="ij=ji", show_default=True, help="Index symmetry of the tensor in a file.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many records, by key.")
def export(source: str, folder: Path, target: str | None, formula: str, limit: int | None) -> None:
    """Write a dataset as a folder of CIFs and a CSV of tensors.

    SOURCE is the name of a dataset, a file of your own, or a recipe. The tensors are turned into the frame in which
    the CIFs are read: c along z, a in the xz plane.

    \b
    zoo data export petousis2017 my_data --limit 200
    """
    from zoo.cli.source import open_source
    from zoo.contract.plugin import BadRecord
    from zoo.data.export import export
    from zoo.errors import ZooError, clear_disk_errors

    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ZooError(f"{folder} is not empty; choose another folder")
    name, dataset, _ = open_source(source, target, formula)
    found = list(dataset.records())
    records = sorted((r for r in found if not isinstance(r, BadRecord)), key=lambda record: record.key)
    with clear_disk_errors(folder, fix="choose another folder"):
        table = export(records[:limit], dataset.targets().values(), folder)
    click.echo(f"{name}: {len(list((folder / 'cif').iterdir())):,} crystals are in {table} and {folder / 'cif'}")
    _say_bad([{"key": record.key, "reason": record.reason} for record in found if isinstance(record, BadRecord)])


@data_command.command("check")
@click.argument("source")
@click.option("--target", help="Which tensor; by default a recipe's, else total where there is one.")
@click.option("--formula", default="ij=ji", show_default=True, help="Index symmetry of the tensor in a file.")
@click.option("--tolerance", default=0.05, show_default=True, help="Largest relative residual.")
@click.option("--symprec", default=0.01, show_default=True, help="Tolerance of the symmetry search, Å.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def check(source: str, target: str | None, formula: str, tolerance: float, symprec: float, form: str) -> None:
    """Check that tensors are in the Cartesian frame of their structures.

    SOURCE is the name of a dataset, a file of your own, or a recipe. A tensor must be invariant under the point group
    of its own crystal; the residual is the largest relative change by one of the operations. A large one says that the
    structure was re-oriented after the calculation, or that the calculation was not converged.

    \b
    zoo data check petousis2017
    zoo data check my_tensors.json --target electronic --format csv > residuals.csv
    """
    from tqdm import tqdm

    from zoo.cli.source import open_source
    from zoo.contract.plugin import BadRecord
    from zoo.data.frame import violation
    from zoo.errors import ZooError

    if not (0 < tolerance < math.inf and 0 < symprec < math.inf):  # nan is neither
        raise ZooError("--tolerance and --symprec must be finite and greater than 0")
    name, dataset, wanted = open_source(source, target, formula)
    bad: list[dict[str, str]] = []
    violations: list[SymmetryViolation] = []
    without = 0
    for record in tqdm(dataset.records(), desc="symmetry", unit=" crystals", disable=None, leave=False):
        if isinstance(record, BadRecord):
            bad.append({"key": record.key, "reason": record.reason})
        elif wanted.name in record.targets:
            violations.append(violation(record, wanted, symprec))
        else:
            without += 1
    if not violations:
        first = f"; the first: {bad[0]['key']}, {bad[0]['reason']}" if bad else ""
        raise ZooError(f"{name} has no readable record with '{wanted.name}'{first}")
    if form == "csv":
        _write_csv(violations, tolerance)
    elif form == "json":
        _write_json(name, wanted, violations, tolerance, symprec, bad, without)
    else:
        _show(name, wanted, violations, tolerance)
        if without:
            click.echo(f"{without:,} records have no '{wanted.name}'.")
    if form != "json":
        _say_bad(bad)


@data_command.command("overlaps")
@click.argument("a")
@click.argument("b")
@click.option("--out", type=click.Path(path_type=Path), help="A CSV of all pairs.")
def overlaps(a: str, b: str, out: Path | None) -> None:
    """Find the crystals that two datasets have in common, across volumes and functionals.

    A and B are names of datasets, names and settings as in a recipe, files of your own, or recipes. Crystals are the
    same by Materials Project id where both have one, else by formula and space group, and by their structures, scaled
    to one volume, where several crystals have these.

    \b
    zoo data overlaps petousis2017 '{name: phonondb2018, path: FOLDER}' --out pairs.csv
    """
    from zoo.cli.source import open_source
    from zoo.contract.plugin import BadRecord
    from zoo.data.twins import twins
    from zoo.errors import ZooError, clear_disk_errors
    from zoo.storage.csv_cells import csv_cell

    if out is not None and out.suffix != ".csv":
        raise ZooError(f"--out {out}: the table is a CSV, name it .csv")
    sides: list[dict[str, Record]] = []
    for source in (a, b):
        name, dataset, _ = open_source(source)
        found = list(dataset.records())
        side = {record.key: record for record in found if not isinstance(record, BadRecord)}
        if not side:
            raise ZooError(f"{name} has no record that can be read")
        sides.append(side)
        by_level = Counter(record.functional for record in side.values())
        click.echo(f"{name}: {len(side):,} crystals ({_by_level(by_level)})")
        _say_bad([{"key": record.key, "reason": record.reason} for record in found if isinstance(record, BadRecord)])
    pairs = twins(sides[0].values(), sides[1].values())
    by = Counter(twin.by for twin in pairs)
    click.echo(
        f"{len(pairs):,} pairs of twins: {by['id']:,} by Materials Project id, {by['space group']:,} by formula and "
        f"space group, {by['structure']:,} by structure; {len({twin.a for twin in pairs}):,} crystals of the first and "
        f"{len({twin.b for twin in pairs}):,} of the second"
    )
    rows = [_pair(twin, sides[0][twin.a], sides[1][twin.b]) for twin in pairs]
    if out is not None:
        with clear_disk_errors(out.parent, fix="choose another folder"):
            out.parent.mkdir(parents=True, exist_ok=True)
            with out.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([PAIR_COLUMNS, *(map(csv_cell, row) for row in rows)])
        click.echo(f"pairs are in {out} (volumes in Å³ an atom)")
    elif rows:
        _show_pairs(rows)


PAIR_COLUMNS = ("a", "b", "by", "formula", "volume_a", "volume_b", "functional_a", "functional_b", "mp_id_a", "mp_id_b")
PAIRS_SHOWN = 20


def _pair(twin: Twin, one: Record, other: Record) -> tuple[str, ...]:
    from zoo.data.twins import mp_id

    volumes = (f"{record.structure.volume / len(record.structure):.4f}" for record in (one, other))
    formula = one.structure.composition.reduced_formula
    ids = (mp_id(record) or "" for record in (one, other))
    return (twin.a, twin.b, twin.by, formula, *volumes, one.functional, other.functional, *ids)


def _show_pairs(rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    from zoo.cli.terminal import console

    table = Table(box=None, header_style="bold")
    for column in PAIR_COLUMNS[:6]:
        table.add_column(column)
    for row in rows[:PAIRS_SHOWN]:
        table.add_row(*row[:6])
    console().print(table)
    if len(rows) > PAIRS_SHOWN:
        click.echo(f"and {len(rows) - PAIRS_SHOWN:,} more: --out FILE.csv writes all")


def _by_level(count: Counter[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in count.most_common()) or "none"


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n")[0]


def _say_bad(bad: list[dict[str, str]]) -> None:
    for record in bad:
        click.echo(f"cannot be read: {record['key']}: {record['reason']}", err=True)


def _above(violations: list[SymmetryViolation], tolerance: float) -> list[SymmetryViolation]:
    above = [(m.residual, m) for m in violations if m.residual is not None and m.residual > tolerance]
    return [m for _, m in sorted(above, key=lambda pair: -pair[0])]


def _write_csv(violations: list[SymmetryViolation], tolerance: float) -> None:
    from zoo.storage.csv_cells import csv_cell

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["key", "formula", "crystal_system", "residual", "over"])
    for m in violations:
        over = m.residual is not None and m.residual > tolerance
        residual = "" if m.residual is None else m.residual
        writer.writerow(map(csv_cell, [m.key, m.formula, m.crystal_system, residual, str(over).lower()]))


def _write_json(
    name: str,
    target: TensorTarget,
    violations: list[SymmetryViolation],
    tolerance: float,
    symprec: float,
    bad: list[dict[str, str]],
    without: int,
) -> None:
    from zoo.data.frame import summarise, zero_proves

    summaries = [dataclasses.asdict(s) for s in summarise(violations, tolerance)]
    for summary in summaries[:-1]:
        summary["zero_proves"] = zero_proves(target, summary["crystal_system"])
    content = {
        "source": name,
        "target": target.name,
        "tolerance": tolerance,
        "symprec": symprec,
        "summary": summaries,
        "offenders": [dataclasses.asdict(m) for m in _above(violations, tolerance)],
        "undefined": [m.key for m in violations if m.residual is None],
        "unreadable": bad,
        "without_target": without,
    }
    click.echo(json.dumps(content, indent=1, ensure_ascii=False))


def _show(name: str, target: TensorTarget, violations: list[SymmetryViolation], tolerance: float) -> None:
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.data.frame import summarise, zero_proves

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.1e}"

    change = "of the atoms' tensors under the space group" if target.per_atom else "of the tensor under the point group"
    click.echo(f"{name}, {target.name}: relative change {change} of its crystal\n")
    table = Table(box=None, header_style="bold")
    table.add_column("crystal system")
    for column in ("crystals", "median", "95 %", "largest", f"over {tolerance:g}"):
        table.add_column(column, justify="right")
    summaries = summarise(violations, tolerance)
    for summary in summaries:
        values = [number(value) for value in (summary.median, summary.high, summary.largest)]
        table.add_row(summary.crystal_system, f"{summary.count:,}", *values, str(summary.over))
    console().print(table)
    click.echo("\nWhat a residual of zero proves:")
    for summary in summaries[:-1]:
        click.echo(f" {summary.crystal_system:<14}{zero_proves(target, summary.crystal_system)}")
    offenders = _above(violations, tolerance)
    if offenders:
        click.echo(f"\nOver {tolerance:g}:")
        listed = Table(box=None, header_style="bold")
        for column in ("key", "formula", "crystal system"):
            listed.add_column(column)
        listed.add_column("residual", justify="right")
        for m in offenders:
            listed.add_row(m.key, m.formula, m.crystal_system, f"{m.residual:.3f}")
        console().print(listed)
        click.echo("\nTheir structures were re-oriented after the calculation, or it was not converged.")
        click.echo("A recipe leaves them out with data.frame.drop=true.")
    else:
        click.echo(f"\nNo tensor is over {tolerance:g}.")
    undefined = [m.key for m in violations if m.residual is None]
    if undefined:
        click.echo(
            f"{len(undefined)} have no defined residual (negligible tensor or no symmetry): {', '.join(undefined)}"
        )
