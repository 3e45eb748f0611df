"""A served model under load: good and bad requests by eight clients, for minutes; latencies, memory, what was lost.

    python benchmarks/soak.py MODEL [MINUTES] [CLIENTS] [SECONDS BETWEEN REQUESTS] > docs/results/soak.csv

MODEL is a run folder, or a registered model with a champion and a challenger. The challenger is then promoted halfway,
under load. The table tells which version each good request was answered by (told apart by their tensors), and how long
a restart takes, after which the new champion answers.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import requests
from inputs import crystals
from tqdm import tqdm

BAD: tuple[bytes, ...] = (
    b'{"inputs": [{"cif": "no crystal"}]}',
    b'{"inputs": [{"cif": "x"}], "params": {"coverge": 1}}',
    b'{"inputs": []}',
    b"{" * 1000,
    b'{"inputs": [{"structure": {"lattice": 3}}]}',
    b"",
    b'{"inputs": "' + b"x" * 2_000_000 + b'"}',
)


@dataclass
class Seen:
    """Numbers that the clients gather.

    Attributes:
        good, bad: seconds of each request that could, and that could not, be answered.
        lost: what came where something else was due.
        answers: of each good request, when it was answered, its body, and the first tensor.
    """

    good: list[float] = field(default_factory=list)
    bad: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    answers: list[tuple[float, bytes, np.ndarray]] = field(default_factory=list)


def client(url: str, seed: int, bodies: list[bytes], until: float, think: float, seen: Seen) -> None:
    """Ask until the time is up, with seconds to think between two requests: every seventh is bad."""
    draw, session = random.Random(seed), requests.Session()
    while time.monotonic() < until:
        time.sleep(think)
        is_bad = draw.random() < 1 / 7
        body = draw.choice(BAD if is_bad else bodies)
        begin = time.perf_counter()
        try:
            response = session.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=300)
        except requests.RequestException as error:
            seen.lost.append(type(first_cause(error)).__name__)
            continue
        seconds = time.perf_counter() - begin
        fine = 400 <= response.status_code < 500 if is_bad else response.status_code == 200
        (seen.bad if is_bad else seen.good).append(seconds)
        if not fine:
            seen.lost.append(f"{response.status_code} of a {'bad' if is_bad else 'good'} request")
        elif not is_bad:
            seen.answers.append((time.monotonic(), body, first_tensor(response)))


def first_cause(error: BaseException) -> BaseException:
    """The error below all that were raised because of it: requests calls nearly everything a ConnectionError."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def first_tensor(response: requests.Response) -> np.ndarray:
    """The tensor of the first crystal of an answer."""
    return np.array(response.json()["predictions"][0]["tensor"])


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two answers to the same question come from the same model: rounding differs with what is asked beside."""
    return bool(np.allclose(one, other, rtol=1e-4, atol=1e-4))


def megabytes(pid: int) -> float:
    """Resident memory of the server and its children."""
    top = psutil.Process(pid)
    return sum(one.memory_info().rss for one in [top, *top.children(recursive=True)]) / 1e6


def seconds_of_processor(pid: int) -> float:
    """Time of the processor that the server and its children have taken."""
    top = psutil.Process(pid)
    times = [one.cpu_times() for one in [top, *top.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


def started(model: str) -> tuple[subprocess.Popen[bytes], str, float]:
    """Start a server; return it, its address, and the seconds until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begin = time.perf_counter()
    argv = [sys.executable, "-m", "zoo", "serve", model, "--port", str(port)]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok:
                return server, f"http://127.0.0.1:{port}/invocations", time.perf_counter() - begin
        except requests.RequestException:
            if server.poll() is not None:
                sys.exit("the server has ended")
            time.sleep(0.2)


def stopped(server: subprocess.Popen[bytes]) -> float:
    """Stop a server; return the seconds that it takes."""
    begin = time.perf_counter()
    server.send_signal(signal.SIGINT)
    server.wait(300)
    return time.perf_counter() - begin


