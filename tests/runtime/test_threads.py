"""Work on several threads comes back in order, and is taken as it is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from zoo.runtime.threads import in_order


def test_in_order_and_not_ahead_of_what_is_asked_for() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number**2

    found = in_order(work, items(), 3)
    assert next(found) == 0 and len(taken) == 1, "the first is worked on alone"
    assert next(found) == 1
    assert len(taken) <= 2 + 2 * 3 + 1
    assert list(found) == [number**2 for number in range(2, 40)]


def test_several_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)

    def work(number: int) -> int:
        if number:
            both.wait()
        return number

    assert list(in_order(work, range(3), 2)) == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_in_its_place(workers: int) -> None:
    found = in_order(lambda number: 1 // (number - 2), range(4), workers)
    assert [next(found), next(found)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(found)
