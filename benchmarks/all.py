"""All benchmarks, one after the other, and docs/benchmarks.md from what they found.

    python benchmarks/all.py [--quick] [--threads 1] [--only nequip embedding] [--skip memory]
    python benchmarks/all.py --resume      # after a stop: without those that it had finished
    python benchmarks/all.py --report      # only write the page anew from what is kept

One that fails does not stop the others: the page names it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from report import KEPT, ROOT, page

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "benchmarks.md"

# In the order of the page; a test sees that none is forgotten.
BENCHMARKS = (
    "neighbours",
    "embedding",
    "convolution",
    "nequip",
    "teanet",
    "forces",
    "readout_epoch",
    "serving",
    "cold_run",
    "size",
    "memory",
    "screening",
    "processes",
    "precision",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short check that all work; the page is not written")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=BENCHMARKS, metavar="NAME")
    parser.add_argument("--skip", nargs="+", choices=BENCHMARKS, default=(), metavar="NAME")
    parser.add_argument("--resume", action="store_true", help="leave out those that are done since a stop")
    parser.add_argument("--report", action="store_true", help="run none, write the page")
    given = parser.parse_args()
    names = tuple(name for name in given.only if name not in given.skip)
    failed = {} if given.report else run(names, given.quick, given.threads, given.resume)
    if not given.quick:
        PAGE.write_text(page(BENCHMARKS, failed))
        print(f"wrote {PAGE.relative_to(ROOT)}")
    for name, why in failed.items():
        print(f"benchmarks/{name}.py failed: {why}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def run(names: tuple[str, ...], quick: bool, threads: int, resume: bool) -> dict[str, str]:
    """Run each in a process; those that failed, and why."""
    pending = KEPT / "pending"  # what a session that was stopped has still to do
    left = pending.read_text().split() if resume and pending.is_file() else names
    KEPT.mkdir(parents=True, exist_ok=True)
    failed = {}
    todo = [name for name in names if name in left]
    for n, name in enumerate(todo, 1):
        pending.write_text("\n".join(todo[n - 1 :]))
        print(f"{n} of {len(todo)}: {name}", flush=True)
        argv = [sys.executable, str(HERE / f"{name}.py"), "--threads", str(threads), *["--quick"] * quick]
        try:
            code = subprocess.run(argv).returncode
        except KeyboardInterrupt:
            raise SystemExit(f"stopped in {name}; go on with --resume") from None
        if code:
            failed[name] = f"exit code {code}; what it said is above"
    pending.unlink(missing_ok=True)
    return failed


if __name__ == "__main__":
    main()
