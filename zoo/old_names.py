"""Names that models, packages and plugins made before version 0.1 was laid out anew still use; gone in 0.2.

MLflow keeps the code of a registered model as it was when it was logged, so its imports must go on working. An old
module name gives the module that took its place, an old name of `zoo.api` the object, each with a DeprecationWarning.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "zoo.predictor": "zoo.inference.predictor",
    "zoo.prediction": "zoo.inference.prediction",
    "zoo.tracking.connect": "zoo.registry.connect",
    "zoo.tracking.fetch": "zoo.registry.fetch",
    "zoo.tracking.tracking_store": "zoo.registry.tracking_store",
    "zoo.tracking.guard": "zoo.tracking.logged_before",
    "zoo.tracking.together": "zoo.tracking.logged_before",
}
"""Old module -> the module that took its place."""

API = {
    "Path": ("zoo.convolution.paths", "TensorProductPath"),
    "PickledObject": ("zoo_mace.pickled", "PickledObject"),
    "read_pickled_module": ("zoo_mace.pickled", "read_pickled_module"),
}
"""Old name in `zoo.api` -> module and name of the object."""


class OldModules(MetaPathFinder, Loader):
    """Finds the modules of `MODULES`, after everything that is really there was looked for in vain."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for an old name, None for any other."""
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own way: an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        """Hand on everything that the module in its place has."""
        new = MODULES[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}; the old name goes in zoo 0.2", DeprecationWarning, stacklevel=2)
        found = importlib.import_module(new)
        module.__dict__.update({name: value for name, value in vars(found).items() if not name.startswith("__")})


def from_api(name: str) -> Any:
    """The object that an old name of `zoo.api` means.

    Raises:
        AttributeError: `zoo.api` never had that name.
    """
    if name not in API:
        raise AttributeError(f"module 'zoo.api' has no attribute {name!r}")
    module, new = API[name]
    warnings.warn(
        f"zoo.api.{name} is now {module}.{new}; the old name goes in zoo 0.2", DeprecationWarning, stacklevel=3
    )
    return getattr(importlib.import_module(module), new)


def install() -> None:
    """Let old module names be imported."""
    if not any(isinstance(finder, OldModules) for finder in sys.meta_path):
        sys.meta_path.append(OldModules())
