"""Reading a pickled torch module without running anything of the file, nor the package that wrote it.

`torch.save(model)` writes a zip archive: `data.pkl`, a pickle that names the classes of the modules, and the raw
numbers of every tensor. Unpickling it as usual imports and calls whatever it names. Here every name becomes an inert
record of what the pickle would have called it with, but for tensors and plain containers, which are made by functions
of this file alone.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.api import ZooError

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
_NUMPY_SCALARS = {"f8", "f4", "i8", "i4"}
# Of Python's two unpicklers only the one that is written in Python lets its instructions be replaced.
_Unpickler: Any = pickle._Unpickler
# Calls by other ways, names by number, buffers of any length.
_REFUSED = pickle.INST + pickle.OBJ + pickle.PERSID + pickle.EXT1 + pickle.EXT2 + pickle.EXT4
_REFUSED += pickle.BYTEARRAY8 + pickle.NEXT_BUFFER + pickle.READONLY_BUFFER
_CONTAINERS = (OrderedDict, set, tuple)
_MOST_PICKLE = 64 * 2**20
_MOST_MODULES = 100_000


class PickledObject:
    """Inert record of an object in a pickle, whose class is not imported.

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
        for group in (self.state, *(self._group(name) for name in ("_buffers", "_parameters", "_modules"))):
            if attribute in group:
                return group[attribute]
        return default

    def children(self) -> dict[str, PickledObject]:
        """The submodules by name."""
        modules = self._group("_modules")
        return {name: module for name, module in modules.items() if isinstance(module, PickledObject)}

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers by their dotted names, as the module itself would give them."""
        return dict(self._tensors(""))

    def _group(self, name: str) -> dict[str, Any]:
        group = self.state.get(name)
        return group if isinstance(group, dict) else {}

    def _tensors(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for group in ("_parameters", "_buffers"):
            for name, value in self._group(group).items():
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
            made = _Reader(archive, pickles[0].removesuffix("data.pkl"), path.stat().st_size).load()
            if isinstance(made, PickledObject) and _paths(made, {}) > _MOST_MODULES:
                raise ZooError(f"{path} holds a module that contains itself, or too many modules")
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


def _paths(module: PickledObject, known: dict[int, int]) -> int:
    """In how many places of the tree a module and those below it stand. A module inside of itself: too many."""
    if id(module) not in known:
        known[id(module)] = _MOST_MODULES + 1
        known[id(module)] = 1 + sum(_paths(child, known) for child in module.children().values())
    return known[id(module)]


def _stored(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A part of an archive, which torch never compresses: a small file could become any amount of bytes."""
    part = archive.getinfo(name)
    if part.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return part


