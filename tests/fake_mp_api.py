"""A module in mp_api's place that answers as the real client would; nothing leaves this machine."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from screened import crystal

SECRET = "0123456789abcdef0123456789ABCDEF"  # as long as a real one


class Server:
    """What the fake client speaks to.

    Attributes:
        known: material id -> number of a crystal.
        asked: all calls of `summary.search`.
        fails: raised instead of an answer, once `after` calls have been answered.
    """

    def __init__(self) -> None:
        self.known = {f"mp-{7 * number % 40}": number for number in range(40)}
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.fails: Exception | None = None
        self.after = 0

    def search(
        self, *, material_ids: list[str] | None = None, fields: list[str], **criteria: Any
    ) -> list[SimpleNamespace]:
        self.asked.append({"material_ids": material_ids, "fields": fields, **criteria})
        if self.fails is not None and len(self.asked) > self.after:
            raise self.fails
        wanted = self.known if material_ids is None else [one for one in self.known if one in material_ids]
        return [self._document(one, fields) for one in wanted]

    def _document(self, key: str, fields: list[str]) -> SimpleNamespace:
        number = self.known[key]
        whole = {
            "material_id": key,
            "structure": crystal(number),
            "band_gap": 1.0 + number / 10,
            "energy_above_hull": 0.0,
            "formula_pretty": crystal(number).reduced_formula,
            "symmetry": SimpleNamespace(number=225),
            "theoretical": number % 2 == 0,
        }
        return SimpleNamespace(**{name: value for name, value in whole.items() if name in fields})


def install(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Put it there, and a key into the environment."""
    made = Server()

    class MPRester:
        db_version = "2026.01.01"

        def __init__(self, api_key: str, mute_progress_bars: bool) -> None:
            made.keys.append(api_key)
            assert mute_progress_bars
            self.materials = SimpleNamespace(summary=SimpleNamespace(search=made.search))

    client = ModuleType("mp_api.client")
    client.MPRester = MPRester  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mp_api", ModuleType("mp_api"))
    monkeypatch.setitem(sys.modules, "mp_api.client", client)
    monkeypatch.setenv("MP_API_KEY", SECRET)
    return made
