"""A served model: serving_http.py MODEL QUESTIONS CLIENTS SIZE...; a pass is all crystals, SIZE in a request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import local

import numpy as np
import psutil
import requests
from serve import serve

model, questions, clients, *sizes = sys.argv[1:]
content = json.loads(Path(questions).read_text())
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
url = f"http://127.0.0.1:{port}"
parent = os.getpid()
log = tempfile.TemporaryFile("w+")  # noqa: SIM115 as long as the server
argv = [sys.executable, "-m", "zoo", "serve", model, "--port", str(port), "--timeout", "600"]
server = subprocess.Popen(argv, stdout=log, stderr=log)
# The harness ends a worker without a word: somebody must end the server then.
watch = f"while kill -0 {parent} 2>/dev/null; do sleep 1; done; kill {server.pid}"
subprocess.Popen(["sh", "-c", watch], start_new_session=True)
own = local()


def post(body: bytes) -> requests.Response:
    if not hasattr(own, "session"):
        own.session = requests.Session()
    headers = {"Content-Type": "application/json"}
    response: requests.Response = own.session.post(f"{url}/invocations", data=body, headers=headers, timeout=600)
    return response


def timed(body: bytes) -> tuple[float, requests.Response]:
    began = time.perf_counter()
    response = post(body)
    return time.perf_counter() - began, response


def cpu() -> float:
    """Seconds of the server and its children, and of this process."""
    top = psutil.Process(server.pid)
    used = [one.cpu_times() for one in [top, *top.children(recursive=True)]]
    return sum(one.user + one.system for one in used) + time.process_time()


def bodies(size: int) -> list[bytes]:
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return [json.dumps({"inputs": [{"structure": one["structure"]} for one in part]}).encode() for part in parts]


asked = {size: bodies(int(size)) for size in sizes}


def ask(size: str) -> dict[str, float]:
    before = cpu()
    began = time.perf_counter()
    with ThreadPoolExecutor(int(clients)) as pool:
        found = list(pool.map(timed, asked[size]))
    seconds = time.perf_counter() - began
    used = cpu() - before
    good = [response for _, response in found if response.status_code == 200]
    answers = [answer for response in good for answer in response.json()["predictions"]]
    errors = len(found) - len(good) + sum("error" in answer for answer in answers)
    difference = 0.0 if errors else max(apart(*pair) for pair in zip(answers, content, strict=True))
    low, high = np.quantile([took for took, _ in found], (0.5, 0.99))
    numbers = {"p50_ms": 1e3 * float(low), "p99_ms": 1e3 * float(high), "errors": errors, "difference": difference}
    return {**numbers, "seconds": seconds, "cpu": used}


def apart(answer: dict[str, object], question: dict[str, object]) -> float:
    expected = np.array(question["tensor"])
    return float(np.abs(np.array(answer["tensor"]) - expected).max() / np.abs(expected).max())


while True:
    try:
        if requests.get(f"{url}/ping", timeout=5).ok:
            break
    except requests.ConnectionError:
        if server.poll() is not None:
            log.seek(0)
            sys.exit(log.read()[-2000:])
        time.sleep(0.5)
post(bodies(20)[0]).raise_for_status()  # what is made at the first call
serve({size: partial(ask, size) for size in sizes}, {size: {"items": len(content)} for size in sizes})
