"""`zoo cache`: how much the cache holds, and what of it to delete."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from zoo.storage.housekeeping import CacheContent, CacheEntry

WHAT = {
    "crystals": "datasets as they were read",
    "graphs": "graphs of crystals",
    "embeddings": "features by frozen encoders",
    "force_constants": "force constants of sets of crystals",
    "force_constants/crystals": "force constants, a file a crystal",
    "frame": "results of the frame check",
    "tensors": "tensors of crystals",
    "twins": "crystals that sources have in common",
    "labelled": "crystals with energies, forces or force constants, to pretrain on",
    "temporary": "of runs at work, or that were killed",
    "datasets": "downloaded datasets",
    "weights": "converted weights",
}
NAMED = 5  # files that are not the cache's, of which each is named


@click.group("cache", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For scripts: folder, kinds with entries and bytes.")
@click.pass_context
def cache_command(context: click.Context, as_json: bool) -> None:
    """List what is in the cache, by kind; `zoo cache clear` deletes of it.

    The cache is the folder $ZOO_CACHE or, without it, the user's cache folder. All but datasets and weights is computed
    anew where it is missing.

    \b
    zoo cache
    zoo cache clear --older-than 30
    zoo cache clear graphs embeddings --yes
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError("--json goes with the list alone", context)
        return
    from zoo.storage.housekeeping import is_being_written

    content = _look()
    writing = [entry for entries in content.entries.values() for entry in entries if is_being_written(entry)]
    if as_json:
        click.echo(json.dumps(_as_json(content, writing), indent=1, ensure_ascii=False))
    elif not any(content.entries.values()):
        click.echo(f"the cache {content.root} is empty")
    else:
        _show(content)
    if not as_json:
        for entry in writing:
            click.echo(f"being written: {entry.path.relative_to(content.root)}")
        _say_what_is_not_ours(content)


@cache_command.command("clear")
@click.argument("kinds", nargs=-1, metavar="[KIND...]")
@click.option("--older-than", type=click.IntRange(min=0), metavar="DAYS", help="Only what was not used for so long.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(kinds: tuple[str, ...], older_than: int | None, yes: bool) -> None:
    """Delete what is in the cache: the kinds KIND, else all that can be computed anew.

    `zoo cache` shows the kinds. Datasets and weights, which cost a download or a conversion, are deleted only where
    they are named. What a process is writing at the moment is left alone, and so is what the zoo did not write.

    \b
    zoo cache clear
    zoo cache clear force_constants --older-than 90
    zoo cache clear weights
    """
    from zoo.storage.housekeeping import KEPT, chosen, delete

    content = _look()
    doomed = chosen(content, kinds, older_than)
    kept = [kind for kind in KEPT if kind in content.entries and kind not in kinds]
    if not doomed:
        click.echo(f"there is nothing to delete in {content.root}")
    elif yes or _confirmed(content, doomed):
        gone, busy = delete(doomed)
        click.echo(f"deleted {_count(gone)}, {human(sum(entry.size for entry in gone))}")
        for entry in busy:
            click.echo(f"left alone: {entry.path.relative_to(content.root)} is being written")
    else:
        click.echo("nothing was deleted")
    if not kinds and kept:
        click.echo(f"{' and '.join(kept)} stay: zoo cache clear {' '.join(kept)} deletes them")
    _say_what_is_not_ours(content)


def _look() -> CacheContent:
    from importlib.metadata import entry_points

    from zoo.storage.housekeeping import look_through

    # Not by zoo.config.plugins, which imports torch.
    return look_through(entry_points(group="zoo.datasets").names, entry_points(group="zoo.encoders").names)


def _confirmed(content: CacheContent, doomed: Sequence[CacheEntry]) -> bool:
    """Show what is to be deleted, and ask.

    Raises:
        ZooError: nobody answers.
    """
    from zoo.errors import ZooError
    from zoo.storage.housekeeping import KEPT

    wanted = set(map(id, doomed))
    for kind, entries in content.entries.items():
        of_kind = [entry for entry in entries if id(entry) in wanted]
        if of_kind:
            click.echo(f"{kind}: {_count(of_kind)}, {human(sum(entry.size for entry in of_kind))}")
        for entry in of_kind if kind in KEPT else ():
            click.echo(f"  {entry.path}")
    try:
        return click.confirm(f"Delete this from {content.root}?")
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise ZooError("nothing was deleted: nobody answers here, say --yes") from None


def _count(entries: Iterable[CacheEntry]) -> str:
    number = sum(1 for _ in entries)
    return f"{number:,} {'entry' if number == 1 else 'entries'}"


def human(size: int) -> str:
    """Return a number of bytes with a unit, in powers of ten, as `1.2 GB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def _day(entries: Sequence[CacheEntry]) -> str:
    return datetime.fromtimestamp(max(entry.used for entry in entries)).strftime("%Y-%m-%d")


def _show(content: CacheContent) -> None:
    from rich.table import Table

    from zoo.cli.terminal import console

    click.echo(f"{content.root}\n")
    table = Table(box=None, header_style="bold")
    table.add_column("kind")
    for column in ("entries", "size"):
        table.add_column(column, justify="right")
    for column in ("last used", "what it is"):
        table.add_column(column)
    for kind, entries in content.entries.items():
        size = sum(entry.size for entry in entries)
        table.add_row(kind, f"{len(entries):,}", human(size), _day(entries), WHAT[kind])
    every = [entry for entries in content.entries.values() for entry in entries]
    table.add_row("total", f"{len(every):,}", human(sum(entry.size for entry in every)), _day(every), "", style="bold")
    console().print(table)


def _as_json(content: CacheContent, writing: Sequence[CacheEntry]) -> dict[str, object]:
    kinds = [
        {
            "kind": kind,
            "entries": len(entries),
            "bytes": sum(entry.size for entry in entries),
            "last_used": datetime.fromtimestamp(max(entry.used for entry in entries), UTC).isoformat("T", "seconds"),
        }
        for kind, entries in content.entries.items()
    ]
    return {
        "folder": str(content.root),
        "kinds": kinds,
        "bytes": sum(entry.size for entries in content.entries.values() for entry in entries),
        "being_written": [str(entry.path) for entry in writing],
        "not_of_the_cache": [str(path) for path in content.foreign],
        "links_that_lead_out": [str(path) for path in content.links],
    }


def _say_what_is_not_ours(content: CacheContent) -> None:
    for path in content.links:
        click.echo(f"left alone: {path.relative_to(content.root)} is a link that leads out of the cache", err=True)
    if content.foreign:
        names = ", ".join(str(path.relative_to(content.root)) for path in content.foreign[:NAMED])
        more = f" and {len(content.foreign) - NAMED:,} more" if len(content.foreign) > NAMED else ""
        click.echo(f"not the cache's, left alone: {names}{more}", err=True)
