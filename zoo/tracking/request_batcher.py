"""Batches the requests of several threads: answering them in one call costs less than one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class _Request(Generic[Question]):
    kind: Hashable
    questions: Sequence[Question]
    answers: list[Any] = field(default_factory=list)
    error: BaseException | None = None
    done: bool = False


class RequestBatcher(Generic[Question, Answer]):
    """Answer the questions of all waiting threads in one call.

    While one thread's questions are being answered those of the others gather; the next call takes them all. Where it
    fails, each thread's are asked by themselves.

    Args:
        answer: of a kind and its questions, an answer each; never called twice at the same time.
        most: questions of one call, unless a single thread asks more.
    """

    def __init__(self, answer: Callable[[Any, list[Question]], list[Answer]], most: int) -> None:
        self._answer = answer
        self._most = most
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: list[_Request[Question]] = []

    def ask(self, kind: Hashable, questions: Sequence[Question]) -> list[Answer]:
        """The answers, in order. Only questions of one kind are answered in one call.

        Raises:
            Exception: what `answer` raises for these questions by themselves.
        """
        mine = _Request(kind, questions)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:
            if not mine.done:
                self._serve(self._take(mine))
        if mine.error is not None:
            raise mine.error
        return mine.answers

    def _take(self, mine: _Request[Question]) -> list[_Request[Question]]:
        with self._lock:
            batch, count = [mine], len(mine.questions)
            for one in self._waiting:
                if one is not mine and one.kind == mine.kind and count + len(one.questions) <= self._most:
                    batch.append(one)
                    count += len(one.questions)
            self._waiting = [one for one in self._waiting if one not in batch]
        return batch

    def _serve(self, batch: list[_Request[Question]]) -> None:
        try:
            answers = iter(self._answer(batch[0].kind, [question for one in batch for question in one.questions]))
            for one in batch:
                one.answers = [next(answers) for _ in one.questions]
        except Exception as error:
            if len(batch) > 1:  # it may be of one request: the others shall not have it
                for one in batch:
                    self._serve([one])
            else:
                batch[0].error = error
        finally:
            for one in batch:
                one.done = True
