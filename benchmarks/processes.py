"""Training throughput: two processes of one thread against one, `nequip` from a random start (nequip_dtnet_total)."""

from __future__ import annotations

import statistics

from harness import Case, Measured, measure, worker
from report import Goal, Options, Section, command

RECIPE = "nequip_dtnet_total"
ONE, TWO = "one process", "two processes"
SMALL = ("data.limit=60", "encoder.channels=8", "encoder.layers=2", "readout.width=16")


def main(options: Options) -> Section:
    overrides = SMALL if options.quick else ()
    cases = [Case(name, worker("training.py", count, RECIPE, *overrides)) for name, count in ((ONE, 1), (TWO, 2))]
    measured = measure(cases, repeats=options.repeats, threads=options.threads, limits=False)
    body = (
        f"`zoo run {RECIPE}`; a pass is an epoch, with its validation and its checkpoint, from the second epoch on. "
        "Batches are the same on both sides; two processes share each, and DistributedDataParallel "
        "sums their gradients through gloo.\n\n"
        + measured.table(against=ONE, item="crystal")
        + f"\n\nOf its time the model waits for batches: {_loading(measured)}."
    )
    goal = Goal("training `nequip`: crystals/s of two processes / of one", measured.ratio(ONE, TWO), at_least=1.7)
    return Section("Data-parallel training", body, [goal], [measured])


def _loading(measured: Measured) -> str:
    """The median share of an epoch, each side."""
    shares = {
        name: statistics.median(each["loading"] / each["seconds"] for each in passes.each)
        for name, passes in measured.passes.items()
    }
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items())


if __name__ == "__main__":
    command(main)
