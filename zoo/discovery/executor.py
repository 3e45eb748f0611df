"""An executor: workers that each do one item at a time, wherever they are."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from zoo.errors import ZooError

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 20.0
"""Seconds from telling a worker to end to ending it: longer than it takes to end an external program."""


@dataclass(frozen=True)
class Done(Generic[R]):
    """An item's result."""

    result: R


@dataclass(frozen=True)
class Failed:
    """An exception that the work on an item raised."""

    error: Exception


@dataclass(frozen=True)
class Lost:
    """The worker is no more; why, in words."""

    why: str


class Executor(ABC, Generic[T, R]):
    """Workers, each of which has one item at a time."""

    @abstractmethod
    def give(self, number: int, item: T) -> None:
        """Let one more worker begin; items go by their numbers from here on."""

    @abstractmethod
    def ended(self) -> list[tuple[int, Done[R] | Failed | Lost]]:
        """Wait until at least one has ended."""

    @abstractmethod
    def end(self) -> None:
        """Let all stop what they do, as by Ctrl-C, and be gone."""


def outcome(work: Callable[[T], R], item: T) -> Done[R] | Failed:
    """Do it, in a worker."""
    try:
        return Done(work(item))
    except ZooError as error:
        return Failed(error)
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)).rstrip())  # a traceback does not travel
        return Failed(error)
