"""`zoo compat`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.text import Text

Pair = Mapping[str, Any]


@click.command("compat")
@click.option("--json", "as_json", is_flag=True, help="For scripts: a list of {encoder, readout, works, reason}.")
@click.option("--formula", default="ij=ji", show_default=True, help="Index symmetry of the tensor.")
@click.argument("name", required=False)
def compat_command(name: str | None, as_json: bool, formula: str) -> None:
    """Show which encoder goes with which readout, with default hyperparameters, and why not.

    With NAME, the row or the column of one encoder or readout.
    """
    from zoo.errors import ZooError, did_you_mean
    from zoo.model import compat

    pairs = compat.pairs(formula)
    wrappers = [*compat.wrappers("encoder"), *compat.wrappers("readout")]
    if name in wrappers:
        raise ZooError(f"'{name}' is made of other plugins, which its settings name: ask zoo compat of those")
    if name is not None:
        known = {pair[kind] for pair in pairs for kind in ("encoder", "readout")}
        pairs = [pair for pair in pairs if name in (pair["encoder"], pair["readout"])]
        if not pairs:
            raise ZooError(f"there is no encoder or readout '{name}'.{did_you_mean(name, known)}")
    if as_json:
        click.echo(json.dumps(pairs, indent=1, ensure_ascii=False))
    else:
        _show(pairs)
        if name is None:
            click.echo(f"\nnot shown, as they are made of plugins that their settings name: {', '.join(wrappers)}")


def _show(pairs: Sequence[Pair]) -> None:
    from rich.table import Table

    from zoo.cli.terminal import console

    reasons = _numbered(pair["reason"] for pair in pairs if not pair["works"])
    caveats = _numbered(pair.get("caveat") for pair in pairs if pair["works"])
    readouts = list(dict.fromkeys(pair["readout"] for pair in pairs))
    table = Table(box=None, header_style="bold", padding=(0, 1))
    table.add_column("encoder ╲ readout")
    for readout in readouts:
        table.add_column(readout.replace("-", "-\n"), no_wrap=True)  # so that nine of them fit in 100 columns
    for encoder in dict.fromkeys(pair["encoder"] for pair in pairs):
        cells = {pair["readout"]: _cell(pair, reasons, caveats) for pair in pairs if pair["encoder"] == encoder}
        table.add_row(encoder, *[cells[readout] for readout in readouts])
    console().print(table)
    if not reasons and not caveats:
        return
    notes = Table(box=None, show_header=False, padding=(0, 1))
    for number, reason in enumerate(reasons, 1):
        notes.add_row(f"[red]{number}", _plain(reason))
    for number, caveat in enumerate(caveats):
        notes.add_row(f"[yellow]{_letter(number)}", _plain(f"works, but {caveat}"))
    click.echo()
    console().print(notes)


def _cell(pair: Pair, reasons: list[str], caveats: list[str]) -> str:
    if not pair["works"]:
        return f"[red]{reasons.index(pair['reason']) + 1}"
    caveat = pair.get("caveat")
    return f"[green]✓[/] [yellow]{_letter(caveats.index(caveat))}" if caveat else "[green]✓"


def _numbered(texts: Iterable[str | None]) -> list[str]:
    """Number the distinct texts in order of appearance: equal texts share a footnote."""
    return list(dict.fromkeys(text for text in texts if text))


def _letter(number: int) -> str:
    return chr(ord("a") + number)


def _plain(text: str) -> Text:
    """Escape rich's markup: the extra in `pip install "x[y]"` would be read as a style."""
    from rich.text import Text

    return Text(text)
