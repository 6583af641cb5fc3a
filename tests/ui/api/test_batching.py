"""Texts of many threads in one batch; every thread gets its own."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
from rwkvsearch.ui.api.batching import BatchingEncoder, seconds_encoding

THREADS = 12


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The texts of every run of the model; it waits for `go` in the first."""
    seen: list[list[str]] = []
    encode = LazyEncoder.encode_texts

    def watched(self: LazyEncoder, texts: list[str]) -> object:
        seen.append([*texts])
        if len(seen) == 1:
            assert GO.wait(60)
        return encode(self, texts)

    GO.clear()
    monkeypatch.setattr(LazyEncoder, "encode_texts", watched)
    yield seen
    GO.set()


GO = Event()


def until(what: Callable[[], bool]) -> None:
    moment = Event()
    for _ in range(6000):
        if what():
            return
        moment.wait(0.01)
    raise AssertionError("it did not happen")


def test_concurrent_texts_are_one_batch(batches: list[list[str]]) -> None:
    encoder = BatchingEncoder.of("starter", None, "fp32")
    texts = [[f"text {at}", f"another {at}"][: 1 + at % 2] for at in range(THREADS)]
    with ThreadPoolExecutor(THREADS + 1) as pool:
        first = pool.submit(encoder.encode_texts, ["the first"])
        until(lambda: len(batches) == 1)
        others = [pool.submit(encoder.encode_texts, some) for some in texts]
        until(lambda: len(encoder._waiting) == THREADS)
        GO.set()
        found = [one.result() for one in others]
        assert first.result().shape == found[0].shape
    assert batches[0] == ["the first"] and len(batches) == 2
    assert sorted(batches[1]) == sorted(text for some in texts for text in some)
    alone = Encoder.load("starter")
    for some, embeddings in zip(texts, found, strict=True):
        assert np.allclose(embeddings, alone.encode_texts(some), atol=1e-5)


def test_an_error_is_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = BatchingEncoder.of("starter", None, "fp32")
    good, calls = LazyEncoder.encode_texts, []

    def fails_once(self: LazyEncoder, texts: list[str]) -> object:
        calls.append(texts)
        if len(calls) == 1:
            raise ModelError("damaged")
        return good(self, texts)

    monkeypatch.setattr(LazyEncoder, "encode_texts", fails_once)
    with pytest.raises(ModelError, match="damaged"):
        encoder.encode_texts(["a"])
    assert encoder.encode_texts(["a"]).shape[0] == 1
    assert encoder.encode_texts([]).shape[0] == 0


def test_every_thread_knows_its_own_time() -> None:
    encoder = BatchingEncoder.of("starter", None, "fp32")
    before = seconds_encoding()
    encoder.encode_texts(["a"])
    assert seconds_encoding() > before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(seconds_encoding).result() == 0.0
