"""An answer needs neither torch's compiler nor sympy, and e3nn computes the same without them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pymatgen.core import Lattice, Structure

from zoo.runtime.light_e3nn import _without_sympy, disable_once_loaded

MODEL = Path(__file__).parents[1] / "checkpoints" / "format_4"

HEAVY = ("torch._dynamo", "sympy", "ignite", "matplotlib", "pandas", "mlflow", "scipy.signal", "ase.io")

PREDICT = """
import json, sys
from zoo.cli import main
sys.argv = ["zoo", "predict", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print(json.dumps([sorted(sys.modules)]))
import torch
assert torch.compiler.disable.__module__ == "torch.compiler", torch.compiler.disable
from e3nn import o3
import e3nn.o3._wigner as wigner
assert type(wigner.__loader__).__module__ != "zoo.runtime.light_e3nn"
turned = lambda angle: o3.wigner_D(2, angle, angle, angle)
angle = torch.tensor([0.3, 0.7])
torch.testing.assert_close(torch.compile(turned, backend="eager")(angle), turned(angle))
"""

FORCES = """
import sys
import numpy as np
from zoo.api import Potential, forces_and_stress
from zoo.config import plugins
from zoo.graphs.crystal import Crystal
from zoo.graphs.graph import collate, crystal_graphs
settings = {"cutoff": 3.0, "layers": 1, "channels": 4}
potential = Potential(plugins.load("encoder", "nequip")(plugins.hypers("encoder", "nequip", settings)))
crystal = Crystal(np.array([[0, 0, 0], [1.4, 1.3, 1.5]]), np.array([55, 17]), 2.8 * np.eye(3))
forces_and_stress(potential, collate(list(crystal_graphs([crystal], 3.0))))
print("sympy" in sys.modules)
"""

FIRST = """
import e3nn.o3
import zoo.api
import sys
from e3nn.math import _normalize_activation
print("torch._dynamo" in sys.modules, hasattr(_normalize_activation.moment, "__wrapped__"))
"""


def fresh(script: str, *arguments: str) -> list[str]:
    """The lines that a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def test_an_answer_from_the_shell_imports_nothing_heavy(tmp_path: Path) -> None:
    Structure(Lattice.cubic(4.2), ["Cs", "Cl"], [[0] * 3, [0.5] * 3]).to(str(tmp_path / "CsCl.cif"))
    [modules] = json.loads(fresh(PREDICT, str(MODEL), str(tmp_path / "CsCl.cif"), "--format", "json")[-1])
    assert "e3nn.o3" in modules
    assert not set(HEAVY) & set(modules)


def test_forces_need_no_sympy() -> None:
    assert fresh(FORCES) == ["False"]


def test_e3nn_that_was_imported_before_stays_as_it_is() -> None:
    assert fresh(FIRST) == ["True False"]


def test_legendre_polynomials_are_there_when_they_are_asked_for() -> None:
    from e3nn import o3

    z = torch.tensor(0.6)
    made = o3.Legendre([2])(z, (1 - z * z).sqrt())
    assert made[2].item() == pytest.approx((5 / (16 * torch.pi)) ** 0.5 * (3 * 0.36 - 1), rel=1e-5)


def test_the_compiler_is_disabled_once_it_is_there() -> None:
    import torch._dynamo

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    breaks = []
    for disable in (torch.compiler.disable, disable_once_loaded, disable_once_loaded(recursive=True)):
        function = disable(doubled)
        assert function.__name__ == "doubled"
        found = torch._dynamo.explain(lambda x, f=function: f(x + 1) + 1)(torch.ones(2))
        breaks.append(found.graph_break_count)
    assert breaks[0] > 0 and breaks == [breaks[0]] * 3


def module(path: Path) -> tuple[ModuleType, SourceFileLoader]:
    loader = SourceFileLoader(path.stem, str(path))
    spec = spec_from_loader(path.stem, loader)
    assert spec is not None
    return module_from_spec(spec), loader


@pytest.mark.parametrize(
    ("source", "at_once"),
    [
        ('from sympy import pi\n\ndef f(x):\n    """Text."""\n    return float(pi) * x\n', False),
        ("from sympy import pi\n\nTWICE = 2 * pi\n\ndef f(x):\n    return float(TWICE) / 2 * x\n", True),
    ],
    ids=["in a function", "at once"],
)
def test_an_import_from_sympy_moves_where_it_can(tmp_path: Path, source: str, at_once: bool) -> None:
    path = tmp_path / "polynomials.py"
    path.write_text(source)
    made, loader = module(path)
    _without_sympy(made, loader)
    assert hasattr(made, "pi") is at_once
    assert made.f(2.0) == pytest.approx(2 * torch.pi)


def test_a_moment_is_that_of_e3nn_and_is_the_caller_s_own() -> None:
    from e3nn.math import _normalize_activation

    moment = _normalize_activation.moment
    for function in (torch.nn.functional.silu, torch.tanh):
        for dtype in (torch.float32, torch.float64):
            for _ in range(2):
                made = moment(function, 2, dtype=dtype)
                assert made.dtype == dtype
                assert torch.equal(made, moment.__wrapped__(function, 2, dtype=dtype))
                made.zero_()
    assert moment(torch.tanh, 4).dtype == torch.get_default_dtype()


def test_the_moment_of_a_function_that_can_change_is_not_kept() -> None:
    from e3nn.math import normalize2mom

    learned = torch.nn.PReLU(init=1.0).double()
    before = normalize2mom(learned).cst
    torch.nn.init.constant_(learned.weight, 0.1)
    assert normalize2mom(learned).cst > before + 0.3
