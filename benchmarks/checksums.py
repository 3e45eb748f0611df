"""Share of a warm `zoo run` that goes into checksums: python benchmarks/checksums.py [RECIPE] [KEY=VALUE]..."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.config import recipe
from zoo.storage import checksums
from zoo.storage.run_folder import RunFolder
from zoo.workflows.train import run

spent = [0.0]


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Count the seconds that go into a function; those that it calls are not counted twice."""

    def inner(*arguments: Any, **more: Any) -> Any:
        begin, before = time.perf_counter(), spent[0]
        try:
            return function(*arguments, **more)
        finally:
            spent[0] = before + time.perf_counter() - begin

    return inner


def main() -> None:
    """Run once to fill the cache, and once more with the clock."""
    name, *overrides = sys.argv[1:] or ["dtnet_total"]
    config = recipe.read(name, (*overrides, "tracking.enabled=false"))
    with tempfile.TemporaryDirectory() as place:
        first = config.model_copy(update={"training": config.training.model_copy(update={"max_epochs": 1})})
        run(first, RunFolder(Path(place) / "cold"), print)
        for function in ("damage", "verify", "seal", "put_in_place"):
            setattr(checksums, function, timed(getattr(checksums, function)))
        begin = time.perf_counter()
        run(config, RunFolder(Path(place) / "warm"), print)
        seconds = time.perf_counter() - begin
    print(f"checksums: {spent[0]:.3f} of {seconds:.1f} s, {spent[0] / seconds:.2%}")


if __name__ == "__main__":
    main()
