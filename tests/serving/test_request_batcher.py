"""Questions of several threads in one call."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import SLOW, until

from zoo.tracking.request_batcher import RequestBatcher


def test_what_waits_is_answered_in_one_call_and_in_order() -> None:
    calls: list[list[int]] = []
    first = threading.Event()

    def answer(kind: object, questions: list[int]) -> list[int]:
        calls.append(questions)
        if len(calls) == 1:
            first.set()
            until(lambda: len(together._waiting) == 3)
        return [10 * question for question in questions]

    together = RequestBatcher(answer, most=64)
    with ThreadPoolExecutor(4) as threads:
        ahead = threads.submit(together.ask, "a", [1])
        assert first.wait(SLOW)
        others = [threads.submit(together.ask, "a", [n, n + 1]) for n in (2, 4, 6)]
        assert ahead.result() == [10]
        assert [one.result() for one in others] == [[20, 30], [40, 50], [60, 70]]
    assert len(calls) == 2 and sorted(calls[1]) == [2, 3, 4, 5, 6, 7]


def test_kinds_are_kept_apart_and_calls_within_bounds() -> None:
    calls: list[tuple[object, int]] = []
    first = threading.Event()

    def answer(kind: object, questions: list[int]) -> list[int]:
        calls.append((kind, len(questions)))
        if len(calls) == 1:
            first.set()
            until(lambda: len(together._waiting) == 4)
        return questions

    together = RequestBatcher(answer, most=4)
    with ThreadPoolExecutor(6) as threads:
        running = [threads.submit(together.ask, "a", [0])]
        assert first.wait(SLOW)
        running += [threads.submit(together.ask, kind, [n] * 3) for n, kind in enumerate("abab")]
        for one in running:
            one.result()
    assert calls[0] == ("a", 1)
    assert sorted(calls[1:], key=str) == [("a", 3), ("a", 3), ("b", 3), ("b", 3)]


def test_one_that_asks_alone_may_ask_more() -> None:
    assert RequestBatcher(lambda kind, questions: questions, most=2).ask("a", [1, 2, 3]) == [1, 2, 3]


def test_an_error_reaches_those_who_asked_and_the_next_are_answered() -> None:
    def answer(kind: object, questions: list[int]) -> list[int]:
        if 0 in questions:
            raise ValueError("zero")
        return questions

    together = RequestBatcher(answer, most=64)
    with pytest.raises(ValueError, match="zero"):
        together.ask("a", [0])
    assert together.ask("a", [1]) == [1]
