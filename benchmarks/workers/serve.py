"""The worker's side of a measurement: standard library alone, so that it runs in any peer's environment.

A worker script sets everything up, then calls `serve`. Each time that the driver asks, one pass is run and
timed here. What the libraries print goes to stderr: stdout is the driver's.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


Pass = Callable[[], Mapping[str, Any] | None]


def serve(passes: Pass | Mapping[str, Pass], about: Mapping[str, Any] | None = None) -> None:
    """Answer the driver until it hangs up.

    Args:
        passes: what is timed: one function, or several by the `order` that a case gives. Numbers that a function
            returns are kept with the pass.
        about: said once; where there are several passes, by order. `flops` and `bytes` of a pass are held against the
            limits of the machine, `items` make a throughput; the rest is kept.
    """
    by_order = passes if isinstance(passes, Mapping) else {"": passes}
    _say({} if about is None else about if isinstance(passes, Mapping) else {"": about})
    for order in sys.stdin:
        one_pass = by_order[order.rstrip("\n")]
        gc.collect()
        before = _reset_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        found = one_pass()
        seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
        _say({"seconds": seconds, "cpu": cpu, "before_mb": before, "peak_mb": _memory("VmHWM"), **(found or {})})
        del found


def _say(what: Mapping[str, Any]) -> None:
    _answers.write(json.dumps(what) + "\n")


def _memory(field: str) -> float:
    """MB, from the kernel's status of this process."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def _reset_peak() -> float:
    """Let the kernel count the peak anew; MB resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")
