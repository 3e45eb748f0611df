"""A served model under load: good and bad requests by eight clients, for minutes; latencies, memory, what was lost.

    python benchmarks/soak.py MODEL [MINUTES] [CLIENTS] > docs/results/soak.csv

Another version that becomes the champion meanwhile answers after a restart, whose time is a row of the table.
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
    """

    good: list[float] = field(default_factory=list)
    bad: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def client(url: str, seed: int, bodies: list[bytes], until: float, seen: Seen) -> None:
    """Ask until the time is up: every seventh request is bad."""
    draw, session = random.Random(seed), requests.Session()
    while time.monotonic() < until:
        is_bad = draw.random() < 1 / 7
        body = draw.choice(BAD if is_bad else bodies)
        begin = time.perf_counter()
        try:
            response = session.post(url, data=body, headers={"Content-Type": "application/json"}, timeout=300)
        except requests.RequestException as error:
            seen.lost.append(type(error).__name__)
            continue
        seconds = time.perf_counter() - begin
        fine = 400 <= response.status_code < 500 if is_bad else response.status_code == 200
        (seen.bad if is_bad else seen.good).append(seconds)
        if not fine:
            seen.lost.append(f"{response.status_code} of a {'bad' if is_bad else 'good'} request")


def megabytes(pid: int) -> float:
    """Resident memory of the server and its children."""
    top = psutil.Process(pid)
    return sum(one.memory_info().rss for one in [top, *top.children(recursive=True)]) / 1e6


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
        except requests.ConnectionError:
            if server.poll() is not None:
                sys.exit("the server has ended")
            time.sleep(0.2)


def main(model: str, minutes: float = 30, clients: float = 8) -> None:
    """Load the server, and print a CSV table."""
    structures = crystals(200, seed=3)
    parts = [structures[i : i + 1 + i % 5] for i in range(0, 195, 5)]
    bodies = [json.dumps({"inputs": [{"structure": s.as_dict()} for s in part]}).encode() for part in parts]
    server, url, first = started(model)
    seen, memory, until = Seen(), [], time.monotonic() + 60 * minutes
    threads = [threading.Thread(target=client, args=(url, i, bodies, until, seen)) for i in range(int(clients))]
    for thread in threads:
        thread.start()
    for _ in tqdm(range(max(1, int(60 * minutes / 5))), desc="soak", unit=" x 5 s", disable=None):
        time.sleep(5)
        memory.append(megabytes(server.pid))
    for thread in threads:
        thread.join()
    server.send_signal(signal.SIGINT)
    server.wait(60)
    tenth = max(1, len(memory) // 10)
    rows = {
        "minutes": minutes,
        "clients": clients,
        "good requests": len(seen.good),
        "bad requests": len(seen.bad),
        "lost": len(seen.lost),
        "good p50 ms": round(1e3 * float(np.quantile(seen.good, 0.5))),
        "good p99 ms": round(1e3 * float(np.quantile(seen.good, 0.99))),
        "bad p50 ms": round(1e3 * float(np.quantile(seen.bad, 0.5))),
        "bad p99 ms": round(1e3 * float(np.quantile(seen.bad, 0.99))),
        "MB in the first tenth": round(float(np.median(memory[:tenth]))),
        "MB in the last tenth": round(float(np.median(memory[-tenth:]))),
        "seconds of a start": round(first, 1),
        "cores": os.cpu_count(),
    }
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows([("what", "value"), *rows.items(), *(("lost", words) for words in sorted(set(seen.lost)))])


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
