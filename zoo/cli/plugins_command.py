"""`zoo list`."""

from __future__ import annotations

import inspect
import json
import types
import typing
from typing import Any

import click
from pydantic import BaseModel

KINDS = ("encoder", "readout", "dataset", "objective", "acquisition", "oracle")
# Where a docstring begins to speak to programmers.
SECTIONS = ("Args:", "Attributes:", "Class attributes:", "Raises:")


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="For scripts: name, package, hyperparameters.")
@click.argument("name", required=False)
def list_command(name: str | None, as_json: bool) -> None:
    """List the plugins that are installed; with NAME, the keys that one takes in a recipe."""
    from rich.markup import escape
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
            description = entry["error"] or entry["summary"]
            table.add_row(*map(escape, (entry["kind"], entry["name"], description, entry["package"])))
        console().print(table)
        potentials = [entry["name"] for entry in found if entry.get("energy")]
        click.echo(f"\nWith an energy (zoo.calculator): {', '.join(potentials)}.")
        click.echo("zoo list NAME shows the keys that one takes in a recipe; zoo compat shows which pairs work.")
        return
    for entry in found:
        click.echo(f"{entry['kind']} {entry['name']} ({entry['package']}): {entry['error'] or entry['summary']}\n")
        if entry["more"]:
            click.echo(entry["more"] + "\n")
        if entry.get("energy"):
            click.echo(f'It has an energy, forces and stress: zoo.calculator("{entry["name"]}").\n')
        table = Table(box=None, header_style="bold")
        for column in ("key", "type", "default", "what it does"):
            table.add_column(column)
        for key, info in entry["hypers"].items():
            table.add_row(*map(escape, (key, info["type"], info["default"], info["description"])))
        if entry["hypers"]:
            console().print(table)
        elif not entry["error"]:
            click.echo("It has no keys of its own.")


def _describe(kind: str) -> list[dict[str, Any]]:
    from zoo.config import plugins
    from zoo.errors import ZooError

    entries = []
    for name, point in plugins.available(kind).items():
        entry: dict[str, Any] = {"kind": kind, "name": name, "package": plugins.origin(point)}
        try:
            cls = plugins.load(kind, name)
        except ZooError as error:
            entries.append(entry | {"summary": "", "more": "", "error": str(error), "hypers": {}})
            continue
        paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
        sections = [
            k for k, text in enumerate(paragraphs) if text.startswith(("Args:", "Attributes:", "Raises:", "Class "))
        ]
        texts = {
            "summary": " ".join(paragraphs[0].split()),
            "more": "\n\n".join(paragraphs[1 : min(sections, default=None)]),
        }
        more = {"energy": _has_energy(cls)} if kind == "encoder" else {}
        entries.append(entry | texts | {"error": None, "hypers": _keys(cls.Hypers)} | more)
    return entries


def _has_energy(encoder: Any) -> bool:
    """Whether it is a potential with its default settings."""
    try:
        return bool(encoder.provides(encoder.Hypers()).energy)
    except Exception:  # settings without a default, or a stranger's plugin that raises anything
        return False


def _keys(model: type[BaseModel], prefix: str = "") -> dict[str, dict[str, str]]:
    """Describe each key of a recipe: type, default, description; keys of a table's entries follow the table."""
    found: dict[str, dict[str, str]] = {}
    for key, info in model.model_fields.items():
        default = "required" if info.is_required() else json.dumps(info.default, default=_plain, ensure_ascii=False)
        description = " ".join((info.description or "").split())
        found[prefix + key] = {"type": _type_name(info.annotation), "default": default, "description": description}
        inside = typing.get_args(info.annotation)
        if (
            typing.get_origin(info.annotation) is dict
            and isinstance(inside[1], type)
            and issubclass(inside[1], BaseModel)
        ):
            found |= _keys(inside[1], f"{prefix}{key}.NAME.")
    return found


def _plain(value: object) -> object:
    return value.model_dump(exclude_defaults=True) if isinstance(value, BaseModel) else str(value)


def _type_name(annotation: object) -> str:
    """Return the name of a type for users, such as `int | list[int]`, for pydantic's narrower types too."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(inside[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(one) for one in inside)
    if origin in (tuple, list):
        return f"list[{_type_name(inside[0])}]"
    if origin is dict:
        return f"dict[{', '.join(_type_name(one) for one in inside)}]"
    if origin is typing.Literal:
        return " | ".join(json.dumps(one) for one in inside)
    if annotation is type(None):
        return "null"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
