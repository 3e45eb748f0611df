"""A Ray cluster: be part of it, see that it can do the work, give it tasks."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from zoo.discovery.screen_config import Workers
from zoo.errors import ZooError

T = TypeVar("T")
R = TypeVar("R")

STORE = 512 * 2**20
"""Bytes of shared memory for what is on its way, of a cluster that is started here."""
ANSWER = 5.0
"""Seconds in which a cluster must take a connection."""
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch: "0", before it is imported, lets it listen on 127.0.0.1 alone, on Linux as on those two."""


@contextmanager
def joined(workers: Workers) -> Iterator[None]:
    """Be connected to the cluster, which is started if there is none; where we are already, that is left as it is.

    Raises:
        ZooError: Ray is not installed, or the cluster does not answer.
    """
    address = workers.address or os.environ.get("RAY_ADDRESS") or "local"
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        settings |= {"num_cpus": workers.count + 1, "object_store_memory": STORE}
        os.environ.setdefault(LOOPBACK, "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ZooError('workers.kind=ray needs Ray: pip install "crystal-tensor-zoo[ray]"') from None
    if ray.is_initialized():
        yield
        return
    if address not in ("local", "auto"):
        _knock(address)
    try:
        ray.init(address, **settings)
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ZooError(_unreachable(address, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if "//" in address or not host or not port.isdecimal():
        raise ZooError(f"workers.address: '{address}' is not HOST:PORT of a Ray cluster (ray start --head tells it)")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ZooError(_unreachable(address, error)) from None


def _unreachable(address: str, why: Exception) -> str:
    return (
        f"no Ray cluster for us at {address} ({first_line(why)}): start one with ray start, on this machine too, or "
        "leave workers.address and RAY_ADDRESS empty"
    )


def processors() -> int:
    """CPUs of the cluster."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def check(folder: Path, others: Sequence[Path] = ()) -> None:
    """Check that every machine of the cluster has our environment and our folders.

    Args:
        folder: where results go; a file is written there for the moment.
        others: what must be there too.

    Raises:
        ZooError: one has not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    marker = folder.resolve() / f".seen-{uuid.uuid4().hex}"
    marker.touch()
    try:
        task = ray.remote(num_cpus=0, max_retries=1)(_lacks)
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            there = task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            try:
                lacks = ray.get(there.remote(_versions(), [marker, *(path.resolve() for path in others)]))
            except ray.exceptions.RayTaskError as error:
                lacks = f"has no zoo that works ({str(error).strip().splitlines()[-1]}): install it there"
            except ray.exceptions.RayError:
                continue  # it has gone in the meantime
            if lacks:
                raise ZooError(f"the machine {node['NodeManagerHostname']} of the Ray cluster {lacks}")
    finally:
        marker.unlink(missing_ok=True)


def _lacks(versions: dict[str, str], paths: list[Path]) -> str | None:
    """Say in words what a machine lacks; this runs on that machine."""
    for name, version in _versions().items():
        if version != versions[name]:
            return f"has {name} {version}, and here it is {versions[name]}: install the same there"
    for path in paths:
        if not path.exists():
            return f"does not see {path.parent if path.name.startswith('.seen-') else path}: put it on a shared disk"
    return None


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("crystal-tensor-zoo", "torch", "pymatgen")}


class Tasks(Generic[T, R]):
    """Tasks of the cluster that we are connected to, each on one CPU."""

    def __init__(self, work: Callable[[T], R]) -> None:
        import ray

        self._ray = ray
        self._task: Any = ray.remote(num_cpus=1, max_retries=0)(_do)  # who gives it once more is `workers.each`
        self._work = work
        self._running: dict[Future[R], Any] = {}

    def submit(self, item: T) -> Future[R]:
        """Give an item to the cluster."""
        reference = self._task.remote(self._work, item)
        future: Future[R] = reference.future()
        self._running[future] = reference
        return future

    def error(self, future: Future[R]) -> BaseException | None:
        """Return what the work on an item raised, or a BrokenExecutor that says how its worker died."""
        del self._running[future]
        error = future.exception()
        if isinstance(error, self._ray.exceptions.RayTaskError):
            cause = cause_of(error)
            return cause if isinstance(cause, ZooError) else error  # which tells its place too
        if isinstance(error, self._ray.exceptions.RayError):
            return BrokenExecutor(f"{type(error).__name__}: {first_line(error)}")
        return error

    def end(self, patience: float) -> None:
        """Interrupt all tasks and, after so many seconds, kill their workers."""
        left = [reference for future, reference in self._running.items() if not future.done()]
        for reference in left:
            self._ray.cancel(reference)
        if left:
            _, left = self._ray.wait(left, num_returns=len(left), timeout=patience)
        # Never one that has just ended: Ray 2.60 aborts this process then ("complete task that was not pending").
        for reference in left:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)


def _do(work: Callable[[T], R], item: T) -> R:
    """Do it in a task: only functions can be tasks."""
    return work(item)


def cause_of(error: Exception) -> Exception:
    """Return what a Ray error is about: a task fails as well where the one failed whose result it takes."""
    while isinstance(inner := getattr(error, "cause", None), Exception):
        error = inner
    return error


def first_line(error: Exception) -> str:
    """Return the first line of a message, which with Ray has many."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]
