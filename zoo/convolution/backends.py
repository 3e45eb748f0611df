"""What computes a convolution: all give the same numbers to rounding, each in its own time (docs/convolution.md).

What is chosen holds for a run, not for a model: a model that was trained with one backend is loaded with any other.
Recipes are read without torch, so a backend is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

from zoo.errors import ZooError, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.convolution.edges import ConvolutionEdges
    from zoo.convolution.paths import Block

DEFAULT = "auto"

Backend: TypeAlias = "Callable[[Sequence[Tensor], Sequence[Block], ConvolutionEdges, nn.Module], Sequence[Tensor]]"
"""As `convolve`, of features (N, 2l1+1, I, C)."""


def _segments(device: torch.device | None) -> Backend:
    from zoo.convolution.segments import segments

    return segments


def _compiled(device: torch.device | None) -> Backend:
    from zoo.convolution import compiled

    return compiled.load(device)


def _cuequivariance(device: torch.device | None) -> Backend:
    from zoo.convolution import kernels

    return kernels.load(device)


# Name -> what gives the backend, or says what has to be installed or why it is not for a device.
_BACKENDS: dict[str, Callable[[torch.device | None], Backend]] = {
    "auto": _segments,
    "segments": _segments,
    "compiled": _compiled,
    "cuequivariance": _cuequivariance,
}
NAMES = tuple(_BACKENDS)

_name: ContextVar[str] = ContextVar("convolution backend", default=DEFAULT)


def refuse_unknown(name: str) -> None:
    """See that there is a backend of this name.

    Raises:
        ZooError: there is none; the nearest is named.
    """
    if name not in _BACKENDS:
        raise ZooError(f"there is no convolution backend '{name}'.{did_you_mean(name, NAMES)}")


def chosen() -> Backend:
    """The one of the innermost `convolution_backend`. Looked up in the forward pass alone: backward follows it."""
    return _BACKENDS[_name.get()](None)


@contextmanager
def convolution_backend(name: str, device: torch.device | None = None) -> Iterator[None]:
    """Whatever convolves meanwhile, in this thread, does it with this backend.

    Args:
        name: one of `NAMES`.
        device: where; None: not checked beforehand.

    Raises:
        ZooError: there is none of this name, it is not installed, or it is not for this device.
    """
    refuse_unknown(name)
    _BACKENDS[name](device)
    token = _name.set(name)
    try:
        yield
    finally:
        _name.reset(token)
