"""Reading a pickled torch module without running anything of the file, nor the package that wrote it.

`torch.save(model)` writes a zip archive: `data.pkl`, a pickle that names the classes of the modules, and the raw
numbers of every tensor. Unpickling it as usual imports and calls whatever it names. Here every name becomes an inert
record of what the pickle would have called it with, but for tensors and plain containers, which are made by functions
of this file alone.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
_NUMPY_SCALARS = {"f8", "f4", "i8", "i4"}


class PickledObject:
    """What a pickle says of an object whose class is not imported.

    Attributes:
        module, name: the class or function that the pickle names.
        args: what it would be called with.
        state: its attributes; empty where the pickle gives none, or none by name.
    """

    module: str
    name: str
    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> PickledObject:
        """Note the arguments; nothing is called."""
        made = super().__new__(cls)
        made.args = args
        made.state = {}
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.state = state

    # A pickle fills subclasses of lists and dicts item by item.
    def append(self, item: Any) -> None:
        """Drop the item."""

    def extend(self, items: Any) -> None:
        """Drop the items."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def get(self, attribute: str, default: Any = None) -> Any:
        """A plain attribute, buffer, parameter or submodule of a module."""
        for group in (self.state, *(self.state.get(name) or {} for name in ("_buffers", "_parameters", "_modules"))):
            if attribute in group:
                return group[attribute]
        return default

    def children(self) -> dict[str, PickledObject]:
        """The submodules by name."""
        modules = self.state.get("_modules") or {}
        return {name: module for name, module in modules.items() if isinstance(module, PickledObject)}

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers by their dotted names, as the module itself would give them."""
        return dict(self._tensors(""))

    def _tensors(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for group in ("_parameters", "_buffers"):
            for name, value in (self.state.get(group) or {}).items():
                if isinstance(value, Tensor):
                    yield prefix + name, value
        for name, child in self.children().items():
            yield from child._tensors(f"{prefix}{name}.")


def read_pickled_module(path: Path) -> PickledObject:
    """The module in a file that `torch.save(module, path)` wrote. No code of the file runs.

    Raises:
        ZooError: the file is no such file, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ZooError(f"{path} holds no pickled module of torch.save")
            with archive.open(pickles[0]) as stream:
                made = _Reader(stream, archive, pickles[0].removesuffix("data.pkl")).load()
    except OSError as error:
        raise ZooError(f"cannot read {path} ({error.strerror or error})") from error
    except ZooError:
        raise
    except Exception as error:  # a damaged or hostile pickle can fail anywhere
        raise ZooError(f"{path} is damaged, or not written by torch.save ({type(error).__name__}: {error})") from error
    if not isinstance(made, PickledObject) or "_modules" not in made.state:
        raise ZooError(f"{path} holds no pickled module but {_describe(made)}")
    return made


def _describe(made: Any) -> str:
    return f"an object of {made.module}.{made.name}" if isinstance(made, PickledObject) else f"a {type(made).__name__}"


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(stream)
        self._archive = archive
        self._prefix = prefix
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """One of the functions below, or a new inert class."""
        made = _ALLOWED.get((module, name))
        if made is not None:
            return made
        return type(name, (PickledObject,), {"module": module, "name": name})

    def persistent_load(self, pid: Any) -> Tensor:
        """("storage", type, key, location, count) -> the numbers, one-dimensional."""
        _, kind, key, _, count = pid
        if key not in self._storages:
            dtype = _DTYPES[kind.name]
            raw = self._archive.read(f"{self._prefix}data/{key}")
            if len(raw) != count * dtype.itemsize:
                raise ValueError(f"storage {key} has {len(raw)} bytes, not {count} numbers")
            self._storages[key] = (
                torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """torch's `_rebuild_tensor_v2`, refusing to look outside of the storage."""
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor reaches out of its storage")
    return torch.as_strided(storage, size, stride, offset).clone()


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _of_subclass(function: Callable[..., Any], _: Any, args: tuple[Any, ...], __: Any) -> Any:
    """torch's `_rebuild_from_type_v2`, without the subclass."""
    return function(*args) if function in (_tensor, _parameter) else None


def _numpy_scalar(dtype: Any, raw: bytes) -> float | int | None:
    kind = dtype.args[0] if isinstance(dtype, PickledObject) and dtype.args else None
    return np.frombuffer(raw, dtype=f"<{kind}").item() if kind in _NUMPY_SCALARS else None


def _latin1(text: str, encoding: str) -> bytes:
    """How pickle's protocol 2 writes bytes."""
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_subclass,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
    ("_codecs", "encode"): _latin1,
}
