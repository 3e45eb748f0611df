"""What a command says of the files and crystals that it could not answer, while it answered the others."""

from __future__ import annotations

from collections.abc import Collection

import click

from zoo.errors import ZooError


def tell_refused(reasons: Collection[str], asked: int, missing: str = "answer", things: str = "files") -> None:
    """Name, on stderr, those without an answer.

    Args:
        reasons: a line for each of them, which names it.
        asked: how many there were in all.
        missing: what they did not get.
        things: what they are.

    Raises:
        ZooError: there are some.
    """
    if asked > 1:
        for reason in reasons:
            click.echo(f"warning: {reason}", err=True)
    if reasons:
        several = f"no {missing} for {len(reasons)} of {asked} {things}: see above"
        raise ZooError(several if asked > 1 else next(iter(reasons)))
