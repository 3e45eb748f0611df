"""`zoo.workflows.train` training a recipe, an epoch a pass: training.py PROCESSES RECIPE [KEY=VALUE]...

With two processes this is the first, and starts the second, which follows it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from serve import serve

from zoo.config import recipe
from zoo.runtime.distributed import MEETING_PLACE, joined
from zoo.storage.run_folder import RunFolder, read_json
from zoo.training.batches import Batch, Batches
from zoo.workflows.train import run

count = int(sys.argv[1])
second = os.environ.get("RANK") == "1"
overrides = sys.argv[3:-1] if second else sys.argv[3:]
config = recipe.read(sys.argv[2], (*overrides, "training.max_epochs=100000", "tracking.enabled=false", "device=cpu"))


def train(folder: Path, go: threading.Semaphore, done: threading.Semaphore) -> None:
    """To be let through every epoch."""

    def on_epoch(seed: int, row: dict[str, float]) -> None:
        done.release()
        go.acquire()

    try:
        with joined("cpu"):
            run(config, RunFolder(folder), lambda line: None, on_epoch)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # nobody waits any longer for what will not come


def be(rank: int, meeting: Path) -> dict[str, str]:
    """The environment of one of the processes."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, MEETING_PLACE: meeting}
    return {**os.environ, "GLOO_SOCKET_IFNAME": "lo", **{name: str(value) for name, value in own.items()}}


loading = [0.0]  # s, that the model has waited for batches


def timed(iterate: Callable[[Batches], Iterator[Batch | None]]) -> Callable[[Batches], Iterator[Batch | None]]:
    """Count what a loop over batches waits for the next one."""

    def inner(batches: Batches) -> Iterator[Batch | None]:
        iterator, begin = iterate(batches), time.perf_counter()
        for batch in iterator:
            loading[0] += time.perf_counter() - begin
            yield batch
            begin = time.perf_counter()

    return inner


def seconds_of(process: subprocess.Popen[bytes] | None) -> float:
    """Return the processor time of another process."""
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, follower = Path(place) / "run", None
        if count > 1:
            follower = subprocess.Popen(
                [sys.executable, *sys.argv, str(folder)], env=be(1, Path(place) / "meeting"), stdin=subprocess.DEVNULL
            )
            os.environ.update(be(0, Path(place) / "meeting"))
        Batches.__iter__ = timed(Batches.__iter__)  # type: ignore[method-assign]
        go, done = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=train, args=(folder, go, done), daemon=True).start()
        done.acquire()  # the first epoch, with all that comes before it

        def epoch() -> dict[str, float]:
            before, loading[0] = (seconds_of(follower), os.times()), 0.0
            go.release()
            done.acquire()
            own = os.times()
            here = own.user + own.system - before[1].user - before[1].system
            return {"cpu": here + seconds_of(follower) - before[0], "loading": loading[0]}

        split = read_json(RunFolder(folder).seed(config.seeds[0]).split)
        serve(epoch, {"items": len(split["train"])})
        if follower is not None:
            follower.kill()
    os._exit(0)  # the training waits for its next epoch, for ever


if __name__ == "__main__":
    if second:
        train(Path(sys.argv[-1]), threading.Semaphore(10**9), threading.Semaphore(0))
    else:
        main()
