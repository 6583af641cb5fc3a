"""Answers computed in the background."""

import time
from collections.abc import Callable, Iterator
from threading import Event

import pytest

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.ui.api import jobs
from rwkvsearch.ui.api.jobs import Jobs


class Work:
    """Counts what it is asked, and waits for leave."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.leave = Event()
        self.leave.set()
        self.state = 1

    def __call__(self, key: str) -> str:
        self.asked.append(key)
        assert self.leave.wait(30)
        if key == "wrong":
            raise LibraryError("the library is damaged")
        if key == "bug":
            raise KeyError(key)
        return f"{key} {self.state}"


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def asked(work: Work) -> Iterator[Jobs[str, str]]:
    made: Jobs[str, str] = Jobs(work, lambda: work.state)
    yield made
    work.leave.set()
    made.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_an_answer_is_kept(work: Work, asked: Jobs[str, str]) -> None:
    for _ in range(3):
        assert asked.ask("one", 30).answer == "one 1"
    assert work.asked == ["one"]


def test_whoever_cannot_wait_is_told_that_it_runs(work: Work, asked: Jobs[str, str]) -> None:
    work.leave.clear()
    began = time.monotonic()
    job = asked.ask("one", 0.05)
    assert time.monotonic() - began < 5
    assert job.running and job.answer is None
    assert asked.ask("one").running and not asked.start("one")
    work.leave.set()
    assert asked.ask("one", 30).answer == "one 1"
    assert work.asked == ["one"]


def test_an_old_answer_is_given_until_there_is_a_new_one(
    work: Work, asked: Jobs[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked.is_current(asked.ask("one", 30))
    work.state = 2
    job = asked.ask("one", 30)
    assert (job.answer, job.running) == ("one 1", False), "it is too soon to begin again"
    assert not asked.is_current(job)
    monkeypatch.setattr(jobs, "LEAST", 0.0)
    monkeypatch.setattr(jobs, "SHARE", 0)
    work.leave.clear()
    job = asked.ask("one", 30)
    assert (job.answer, job.running) == ("one 1", True)
    work.leave.set()
    until(lambda: asked.ask("one").answer == "one 2")


def test_errors_are_answers(work: Work, asked: Jobs[str, str]) -> None:
    assert asked.ask("wrong", 30).error == "the library is damaged"
    assert asked.ask("wrong", 30).error == "the library is damaged"
    assert work.asked == ["wrong"], "not again at once"
    assert asked.ask("bug", 30).error == "see the log of the server"
    assert asked.ask("right", 30).answer == "right 1"


def test_a_library_that_cannot_be_read_stops_nothing(work: Work) -> None:
    states: list[LibraryError | int] = [LibraryError("the drive has gone"), 1]

    def state() -> int:
        found = states.pop(0) if len(states) > 1 else states[0]
        if isinstance(found, LibraryError):
            raise found
        return 1

    asked: Jobs[str, str] = Jobs(work, state)
    assert asked.ask("one", 30).error == "the drive has gone"
    assert asked.ask("two", 30).answer == "two 1"
    asked.close()


def test_one_at_a_time_and_few_are_kept(work: Work, asked: Jobs[str, str]) -> None:
    work.leave.clear()
    asked.ask("0")
    until(lambda: bool(work.asked))
    for number in range(1, 10):
        asked.ask(str(number))
    time.sleep(0.05)
    assert work.asked == ["0"]
    work.leave.set()
    until(lambda: work.asked[-1] == "9")
    assert work.asked == ["0", "6", "7", "8", "9"], "what was pushed out never starts"


def test_after_closing_nothing_starts(work: Work, asked: Jobs[str, str]) -> None:
    asked.close()
    assert asked.ask("one", 30).answer is None
    assert work.asked == []
