"""Import of e3nn without what no model here needs, which took as long as the import of torch itself.

- `e3nn.o3._wigner` decorates a function by `torch.compiler.disable`, which imports `torch._dynamo`, 800 modules. Here a
  decorator takes its place that disables torch's compiler just as well, from when that is loaded.
- `e3nn.o3._angular_spherical_harmonics` imports sympy, for Legendre polynomials that nobody may ask for. Here its
  functions import it when they are called.
- `e3nn.math._normalize_activation` takes the moment of an activation over a million random numbers, the same ones
  whenever a layer is made. Here it is kept for functions of torch.

Whatever e3nn computes is the same, bit for bit. A version of e3nn that is laid out otherwise is imported as it is.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Sequence
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any


def disable_once_loaded(function: Callable[..., Any] | None = None, *how: Any, **named: Any) -> Callable[..., Any]:
    """Decorate as `torch.compiler.disable` does, with the same arguments, but without an import of `torch._dynamo`.

    Each call looks whether torch's compiler has been loaded meanwhile, and goes through torch's own decorator then.
    """
    if function is None:
        return functools.partial(disable_once_loaded, **named)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:  # what is not loaded compiles nothing
            return function(*args, **kwargs)
        import torch

        return torch.compiler.disable(function, *how, **named)(*args, **kwargs)

    return called


def _without_compiler(module: ModuleType, loader: InspectLoader) -> None:
    """Execute a module with `torch.compiler.disable` replaced.

    Another thread that decorates in that millisecond gets a decorator that does the same.
    """
    import torch

    own = torch.compiler.disable
    torch.compiler.disable = disable_once_loaded  # type: ignore[assignment]
    try:
        loader.exec_module(module)
    finally:
        torch.compiler.disable = own


class _SympyInFunctions(InspectLoader):
    """Loads a module's source with its imports from sympy moved into the functions that use them."""

    def __init__(self, loader: InspectLoader) -> None:
        self.loader = loader

    def get_source(self, fullname: str) -> str | None:
        """The source as it is in the file."""
        return self.loader.get_source(fullname)

    def get_code(self, fullname: str) -> CodeType | None:
        """The code with the imports moved; Python keeps none of it on disk."""
        tree = ast.parse(self.get_source(fullname) or "")
        imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "sympy"]
        imported = {alias.asname or alias.name for node in imports for alias in node.names}
        tree.body = [node for node in tree.body if node not in imports]
        for node in tree.body:
            used = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
            if isinstance(node, ast.FunctionDef) and used & imported:
                node.body[:0] = imports
        return compile(tree, getattr(self.loader, "path", fullname), "exec")


def _without_sympy(module: ModuleType, loader: InspectLoader) -> None:
    """Execute a module without an import of sympy; one that needs it at once is executed as it is."""
    try:
        _SympyInFunctions(loader).exec_module(module)
    except Exception:
        loader.exec_module(module)


def _with_kept_moments(module: ModuleType, loader: InspectLoader) -> None:
    """Execute a module, and keep what its function `moment` gives for functions of torch, on a CPU."""
    loader.exec_module(module)
    computed = getattr(module, "moment", None)
    if computed is None:
        return
    import torch

    @functools.lru_cache(maxsize=64)
    def kept(function: Callable[..., Any], n: int, dtype: torch.dtype) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return computed(function, n, dtype=dtype, device=torch.device("cpu"))

    @functools.wraps(computed)
    def moment(f: Callable[..., Any], n: int, dtype: Any = None, device: Any = None) -> Any:
        fixed = isinstance(f, FunctionType | BuiltinFunctionType) and getattr(f, "__module__", "").startswith("torch")
        if not fixed or device not in (None, "cpu", torch.device("cpu")) or torch.get_default_device().type != "cpu":
            return computed(f, n, dtype=dtype, device=device)
        return kept(f, n, dtype or torch.get_default_dtype()).clone()

    module.moment = moment  # type: ignore[attr-defined]


LIGHTER: dict[str, Callable[[ModuleType, InspectLoader], None]] = {
    "e3nn.o3._wigner": _without_compiler,
    "e3nn.o3._angular_spherical_harmonics": _without_sympy,
    "e3nn.math._normalize_activation": _with_kept_moments,
}
"""Module -> how it is executed."""


class LightE3nn(MetaPathFinder):
    """Finds the modules of `LIGHTER` where Python does, and has them executed as that says."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for a module of `LIGHTER`, None for any other."""
        if fullname not in LIGHTER:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, InspectLoader):
            spec.loader = _LightLoader(spec.loader)
        return spec


class _LightLoader(Loader):
    """Executes a module as `LIGHTER` says; the module's loader is then the one that Python found."""

    def __init__(self, loader: InspectLoader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module as its own loader makes it."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        LIGHTER[module.__name__](module, self.loader)


def install() -> None:
    """Have e3nn imported like this from now on; nothing happens where it has been imported already."""
    if not any(isinstance(finder, LightE3nn) for finder in sys.meta_path):
        sys.meta_path.insert(0, LightE3nn())
