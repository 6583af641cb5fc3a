"""Texts are embedded once; the cache never fails a query and never tells what was asked."""

import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rwkvsearch.retrieval import text_cache
from rwkvsearch.retrieval.text_cache import TextCache

DIM = 4


class Counting:
    """An encoder of random embeddings that counts what it is given."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.asked += texts
        return np.stack([self.of(text) for text in texts])

    def of(self, text: str) -> np.ndarray:
        seed = int.from_bytes(text.encode(errors="surrogateescape")[:8], "little")
        return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "queries.sqlite"


def test_each_text_once(file: Path) -> None:
    encode = Counting()
    for _ in range(2):
        found = TextCache(file, "m", DIM).embed(["a", "b", "a"], encode)
        np.testing.assert_array_equal(found, [encode.of(text) for text in ("a", "b", "a")])
    assert sorted(set(encode.asked)) == ["a", "b"] and len(encode.asked) <= 3
    TextCache(file, "another", DIM).embed(["a"], encode)
    assert encode.asked[-1] == "a"


def test_many_texts(file: Path) -> None:
    encode = Counting()
    texts = [f"text {n}" for n in range(1234)]
    first = TextCache(file, "m", DIM).embed(texts, encode)
    again = TextCache(file, "m", DIM).embed(texts[::-1], lambda texts: pytest.fail(f"{texts}"))
    np.testing.assert_array_equal(first, again[::-1])


def test_what_was_asked_stays_private(file: Path) -> None:
    TextCache(file, "m", DIM).embed(["a secret wish"], Counting())
    assert b"secret" not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_oldest_go_first(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "MOST", 3)
    cache, encode = TextCache(file, "m", DIM), Counting()
    for text in "abcde":
        cache.embed([text], encode)
    cache.embed(list("cde"), encode)
    assert encode.asked == list("abcde")
    cache.embed(["a"], encode)
    assert encode.asked == list("abcdea")


@pytest.mark.parametrize("damage", [b"", b"no database" * 1000])
def test_a_damaged_file_is_no_error(file: Path, damage: bytes) -> None:
    encode = Counting()
    file.parent.mkdir()
    file.write_bytes(damage)
    for _ in range(2):
        found = TextCache(file, "m", DIM).embed(["a"], encode)
        np.testing.assert_array_equal(found, [encode.of("a")])


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = TextCache(tmp_path / "file" / "queries.sqlite", "m", DIM).embed(["a"], Counting())
    assert found.shape == (1, DIM)


def test_a_row_of_another_size_is_embedded_anew(file: Path) -> None:
    encode = Counting()
    TextCache(file, "m", DIM).embed(["a"], encode)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE texts SET embedding = x'00'")
    connection.close()
    np.testing.assert_array_equal(TextCache(file, "m", DIM).embed(["a"], encode)[0], encode.of("a"))


def test_many_threads(file: Path) -> None:
    encode = Counting()

    def ask(n: int) -> np.ndarray:
        return TextCache(file, "m", DIM).embed([f"{n % 7}", "same"], encode)

    with ThreadPoolExecutor(8) as pool:
        for n, found in enumerate(pool.map(ask, range(60))):
            np.testing.assert_array_equal(found, [encode.of(f"{n % 7}"), encode.of("same")])


def test_a_text_that_is_no_text(file: Path) -> None:
    # An argument in another encoding, and half of a character out of JSON.
    for odd in ("caf\udce9", "\ud800"):
        found = TextCache(file, "m", DIM).embed([odd], lambda texts: np.ones((len(texts), DIM)))
        assert found.shape == (1, DIM)


def test_more_than_it_keeps_leave_the_rest_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_cache, "MOST", 3)
    cache, encode = TextCache(file, "m", DIM), Counting()
    cache.embed(["a"], encode)
    found = cache.embed(list("wxyz"), encode)
    np.testing.assert_array_equal(found, [encode.of(text) for text in "wxyz"])
    cache.embed(["a"], lambda texts: pytest.fail(f"{texts}"))


def test_nobody_waits_for_another_writer(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while one thread writes is written by it; the others are answered at once."""
    cache, encode = TextCache(file, "m", DIM), Counting()
    writing, go = threading.Event(), threading.Event()
    write = TextCache._write

    def slowly(self: TextCache, new: dict[bytes, np.ndarray]) -> None:
        writing.set()
        assert go.wait(10)
        write(self, new)

    monkeypatch.setattr(TextCache, "_write", slowly)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.embed, ["a"], encode)
        assert writing.wait(10)
        np.testing.assert_array_equal(cache.embed(["b"], encode), [encode.of("b")])
        assert not first.done()
        go.set()
        first.result(10)
    again = TextCache(file, "m", DIM).embed(["a", "b"], lambda texts: pytest.fail(f"{texts}"))
    np.testing.assert_array_equal(again, [encode.of("a"), encode.of("b")])
