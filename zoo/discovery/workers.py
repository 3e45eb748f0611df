"""Work on many items, several at the same time: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Generic, TypeVar

from zoo.discovery import ray_cluster
from zoo.discovery.screen_config import Workers
from zoo.errors import ZooError
from zoo.runtime.worker_process import end_with_parent, process_of, worker_process

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 20.0
"""Seconds from telling a worker to end to ending it: longer than it takes to end an external program."""


def each(
    workers: Workers,
    work: Callable[[T], R],
    items: Sequence[T],
    *,
    name: Callable[[T], str] = str,
    folder: Path | None = None,
) -> Generator[R, None, None]:
    """Do some work, of minutes to hours, on every item; results come as they end.

    Where this is left, by an exception, Ctrl-C or `close()`, what is running is ended: each worker gets a
    KeyboardInterrupt, in which it ends the programs that it has started. Whoever may fail between two results iterates
    within `contextlib.closing`.

    Args:
        workers: how many at the same time, and where.
        work: can be pickled, and is safe to call again for an item that it has begun.
        items: can be pickled.
        name: of an item, in a message.
        folder: where `work` writes, if it does: it is seen to first that all machines of a Ray cluster see it.

    Raises:
        ZooError: `work` raised it, or a worker has died over an item, and the next one too; or there is no Ray cluster,
            or not one that can do it.
        Exception: `work` raised it.
    """
    if not items:
        return
    if workers.kind == "local" and workers.count == 1:
        yield from map(work, items)
        return
    waiting = deque(range(len(items)))
    running: dict[Future[R], int] = {}
    lost: set[int] = set()
    with _executor(workers, work, folder) as executor:
        while waiting or running:
            while waiting and len(running) < workers.count:
                running[executor.submit(items[waiting[0]])] = waiting[0]
                waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number = running.pop(future)
                error = executor.error(future)
                if error is None:
                    yield future.result()
                elif not isinstance(error, BrokenExecutor):
                    raise error
                elif number in lost:
                    raise ZooError(
                        f"{name(items[number])}: two workers have died over it ({error}); if memory is short, let "
                        "fewer work at the same time (workers.count)"
                    )
                else:
                    lost.add(number)
                    waiting.append(number)


@contextmanager
def _executor(
    workers: Workers, work: Callable[[T], R], folder: Path | None
) -> Iterator[_Processes[T, R] | ray_cluster.Tasks[T, R]]:
    on_ray = workers.kind == "ray"
    with ray_cluster.joined(workers) if on_ray else nullcontext():
        if on_ray and folder is not None:
            ray_cluster.check(folder)
        executor = ray_cluster.Tasks(work) if on_ray else _Processes(work)
        try:
            yield executor
        finally:
            executor.end(PATIENCE)


class _Processes(Generic[T, R]):
    """Processes of this machine, each with one item at a time. They end with this one, however it ends.

    Each is a pool of its own, which is of no more use when its process dies; the others do not notice.
    """

    def __init__(self, work: Callable[[T], R]) -> None:
        self._work = work
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: dict[Future[R], ProcessPoolExecutor] = {}

    def submit(self, item: T) -> Future[R]:
        """Give an item to a process, which is started if none is idle."""
        pool = self._idle.pop() if self._idle else worker_process(_begin)
        # Until a process knows what to do with Ctrl-C, it does not hear it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            future = pool.submit(_do, self._work, item)
            self._busy[future] = pool
        except BrokenExecutor:  # it has died in the meantime
            return self.submit(item)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return future

    def error(self, future: Future[R]) -> BaseException | None:
        """Return what the work on an item raised, or a BrokenExecutor that says how its process died."""
        pool, error = self._busy.pop(future), future.exception()
        if not isinstance(error, BrokenExecutor):
            self._idle.append(pool)
            return error
        if error.__cause__ is not None:  # it has not died, but its result, or error, cannot be read
            return error.__cause__
        process = process_of(pool)
        pool.shutdown()  # its thread may have waited for the process before us: how that ended is known once it is done
        process.join()
        code = process.exitcode or 0
        return BrokenExecutor(signal.Signals(-code).name if code < 0 else f"exit status {code}")

    def end(self, patience: float) -> None:
        """Interrupt all processes and, after so many seconds, kill them."""
        pools = [*self._idle, *self._busy.values()]
        for pool in pools:
            process_of(pool).terminate()
        until = time.monotonic() + patience
        for pool in pools:
            process_of(pool).join(max(0.0, until - time.monotonic()))
            process_of(pool).kill()
            pool.shutdown()


_at_work = False
"""Whether this is a worker process that has an item."""


def _begin() -> None:
    """Prepare a worker process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent(lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM), PATIENCE)


def _do(work: Callable[[T], R], item: T) -> R:
    """Do it in a worker process, which ends here if it was told to in the meantime."""
    global _at_work
    _at_work = True
    try:
        return work(item)
    finally:
        _at_work = False
        if signal.getsignal(signal.SIGTERM) is _nothing:
            os._exit(1)


def _stop(number: int, frame: object) -> None:
    """Interrupt the work, once: the second time would cut short the ending of a program."""
    if not _at_work:
        os._exit(1)
    for heard in (signal.SIGINT, signal.SIGTERM):
        signal.signal(heard, _nothing)  # not SIG_IGN: Python complains of a signal that comes in just now
    raise KeyboardInterrupt


def _nothing(number: int, frame: object) -> None:
    pass
