"""Changed inputs, through the functions behind the commands: a ZooError in one line, or an answer that is sound.

They are read in a worker process, which is made anew after each case that it does not survive, or that takes memory.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torture import child, saved_inputs
from torture.cases import FAILED, REFUSED, SURVIVED, Outcome, Tried, draws
from torture.inputs import INPUTS
from torture.made import Made

CPU_SECONDS = 20.0  # of one input
MEMORY = 1 << 30  # bytes that one input may take
MOST = 8 << 30  # bytes that a worker may address beside what it has: then it fails, rather than this machine
WORN = 128 << 20  # bytes by which a worker may have grown: the peak of a later case would hide behind them


class Fuzz:
    """Cases, hundreds in a second where the reader is quick."""

    def __init__(self, made: Made, seed: int) -> None:
        self.made, self.seed = made, seed
        self._slowest = 0.0

    def run(self, numbers: Iterable[int]) -> Iterator[Tried]:
        """Go through cases by their numbers."""
        self.prepare()
        worker = Worker(self.made, self.seed)
        try:
            for number in numbers:
                answer = worker.ask(number)
                if not worker.lives:
                    worker = Worker(self.made, self.seed)
                self._slowest = max(self._slowest, answer.get("seconds", 0.0))
                outcome = Outcome(answer["verdict"], answer["why"])
                yield Tried(number, answer["what"], answer["how"], outcome)
        finally:
            worker.end()

    def prepare(self) -> None:
        """Make what the changed inputs begin with."""
        self.made.timed(lambda: [one.good() for one in INPUTS])
        folder = self.made.place / "made for fuzz"
        os.environ["TORTURE_CACHE"] = str(folder)
        if not folder.is_dir():
            log = self.made.place / "log of fuzz"
            ended = child.Running(lambda: saved_inputs.make_cache(folder), self.made.place, {}, log).wait()
            assert ended.returncode == 0, ended

    def notes(self) -> list[str]:
        """Tell the longest processor time of a case beside the limit."""
        return [
            f"the slowest changed input took {self._slowest:.1f} s of the processor, the limit is {CPU_SECONDS:.0f} s"
        ]


class Worker:
    """A process that answers numbers of cases with what became of them.

    Attributes:
        lives: it can be asked again.
    """

    def __init__(self, made: Made, seed: int) -> None:
        folder = made.place / "fuzz"
        folder.mkdir(exist_ok=True)
        asked, self._asks = os.pipe()
        self._answers, answered = os.pipe()
        self._seed, self.lives = seed, True

        def work() -> None:
            os.close(self._asks)
            serve(os.fdopen(asked), answered, seed, folder)

        self._process = child.Running(work, made.place, made.env, made.place / "log of fuzz")
        os.close(asked)
        os.close(answered)
        self._left = b""

    def ask(self, number: int, place: int = -1) -> dict[str, Any]:
        """Return how a case ended; `place`: of a kind of input, of which it is the case with this number."""
        os.write(self._asks, f"{number} {place}\n".encode())
        line = self._line(child.HANG)
        if line is None:
            self._process.kill()
            ended = self.end()
            what, _, how, _ = drawn(self._seed, number, place)
            why = (
                f"does not end within {child.HANG:.0f} s"
                if ended.hung
                else f"the process died of it ({ended.returncode})"
            )
            return {"what": what, "how": how, "verdict": FAILED, "why": f"{why}: {ended.last_line}"}
        answer: dict[str, Any] = json.loads(line)
        if answer["grown"] > WORN:
            self.end()
        return answer

    def end(self) -> child.Ended:
        """End the process."""
        if not self.lives:
            return child.Ended(0, "", "", 0.0, False)
        self.lives = False
        os.close(self._asks)
        ended = self._process.wait(5.0)
        os.close(self._answers)
        return ended

    def _line(self, seconds: float) -> bytes | None:
        end = time.monotonic() + seconds
        while b"\n" not in self._left:
            if not select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            part = os.read(self._answers, 1 << 16)
            if not part:
                return None
            self._left += part
        line, _, self._left = self._left.partition(b"\n")
        return line


def drawn(seed: int, number: int, place: int = -1) -> tuple[str, bytes, str, int]:
    """Draw a case: kind of input, changed input, description of the change, index of the kind in INPUTS.

    With `place`, which is such an index, it is the case with this number of that kind.
    """
    if place >= 0:
        random = draws(seed, f"fuzz of {INPUTS[place].what}", number)
    else:
        random = draws(seed, "fuzz", number)
        weights = [one.weight for one in INPUTS]
        place = int(random.choice(len(INPUTS), p=[weight / sum(weights) for weight in weights]))
    data, how = INPUTS[place].changed(random)
    return INPUTS[place].what, data, how, place


def serve(asked: Any, answered: int, seed: int, folder: Path) -> None:
    """Answer until nothing more is asked."""
    addressed = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addressed + MOST, addressed + MOST))
    signal.signal(signal.SIGVTALRM, too_long)
    begun = peak()
    for line in asked:
        number, place = map(int, line.split())
        os.write(answered, json.dumps(answer(seed, number, place, begun, folder)).encode() + b"\n")


def answer(seed: int, number: int, place: int, begun: int, folder: Path) -> dict[str, Any]:
    """Go through a case: what it was, how it ended, and what it took of the processor and of memory."""
    what, data, how, place = drawn(seed, number, place)
    before, started = peak(), time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    verdict, why = tried(place, data, folder)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
    seconds, memory = time.process_time() - started, peak() - before
    if memory > MEMORY:
        verdict, why = FAILED, f"took {memory / 1e9:.1f} GB; {why}"
    if verdict == FAILED:
        how = f"{how}; {data[:60]!r}"
    return {"what": what, "how": how, "verdict": verdict, "why": why, "seconds": seconds, "grown": peak() - begun}


class TooLong(BaseException):
    """No reader catches it."""


def too_long(*_: Any) -> None:
    """End what has had its time."""
    raise TooLong(f"{CPU_SECONDS:.0f} s of the processor are over")


def tried(place: int, data: bytes, folder: Path) -> tuple[str, str]:
    """Read an input; return its verdict and the reason."""
    from zoo.errors import ZooError

    try:
        INPUTS[place].read(data, folder)
    except ZooError as error:
        lines = str(error).strip().splitlines()
        return (REFUSED, lines[0][:300]) if lines else (FAILED, "an error without words")
    except BaseException as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return FAILED, f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:200]}"
    return SURVIVED, ""


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
