"""`zoo list`."""

from __future__ import annotations

import json
from typing import Any

import click

KINDS = ("encoder", "readout", "dataset")


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts: name, package, hyperparameters.")
@click.argument("name", required=False)
def list_command(name: str | None, as_json: bool) -> None:
    """List the plugins that are installed; with NAME, the keys that one takes in a recipe."""
    from rich.table import Table

    from zoo.cli.terminal import console
    from zoo.errors import ZooError, did_you_mean

    found = [entry for kind in KINDS for entry in _describe(kind)]
    if name is not None:
        found = [entry for entry in found if entry["name"] == name]
        if not found:
            known = [entry["name"] for kind in KINDS for entry in _describe(kind)]
            raise ZooError(f"there is no plugin '{name}'.{did_you_mean(name, known)}")
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    if name is None:
        table = Table(box=None, header_style="bold")
        for column in ("kind", "name", "what it is", "package"):
            table.add_column(column)
        for entry in found:
            table.add_row(entry["kind"], entry["name"], entry["error"] or entry["summary"], entry["package"])
        console().print(table)
        click.echo("\nzoo list NAME shows the keys that one takes in a recipe; zoo compat shows which pairs work.")
        return
    for entry in found:
        click.echo(f"{entry['kind']} {entry['name']} ({entry['package']}): {entry['error'] or entry['summary']}")
        table = Table(box=None, header_style="bold")
        for column in ("key", "type", "default", "what it does"):
            table.add_column(column)
        for key, info in entry["hypers"].items():
            table.add_row(key, info["type"], info["default"], info["description"])
        console().print(table)


def _describe(kind: str) -> list[dict[str, Any]]:
    from zoo import plugins
    from zoo.errors import ZooError

    entries = []
    for name, point in plugins.available(kind).items():
        entry: dict[str, Any] = {"kind": kind, "name": name, "package": plugins.origin(point)}
        try:
            cls = plugins.load(kind, name)
        except ZooError as error:
            entries.append(entry | {"summary": "", "error": str(error), "hypers": {}})
            continue
        summary = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
        hypers = {
            key: {
                "type": _type_name(info.annotation),
                "default": "required" if info.is_required() else json.dumps(info.default, default=str),
                "description": " ".join((info.description or "").split()),
            }
            for key, info in cls.Hypers.model_fields.items()
        }
        entries.append(entry | {"summary": summary, "error": None, "hypers": hypers})
    return entries


def _type_name(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
