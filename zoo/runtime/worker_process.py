"""A process of this machine that works for this one: a pool of one, which ends with it, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess


def worker_process(begin: Callable[[], None]) -> ProcessPoolExecutor:
    """Return a pool of one process, which starts with its first work; `begin` is called there before that."""
    # spawn: a fork would take over the threads' locks of torch, but not its threads.
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), begin)


def process_of(pool: ProcessPoolExecutor) -> BaseProcess:
    """Return the process of such a pool, for which Python has no public way before 3.14."""
    (process,) = pool._processes.values()
    return process


def end_with_parent(before: Callable[[], None] = lambda: None, patience: float = 0.0) -> None:
    """Let this worker process end when the one that started it is gone, however that ended.

    Args:
        before: called then.
        patience: seconds from that call to the end.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        before()
        time.sleep(patience)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