class _Reader(_Unpickler):
    """Follows only the instructions that make inert records, tensors and plain containers."""

    def __init__(self, archive: zipfile.ZipFile, prefix: str, size: int) -> None:
        """`prefix`: of the names in the archive; `size`: bytes of the file, which bound what is made of it."""
        pickled = _stored(archive, f"{prefix}data.pkl")
        if pickled.file_size > _MOST_PICKLE:
            raise ValueError(f"its pickle has {pickled.file_size} bytes, more than {_MOST_PICKLE}")
        super().__init__(io.BytesIO(archive.read(pickled)))
        self._archive = archive
        self._prefix = prefix
        self._storages: dict[str, Tensor] = {}
        # The storages, the tensors, these again where parameters wrap them, and a margin for overlapping views.
        self._left = 5 * size

    def _spend(self, count: int) -> None:
        # A pickle can copy one thing again and again, and parts of an archive can overlap.
        self._left -= count
        if self._left < 0:
            raise ValueError("it makes more than a file of its size can hold")

    def find_class(self, module: str, name: str) -> Any:
        """One of the functions below, or a new inert class."""
        made = _ALLOWED.get((module, name))
        if made is not None:
            return made
        if not f"{module}{name}".isprintable():
            raise ValueError("a name has unprintable characters")
        return type(name, (PickledObject,), {"module": module, "name": name})

    def persistent_load(self, pid: Any) -> Tensor:
        """("storage", type, key, location, count) -> the numbers, one-dimensional."""
        what, kind, key, _, count = pid
        if what != "storage" or type(key) is not str or type(count) is not int:
            raise ValueError("it refers to something other than a storage")
        if key not in self._storages:
            dtype = _DTYPES[kind.name]
            stored = _stored(self._archive, f"{self._prefix}data/{key}")
            if stored.file_size != count * dtype.itemsize:
                raise ValueError(f"storage {key} has {stored.file_size} bytes, not {count} numbers")
            self._spend(stored.file_size)
            raw = self._archive.read(stored)
            self._storages[key] = (
                torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]

    def load_reduce(self) -> None:
        """Call one of the functions below, or make an inert record."""
        function, arguments = self.stack[-2:]
        if not _is_inert(function) and not any(function is allowed for allowed in _ALLOWED.values()):
            raise ValueError(f"it calls a {type(function).__name__}")
        if type(arguments) is not tuple:
            raise ValueError(f"it calls with a {type(arguments).__name__} of arguments")
        if function in _CONTAINERS and not all(type(argument) in (list, tuple) for argument in arguments):
            raise ValueError(f"it makes a {function.__name__} of something other than a list")
        self._spend(len(arguments))
        super().load_reduce()
        made = self.stack[-1]
        if isinstance(made, Tensor):
            self._spend(made.nbytes)
        elif isinstance(made, (bytes, *_CONTAINERS)):
            self._spend(len(made))

    def load_newobj(self) -> None:
        """Make an inert record."""
        cls, arguments = self.stack[-2:]
        self._only_inert(cls, arguments)
        super().load_newobj()

    def load_newobj_ex(self) -> None:
        """Make an inert record; keywords are dropped."""
        cls, arguments, _ = self.stack[-3:]
        self._only_inert(cls, arguments)
        super().load_newobj_ex()

    def _only_inert(self, cls: Any, arguments: Any) -> None:
        if not _is_inert(cls) or type(arguments) is not tuple:
            raise ValueError(f"it makes an instance of a {type(cls).__name__}")
        self._spend(len(arguments))

    def load_build(self) -> None:
        """Give attributes to an inert record; drop those of an OrderedDict (`_metadata` of a state dict)."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, PickledObject):
            made.__setstate__(state)
        elif type(made) is not OrderedDict:
            raise ValueError(f"it sets attributes of a {_kind(made)}")

    def _into(self, target: Any, *kinds: type) -> None:
        if type(target) not in kinds and not isinstance(target, PickledObject):
            raise ValueError(f"it adds items to a {_kind(target)}")

    def load_append(self) -> None:
        """To a list; an inert record drops it."""
        self._into(self.stack[-2], list)
        super().load_append()

    def load_appends(self) -> None:
        """To a list; an inert record drops them."""
        self._into(self.metastack[-1][-1], list)
        super().load_appends()

    def load_setitem(self) -> None:
        """Set an item of a dict; an inert record drops it."""
        self._into(self.stack[-3], dict, OrderedDict)
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set items of a dict; an inert record drops them."""
        self._into(self.metastack[-1][-1], dict, OrderedDict)
        super().load_setitems()

    def load_additems(self) -> None:
        """To a set."""
        self._into(self.metastack[-1][-1], set)
        super().load_additems()

    def _refuse(self) -> None:
        raise ValueError("it has an instruction that torch.save does not write")

    dispatch: ClassVar[dict[int, Any]] = {
        **_Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.ADDITEMS[0]: load_additems,
        **dict.fromkeys(_REFUSED, _refuse),
    }


def _is_inert(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, PickledObject)


def _kind(made: Any) -> str:
    return "class" if isinstance(made, type) else type(made).__name__


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """torch's `_rebuild_tensor_v2`, refusing to look outside of the storage or to repeat its numbers."""
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor reaches out of its storage")
    if math.prod(size) > len(storage):
        raise ValueError("a tensor has more numbers than its storage")
    return torch.as_strided(storage, size, stride, offset).clone()


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _of_subclass(function: Callable[..., Any], _: Any, args: tuple[Any, ...], __: Any) -> Any:
    """torch's `_rebuild_from_type_v2`, without the subclass."""
    return function(*args) if function is _tensor or function is _parameter else None


def _numpy_scalar(dtype: Any, raw: bytes) -> float | int | None:
    kind = dtype.args[0] if isinstance(dtype, PickledObject) and dtype.args else None
    return np.frombuffer(raw, dtype=f"<{kind}").item() if kind in _NUMPY_SCALARS else None


def _latin1(text: str, encoding: str) -> bytes:
    """Encode a text the way pickle's protocol 2 writes bytes."""
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
