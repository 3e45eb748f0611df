"""A module in mp_api's place that answers as the real client would; nothing leaves this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.core.tensors import Tensor
from scipy.spatial.transform import Rotation
from screened import crystal

SECRET = "0123456789abcdef0123456789ABCDEF"  # as long as a real one


class RunType(Enum):
    """Functionals of the Materials Project's calculations: four of the members that emmet's RunType has."""

    GGA = "GGA"
    GGA_U = "GGA+U"
    R2SCAN = "r2SCAN"
    HSE06 = "HSE06"


@dataclass
class Calculation:
    """A response that VASP has calculated: tensors in the Cartesian frame of its own structure.

    Attributes:
        published: the structure that emmet turned the tensors by; None: that of the calculation.
    """

    task_id: str
    structure: Structure
    electronic: Any
    ionic: Any
    run_type: RunType = RunType.GGA
    band_gap: float = 3.0
    published: Calculation | None = None
    final: Structure | None = None


def rutile(number: int) -> Calculation:
    """A tetragonal crystal, turned as no convention has it, and tensors that are invariant in its frame."""
    turn = Rotation.random(random_state=number).as_matrix()
    lattice = Lattice(np.diag([4.6 + 0.01 * number] * 2 + [2.95]) @ turn.T)
    sites = [[0, 0, 0], [0.5] * 3, [0.3, 0.3, 0], [0.7, 0.7, 0], [0.8, 0.2, 0.5], [0.2, 0.8, 0.5]]
    structure = Structure(lattice, ["Ti"] * 2 + ["O"] * 4, sites, site_properties={"magmom": [0.0] * 6})
    electronic, ionic = (turn @ np.diag(values) @ turn.T for values in ([6.0, 6.0, 7.5], [9.0, 9.0, 20.0]))
    return Calculation(f"mp-{9000 + number}", structure, electronic.tolist(), ionic.tolist())


class Server:
    """What the fake client speaks to.

    Attributes:
        known: material id -> number of a crystal.
        calculations: material id -> a calculation of its dielectric tensors.
        asked: all calls of `summary.search`, `dielectric.search` and `tasks.search`.
        fails: raised instead of an answer, once `after` calls have been answered.
    """

    def __init__(self) -> None:
        self.known = {f"mp-{7 * number % 40}": number for number in range(40)}
        self.calculations = {f"mp-{7 * number % 40}": rutile(number) for number in range(12)}
        self.database = "2026.01.01"
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.fails: Exception | None = None
        self.after = 0

    def search(
        self, *, material_ids: list[str] | None = None, fields: list[str], **criteria: Any
    ) -> list[SimpleNamespace]:
        self._ask({"material_ids": material_ids, "fields": fields, **criteria})
        wanted = self.known if material_ids is None else [one for one in self.known if one in material_ids]
        return [self._document(one, fields) for one in wanted]

    def dielectric(self, *, e_electronic: tuple[float, float], fields: list[str]) -> list[SimpleNamespace]:
        """Return documents as emmet builds them, the tensors turned into the IEEE frame."""
        self._ask({"e_electronic": e_electronic, "fields": fields})
        found = []
        for name, calculation in self.calculations.items():
            of = calculation.published or calculation
            tensors = {
                label: None if value is None else Tensor(value).convert_to_ieee(of.structure).tolist()
                for label, value in (("electronic", of.electronic), ("ionic", of.ionic))
            }
            origin = SimpleNamespace(name="dielectric", task_id=calculation.task_id)
            whole = {
                "material_id": name,
                "origins": [SimpleNamespace(name="structure", task_id="mp-1"), origin],
                "symmetry": SimpleNamespace(number=136),
                "deprecated": False,
                **tensors,
            }
            found.append(SimpleNamespace(**{field: value for field, value in whole.items() if field in fields}))
        return found

    def tasks(self, *, task_ids: list[str], fields: list[str], chunk_size: int) -> list[SimpleNamespace]:
        """Return documents of calculations, in another order than they are asked for."""
        self._ask({"task_ids": task_ids, "fields": fields})
        assert len(task_ids) <= chunk_size <= 100, "the server takes no more"
        found = []
        for calculation in self.calculations.values():
            output = SimpleNamespace(
                structure=calculation.final or calculation.structure,
                bandgap=calculation.band_gap,
                epsilon_static=calculation.electronic,
                epsilon_ionic=calculation.ionic,
            )
            whole = {
                "task_id": calculation.task_id,
                "run_type": calculation.run_type,
                "input": SimpleNamespace(structure=calculation.structure),
                "output": output,
            }
            if calculation.task_id in task_ids:
                found.append(SimpleNamespace(**{field: value for field, value in whole.items() if field in fields}))
        return found[::-1]

    def _ask(self, call: dict[str, Any]) -> None:
        self.asked.append(call)
        if self.fails is not None and len(self.asked) > self.after:
            raise self.fails

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
        def __init__(self, api_key: str, mute_progress_bars: bool) -> None:
            made.keys.append(api_key)
            assert mute_progress_bars
            self.db_version = made.database
            searches = {"summary": made.search, "dielectric": made.dielectric, "tasks": made.tasks}
            routes = {name: SimpleNamespace(search=search) for name, search in searches.items()}
            self.materials = SimpleNamespace(**routes)

    client = ModuleType("mp_api.client")
    client.MPRester = MPRester  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mp_api", ModuleType("mp_api"))
    monkeypatch.setitem(sys.modules, "mp_api.client", client)
    monkeypatch.setenv("MP_API_KEY", SECRET)
    return made
