"""Choice of the device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch

from zoo.errors import ZooError


def choose_device(name: str) -> torch.device:
    """`auto`: cuda, then mps, then cpu. Of several processes on a machine each has its own GPU, cuda:0, cuda:1, ...

    Of several, `cuda:N` is one GPU that all share.

    Raises:
        ZooError: torch knows no such device, does not have it here, or not one for each process.
    """
    device = device_named(name, int(os.environ.get("LOCAL_WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0")))
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ZooError(f"device '{name}' is not to be had here: {str(error).splitlines()[0]}") from None
    return device


def device_named(name: str, processes: int = 1, rank: int = 0) -> torch.device:
    """`choose_device` without trying it: what process `rank` of so many on this machine takes.

    Raises:
        ZooError: torch knows no such device, or there is not one for each process.
    """
    if name.split(":")[0] not in ("auto", "cuda", "mps", "cpu"):
        raise ZooError(f"device '{name}' is not known; there is auto, cuda, cuda:N, mps, cpu")
    if name == "auto":
        alone = "mps" if torch.backends.mps.is_available() and processes == 1 else "cpu"
        name = "cuda" if torch.cuda.is_available() else alone
    if processes > 1 and name == "mps":
        raise ZooError("device 'mps' is for one process; set device=cpu, or start one")
    if processes > 1 and name == "cuda":
        if torch.cuda.device_count() < processes:
            raise ZooError(
                f"{processes} processes, but {torch.cuda.device_count()} GPUs on this machine: start as many as there "
                "are GPUs, or set device=cuda:0 to share one, or device=cpu"
            )
        return torch.device("cuda", rank)
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ZooError(f"device '{name}' is not known: {str(error).splitlines()[0]}") from None


def with_float64(device: torch.device) -> torch.device:
    """The device, or the CPU in the place of one that has no float64 (mps)."""
    return torch.device("cpu") if device.type == "mps" else device


def device_of(module: torch.nn.Module) -> torch.device:
    """The device of a module, which may have buffers alone, or neither these nor parameters (then the CPU)."""
    return next((x.device for x in chain(module.parameters(), module.buffers())), torch.device("cpu"))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch's for each process on a CPU, unless OMP_NUM_THREADS says how many.

    For a readout behind cached embeddings: the operations of its step take less than to wake a second thread, which
    takes a core and brings nothing. The result then does not depend on the number of cores either.
    """
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
