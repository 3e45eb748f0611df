"""One training in several processes, through ignite.distributed: how they are started, and wait for each other.

torchrun starts them, on one machine or many, or `zoo run --processes N` on this one. Each computes a share of every
batch, the gradients are summed, and so all have the same weights at all times. The first one alone (rank 0) prints,
writes files and speaks to MLflow. Without such a start there is one process, and nothing here does anything.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import LeftAlone, ZooError
from zoo.runtime.devices import choose_device

# A process that does not answer within a step hangs. While the first one prepares the data the others wait for hours.
STEP = timedelta(minutes=10)
PREPARATION = timedelta(days=7)
MEETING_PLACE = "ZOO_MEETING_PLACE"

_patient: Any = None  # the group of all processes whose barrier waits for a preparation


def is_first() -> bool:
    """Whether this process prints and writes."""
    return idist.get_rank() == 0


def started() -> int:
    """Return the number of processes that torchrun, or `launch`, has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Be one of the processes that were started together, where there are several.

    Args:
        device: of the recipe. GPUs speak through NCCL; CPUs, and processes that share one GPU, through gloo.

    Raises:
        ZooError: the device is not to be had.
        LeftAlone: the others do not come.
    """
    if started() == 1:
        yield
        return
    global _patient
    chosen = choose_device(device)
    own_gpu = chosen.type == "cuda" and device in ("auto", "cuda")
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "SLURM_JOB_ID" in os.environ:  # Ignite takes SLURM's number for the local one; torchrun's is meant
        os.environ["SLURM_LOCALID"] = os.environ["LOCAL_RANK"]
    with lost_processes():
        dist.init_process_group("nccl" if own_gpu else "gloo", timeout=STEP, **_meeting())
        _patient = dist.new_group(backend="gloo", timeout=PREPARATION)
    yield
    # Not after an error: then this process ends, and so the others hear of it at once.
    idist.finalize()


def _meeting() -> dict[str, Any]:
    """Return where the processes meet: those of `launch` in a file, those of torchrun at MASTER_ADDR."""
    if MEETING_PLACE not in os.environ:
        return {}
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return {"init_method": f"file://{os.environ[MEETING_PLACE]}", "rank": rank, "world_size": world}


@contextmanager
def lost_processes() -> Iterator[None]:
    """Turn failures of the communication between processes into one line.

    Raises:
        LeftAlone: another process has ended, or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        minutes = round(STEP.total_seconds() / 60)
        raise LeftAlone(
            f"another process of this run has ended, or has not answered for {minutes} minutes, and so this one ends; "
            "zoo run --resume goes on"
        ) from error


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of a tensor, in place, the same to the last bit in all processes."""
    if idist.get_world_size() > 1:
        with lost_processes():
            dist.all_reduce(tensor)
    return tensor


def wait() -> None:
    """For all others, however long they take."""
    if idist.get_world_size() > 1:
        with lost_processes():
            dist.barrier(group=_patient)


def from_first(make: Callable[[], str]) -> str:
    """Send a text that the first process makes to all processes."""
    text = make() if is_first() else ""
    if idist.get_world_size() == 1:
        return text
    wait()
    with lost_processes():
        return str(idist.broadcast(text, safe_mode=True))


@contextmanager
def first_goes_first() -> Iterator[None]:
    """The first process does what is in the block; then the others, who find in the cache what it has made."""
    if not is_first():
        wait()
    yield
    if is_first():
        wait()


def launch(command: Callable[[], None], arguments: Sequence[str], count: int) -> None:
    """Run `zoo ARGUMENTS...` in `count` processes on this machine; when one fails the others are ended.

    Args:
        command: the function behind `zoo`, which reads `sys.argv`; it is imported by its name in each process.
        arguments: what follows `zoo` on the command line.
        count: the number of processes.

    Raises:
        ZooError: a process was killed.
        SystemExit: a process failed, and has said why; with its code.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // count)))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # nobody from outside is listened to
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # whom it ends, we tell
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        context = torch.multiprocessing.start_processes(
            _be_one, (command, list(arguments), count, str(Path(folder) / "meeting")), nprocs=count, join=False
        )
        try:
            while not context.join():
                pass
        except torch.multiprocessing.ProcessExitedException as error:
            if error.signal_name is None:
                raise SystemExit(error.exit_code) from None
            raise ZooError(
                f"process {error.error_index} was ended by {error.signal_name}, and the others with it; "
                "zoo run --resume goes on"
            ) from None
        except KeyboardInterrupt:
            for end in (lambda process: None, _interrupt, lambda process: process.terminate()):
                for process in context.processes:
                    end(process)  # not at first: a terminal has told them as well, and they end in order
                    process.join(10)
            raise


def _interrupt(process: Any) -> None:
    if process.is_alive():
        os.kill(process.pid, signal.SIGINT)


def _be_one(rank: int, command: Callable[[], None], arguments: list[str], count: int, meeting: str) -> None:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, MEETING_PLACE: meeting}
    os.environ.update({name: str(value) for name, value in own.items()})
    sys.argv = ["zoo", *arguments]
    command()
