"""Names that the code of models logged before version 0.1 was laid out anew imports; gone in 0.2 (`zoo.old_names`)."""

from __future__ import annotations

from zoo.tracking.request_batcher import RequestBatcher as Together
from zoo.tracking.request_validation import NO_OBJECT, OPTIONS, WANTED, Limits

__all__ = ["NO_OBJECT", "OPTIONS", "WANTED", "Limits", "Together", "put_before", "starting"]


def starting() -> bool:
    """Say that no server is starting: a served model no longer changes the server that loads it."""
    return False


def put_before(limits: Limits) -> None:
    """Do nothing: `zoo serve` validates requests by itself."""
