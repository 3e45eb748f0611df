"""Loading ahead changes nothing but who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from zoo.training.prefetch import prefetch


def test_the_order_is_kept_and_none_is_an_item() -> None:
    items = [0, None, 2, 3, None]
    assert list(prefetch(iter(items))) == items
    assert list(prefetch([])) == []


def test_the_next_ones_are_made_while_one_is_in_use() -> None:
    made = [threading.Event() for _ in range(6)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    loop = prefetch(items(), depth=2)
    assert next(loop) == 0
    assert made[1].wait(60) and made[2].wait(60), "in a thread: nobody has asked for them"
    assert not made[4].is_set(), "no more than two ahead"
    loop.close()


def test_an_error_comes_where_its_item_would() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the disk")

    loop = prefetch(items())
    assert next(loop) == 1
    with pytest.raises(ValueError, match="the disk"):
        next(loop)