def promoted(model: str) -> float:
    """Make the challenger the champion; return the moment from which it is."""
    done = subprocess.run([sys.executable, "-m", "zoo", "promote", model, "--force"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"zoo promote {model}: {done.stderr}")
    return time.monotonic()


def by_version(model: str, bodies: list[bytes], moment: float, seen: Seen) -> dict[str, float]:
    """Restart the server; who answered before and after the promotion, the old champion or the new."""
    server, url, start = started(model)
    headers = {"Content-Type": "application/json"}
    new = {body: first_tensor(requests.post(url, data=body, headers=headers, timeout=300)) for body in bodies}
    stopped(server)
    old = {body: tensor for when, body, tensor in seen.answers if when <= moment}
    if any(same(old[body], new[body]) for body in old):
        sys.exit("the two versions answer alike")
    after = [(body, tensor) for when, body, tensor in seen.answers if when > moment and body in old]
    return {
        "good answers before the promotion": len(seen.answers) - len(after),
        "good answers after it": len(after),
        "of these by the version of before": sum(same(tensor, old[body]) for body, tensor in after),
        "of these by the new champion": sum(same(tensor, new[body]) for body, tensor in after),
        "seconds of a restart, from which on the new champion answers": round(start, 1),
    }


def main(model: str, minutes: float = 30, clients: float = 8, think: float = 0) -> None:
    """Load the server, and print a CSV table."""
    structures = crystals(200, seed=3)
    parts = [structures[i : i + 1 + i % 5] for i in range(0, 195, 5)]
    bodies = [json.dumps({"inputs": [{"structure": s.as_dict()} for s in part]}).encode() for part in parts]
    server, url, start = started(model)
    seen, memory = Seen(), [megabytes(server.pid)]
    begin, processor = time.monotonic(), seconds_of_processor(server.pid)
    asking = (bodies, begin + 60 * minutes, think, seen)
    threads = [threading.Thread(target=client, args=(url, i, *asking), daemon=True) for i in range(int(clients))]
    for thread in threads:
        thread.start()
    moment = None
    try:
        for _ in tqdm(range(max(2, int(60 * minutes / 5))), desc="soak", unit=" x 5 s", disable=None):
            if moment is None and not Path(model).is_dir() and time.monotonic() > begin + 30 * minutes:
                moment = promoted(model)
            time.sleep(max(0.0, begin + 5 * len(memory) - time.monotonic()))
            memory.append(megabytes(server.pid))
        for thread in threads:
            thread.join()
        used = (seconds_of_processor(server.pid) - processor) / (time.monotonic() - begin)
        stop = stopped(server)
    finally:
        server.kill()
    tenth = max(1, len(memory) // 10)
    rows = {
        "minutes": minutes,
        "clients": clients,
        "seconds between the requests of a client": think,
        "good requests": len(seen.good),
        "bad requests": len(seen.bad),
        "lost": len(seen.lost),
        "good p50 ms": round(1e3 * float(np.quantile(seen.good, 0.5))),
        "good p99 ms": round(1e3 * float(np.quantile(seen.good, 0.99))),
        "bad p50 ms": round(1e3 * float(np.quantile(seen.bad, 0.5))),
        "bad p99 ms": round(1e3 * float(np.quantile(seen.bad, 0.99))),
        "MB before the first request": round(memory[0]),
        "MB in the first tenth": round(float(np.median(memory[:tenth]))),
        "MB in the last tenth": round(float(np.median(memory[-tenth:]))),
        "cores that the server used": round(used, 2),
        "cores": os.cpu_count(),
        "seconds of a start": round(start, 1),
        "seconds of a stop": round(stop, 1),
    }
    if moment is not None:
        rows |= by_version(model, bodies, moment, seen)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows([("what", "value"), *rows.items(), *(("lost", words) for words in sorted(set(seen.lost)))])


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
