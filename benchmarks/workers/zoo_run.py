"""A cold `zoo run dtnet_total` with the zoo of some environment; says when each phase ended.

python zoo_run.py PYTHON [KEY=VALUE]...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# The first word of the line that ends a phase; training ends with the last line that tells of an epoch.
ENDS = {"data": "data", "graphs": "graphs", "encoder": "encoder", "seed": "training"}


def main(python: str, *settings: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        argv = [python, "-c", "from zoo.cli.main import main; main()", "run", "dtnet_total", "--out", "run", *settings]
        # As a user starts it: the number of threads is the zoo's own choice.
        env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        env["ZOO_CACHE"] = f"{folder}/cache"
        begin = time.perf_counter()
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=folder, env=env)
        assert process.stdout is not None
        ends = {}
        for line in process.stdout:
            phase = ENDS.get(line.split(maxsplit=1)[0] if line.strip() else "")
            if phase is not None:
                ends[phase] = time.perf_counter()
        if process.wait():
            sys.exit(process.returncode)
        ends["end"] = time.perf_counter()
        result = json.loads((Path(folder) / "run" / "metrics.json").read_text())
    phases, last = {}, begin
    for phase, end in ends.items():
        phases[phase], last = end - last, end
    print(json.dumps({**phases, "mae_ten": result["test"]["mae_ten"]["mean"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
