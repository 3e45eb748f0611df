"""Work on many items, several at the same time: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from zoo.discovery.executor import PATIENCE, Done, Executor, Failed, Lost, R, T, outcome
from zoo.discovery.screen_config import Workers
from zoo.errors import ZooError

_told_to_end = threading.Event()  # of a worker process


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
    KeyboardInterrupt, in which it ends the programs that it has started.

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
    lost: Counter[int] = Counter()
    waiting = deque(range(len(items)))
    running = 0
    with _executor(workers, work, folder) as executor:
        while waiting or running:
            while waiting and running < workers.count:
                executor.give(waiting[0], items[waiting[0]])
                waiting.popleft()
                running += 1
            for number, ending in executor.ended():
                running -= 1
                if isinstance(ending, Failed):
                    raise ending.error
                if isinstance(ending, Done):
                    yield ending.result
                    continue
                lost[number] += 1
                if lost[number] > 1:
                    raise ZooError(
                        f"{name(items[number])}: two workers have died over it ({ending.why}); if memory is "
                        "short, let fewer work at the same time (workers.count)"
                    )
                waiting.append(number)


@contextmanager
def _executor(workers: Workers, work: Callable[[T], R], folder: Path | None) -> Iterator[Executor[T, R]]:
    if workers.kind == "ray":
        from zoo.discovery import ray_cluster

        with ray_cluster.joined(workers):
            if folder is not None:
                ray_cluster.check(folder)
            executor: Executor[T, R] = ray_cluster.Tasks(work)
            try:
                yield executor
            finally:
                executor.end()
    else:
        executor = Processes(work)
        try:
            yield executor
        finally:
            executor.end()


class Processes(Executor[T, R]):
    """Processes of this machine. They end with this one, however it ends."""

    def __init__(self, work: Callable[[T], R]) -> None:
        self._work = work
        self._idle: dict[Connection, BaseProcess] = {}
        self._busy: dict[Connection, tuple[BaseProcess, int]] = {}

    def give(self, number: int, item: T) -> None:
        """Hand an item to a worker process, see `Executor.give`."""
        connection, process = self._idle.popitem() if self._idle else self._started()
        self._busy[connection] = (process, number)
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died in the meantime: `ended` will see it
            connection.send(item)

    def _started(self) -> tuple[Connection, BaseProcess]:
        # spawn: a fork would take over the threads' locks of torch, but not its threads.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        # Until it knows what to do with Ctrl-C, it does not hear it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return ours, process

    def ended(self) -> list[tuple[int, Done[R] | Failed | Lost]]:
        """Wait for worker processes that have ended an item, see `Executor.ended`."""
        found: list[tuple[int, Done[R] | Failed | Lost]] = []
        for connection in wait(list(self._busy)):
            assert isinstance(connection, Connection)
            process, number = self._busy[connection]
            try:
                found.append((number, connection.recv()))
                self._idle[connection] = process
            except (EOFError, ConnectionResetError):
                process.join()
                code = process.exitcode or 0
                why = signal.Signals(-code).name if code < 0 else f"exit status {code}"
                found.append((number, Lost(why)))
                connection.close()
            del self._busy[connection]
        return found

    def end(self) -> None:
        """End all worker processes, see `Executor.end`."""
        for connection in self._idle:
            connection.close()  # and they go
        for process, _ in self._busy.values():
            process.terminate()
        until = time.monotonic() + PATIENCE
        for process in [*self._idle.values(), *(process for process, _ in self._busy.values())]:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
        self._idle, self._busy = {}, {}


def _serve(connection: Connection, work: Callable[[Any], Any]) -> None:
    """The life of a worker process."""
    with suppress(KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        threading.Thread(target=_end_with_parent, daemon=True).start()
        while not _told_to_end.is_set():
            ending = outcome(work, connection.recv())
            try:
                connection.send(ending)
            except (TypeError, AttributeError, ValueError) as error:
                connection.send(Failed(RuntimeError(f"what the work gave cannot be sent ({error}): {ending}")))


def _stop(number: int, frame: object) -> None:
    """Once is enough: the second one would cut short the ending of a program."""
    for heard in (signal.SIGINT, signal.SIGTERM):
        signal.signal(heard, _nothing)  # not SIG_IGN: Python complains of a signal that comes in just now
    _told_to_end.set()
    raise KeyboardInterrupt


def _nothing(number: int, frame: object) -> None:
    pass


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)
