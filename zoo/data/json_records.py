"""Reader of JSON files of crystals and tensors: records, pymatgen's and ASE's objects, ASE's JSON databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.data.formats import Entry, name_in, open_text
from zoo.data.structures import crystal_in, structure_from_dict
from zoo.errors import ZooError


class NoCrystalsError(ZooError):
    """A JSON file is about something else: no record in it has a structure."""


DATABASE_KEYS = ("ids", "nextid", "metadata")
"""Keys of a JSON database of ASE beside those of its rows."""


def json_entries(path: Path, key_field: str = "key") -> Iterator[Entry]:
    """Read the crystals in a JSON file.

    It holds {key: record, ...}, or a list of records with key fields (or `material_id`), or one. A record is a crystal,
    or an object with a crystal as `structure` and fields beside it. A crystal is what pymatgen's `Structure.as_dict`
    gives, or ASE's JSON of Atoms. The file is read as a whole; for more crystals than fit in memory there are the
    other formats.

    Raises:
        ZooError: no JSON, neither object nor list, nothing about crystals, or an object that has a key twice (one
            would be lost).
    """
    try:
        with open_text(path) as file:
            content = json.load(file, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{path}: is no valid JSON ({error})") from None
    except _KeyTwiceError as error:
        raise ZooError(f"{path}: an object has the key '{error}' twice") from None
    records = list(_records(path, content, key_field))
    if records and not any(isinstance(one, dict) and ("structure" in one or crystal_in(one)) for _, one in records):
        raise NoCrystalsError(f"{path}: none of its {len(records):,} records is a crystal, or has a 'structure'")
    for number, (name, record) in enumerate(records):
        yield _entry(name, number, record)


def _records(path: Path, content: Any, key_field: str) -> Iterator[tuple[Any, Any]]:
    """Yield the name, None without one, and the content of each record."""
    if isinstance(content, list):
        yield from ((_name(one, key_field), one) for one in content)
    elif crystal_in(content) is not None:
        yield _name(content, key_field), content
    elif isinstance(content, dict):
        others = DATABASE_KEYS if "ids" in content and "nextid" in content else ()
        yield from ((key, one) for key, one in content.items() if key not in others)
    else:
        raise ZooError(f"{path}: must hold an object of records by key, a list of records, or one crystal")


def _name(record: Any, key_field: str) -> Any:
    """The name of a record by its key field; without one, that of a document of the Materials Project."""
    given = name_in(record, key_field)
    return name_in(record, "material_id") if given is None else given


def _entry(name: Any, number: int, record: Any) -> Entry:
    if not isinstance(record, dict):
        return Entry.of(name, number, {}, ZooError("is no JSON object"))
    content = crystal_in(record) or record.get("structure")
    if content is None:
        return Entry.of(name, number, record, ZooError("has no 'structure'"))
    fields = {} if content is record else record
    try:
        return Entry.of(name, number, fields, structure_from_dict(content))
    except ZooError as error:
        return Entry.of(name, number, fields, error)


class _KeyTwiceError(Exception):
    pass


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        raise _KeyTwiceError(next(name for name in names if names.count(name) > 1))
    return content
