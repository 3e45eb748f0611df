"""An epoch of DTNet on frozen SevenNet-0: from cached embeddings against running the encoder again."""

from __future__ import annotations

from harness import Case, measure, worker
from report import Options, Section, command

CACHED, AGAIN = "from the cache", "encoder run again"


def main(options: Options) -> Section:
    argv = worker("readout_epoch_zoo.py", 8 if options.quick else 128)
    cases = [Case(CACHED, argv, "cached"), Case(AGAIN, argv, "encoder")]
    measured = measure(cases, repeats=options.repeats, threads=options.threads, memory=True)
    about = measured.passes[CACHED].about
    body = (
        f"One epoch of `dtnet_total` (forward, backward, optimizer) on {about['items']} crystals, {about['atoms']} "
        f"atoms and {about['edges']:,} edges; the embeddings are read from the disk in every epoch.\n\n"
        f"{measured.table(AGAIN, item='crystal')}"
    )
    return Section("An epoch of the readout", body, (), [measured])


if __name__ == "__main__":
    command(main)
