"""One engine for many threads, over a library that changes, goes away and comes back."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.ui.api import warm as module
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.warm import WarmEngine
from rwkvsearch.ui.open_engine import OpenEngine

from ..conftest import Run, make_picture

DEADLINE = 60


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the engines that were closed, in order."""
    seen: list[int] = []
    close = OpenEngine.close

    def watched(self: OpenEngine) -> None:
        seen.append(self.engine.size)
        close(self)

    monkeypatch.setattr(OpenEngine, "close", watched)
    return seen


@pytest.fixture
def warm(
    indexed: Path, home: Path, closed: list[int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[WarmEngine]:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.02)
    engine = WarmEngine(Settings(home))
    yield engine
    engine.close()


def until(what: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def size(warm: WarmEngine) -> int:
    with warm.lend() as engine:
        return engine.size


def test_a_change_is_seen_and_the_old_engine_closed_when_unused(
    warm: WarmEngine, indexed: Path, run: Run, closed: list[int]
) -> None:
    assert warm.wait(DEADLINE) and warm.is_ready and size(warm) == 8
    with warm.lend() as old:
        make_picture(indexed / "new.png", 100)
        assert run("index", indexed).code == 0
        until(lambda: warm.reopened)
        with warm.lend() as new:
            assert (old.size, new.size) == (8, 9) and old.encoder is new.encoder
            assert len(old.query("a dog", 20)) == 8 and len(new.query("a dog", 20)) == 9
        assert closed == []
    assert closed == [8]
    assert warm.reopened == 1


def test_many_threads_while_it_changes(
    warm: WarmEngine, indexed: Path, run: Run, closed: list[int]
) -> None:
    stop = Event()

    def ask() -> set[int]:
        seen: set[int] = set()
        while not (stop.is_set() and 11 in seen):
            with warm.lend() as engine:
                found = engine.query("a dog", 50)
                assert len(found) == engine.size
                seen.add(engine.size)
        return seen

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        for number in range(3):
            make_picture(indexed / f"new {number}.png", 100 + number)
            assert run("index", indexed).code == 0
            until(lambda number=number: size(warm) == 9 + number)  # type: ignore[misc]
        stop.set()
        seen = [one.result() for one in asking]
    assert set.union(*seen) <= {8, 9, 10, 11}
    until(lambda: len(closed) == warm.reopened)
    assert closed == sorted(closed) and 11 not in closed


def test_a_library_that_goes_away(warm: WarmEngine, home: Path, indexed: Path, run: Run) -> None:
    assert warm.wait(DEADLINE)
    away = home.with_name("away")
    home.rename(away)
    until(lambda: warm.trouble)
    assert "no library" in str(warm.trouble)
    assert size(warm) == 8
    with warm.lend() as engine:
        assert len(engine.query("a dog")) == 8
    if home.exists():
        shutil.rmtree(home)
    away.rename(home)
    until(lambda: warm.trouble is None)
    make_picture(indexed / "new.png", 100)
    assert run("index", indexed).code == 0
    until(lambda: size(warm) == 9)


def test_closed_only_when_the_last_user_is_done(
    indexed: Path, home: Path, closed: list[int]
) -> None:
    warm = WarmEngine(Settings(home))
    with warm.lend() as engine, warm.lend():
        warm.close()
        assert closed == []
        assert len(engine.query("a dog")) == 8
    assert closed == [8]


def test_what_cannot_be_loaded_is_not_ready_and_ends_no_watching(
    warm: WarmEngine, indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert warm.wait(DEADLINE)

    def fail(_: SearchEngine) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(SearchEngine, "warm", fail)
        other = WarmEngine(warm._settings)
        make_picture(indexed / "new.png", 100)
        assert run("index", indexed).code == 0
        until(lambda: size(other) == 9)
        assert not other.is_ready
    make_picture(indexed / "newer.png", 101)
    assert run("index", indexed).code == 0
    until(lambda: other.is_ready)
    other.close()
