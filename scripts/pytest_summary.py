"""Add up several runs of pytest: `python scripts/pytest_summary.py LOG...` prints their failures and one closing line.

The closing line has pytest's own form, so that whatever reads the last line of one run reads that of several. A log
without a closing line (pytest was killed) counts as one error.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

CLOSING = re.compile(r"^=+ (?P<counts>.*\d+ \w+.*) in (?P<seconds>[\d.]+)s(?: \([\d:]+\))? =+$", re.MULTILINE)
COUNT = re.compile(r"(\d+) (failed|passed|skipped|deselected|xfailed|xpassed|warning|error|rerun)s?")
ORDER = ("failed", "passed", "skipped", "xfailed", "xpassed", "warning", "error", "rerun")  # of pytest
PLURAL = ("warning", "error")


def combined(logs: list[str]) -> str:
    """Return the closing line of all runs together; tests that one run leaves to another are not deselected."""
    counts: Counter[str] = Counter()
    seconds = 0.0
    for log in logs:
        closing = list(CLOSING.finditer(log))
        if closing:
            counts.update({kind: int(number) for number, kind in COUNT.findall(closing[-1]["counts"])})
            seconds += float(closing[-1]["seconds"])
        else:
            counts["error"] += 1
    words = [f"{counts[kind]} {kind}{'s' * (kind in PLURAL and counts[kind] > 1)}" for kind in ORDER if counts[kind]]
    hours, rest = divmod(int(seconds), 3600)
    clock = f" ({hours}:{rest // 60:02}:{rest % 60:02})" if seconds >= 60 else ""
    return f" {', '.join(words) or 'no tests ran'} in {seconds:.2f}s{clock} ".center(80, "=")


def failures(logs: list[str]) -> list[str]:
    """Return the lines of the short summaries that name a failure."""
    return [line for log in logs for line in log.splitlines() if re.match(r"(FAILED|ERROR) \S+", line)]


def main() -> None:
    """Read the logs that the command line names, print failures and the closing line."""
    logs = [Path(name).read_text(encoding="utf-8", errors="replace") for name in sys.argv[1:]]
    print(*failures(logs), combined(logs), sep="\n")


if __name__ == "__main__":
    main()
