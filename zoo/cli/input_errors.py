"""Report of the files and crystals that a command could not process while it processed the others."""

from __future__ import annotations

from collections.abc import Collection

import click

from zoo.errors import ZooError


def report_refused(reasons: Collection[str], total: int, missing: str = "answer", things: str = "files") -> None:
    """Print the inputs without a result on stderr.

    Args:
        reasons: a line for each input without a result, which names it.
        total: number of all inputs.
        missing: name of the missing result.
        things: name of the inputs.

    Raises:
        ZooError: there are inputs without a result.
    """
    if total > 1:
        for reason in reasons:
            click.echo(f"warning: {reason}", err=True)
    if reasons:
        several = f"no {missing} for {len(reasons)} of {total} {things}: see above"
        raise ZooError(several if total > 1 else next(iter(reasons)))
