"""One thread computes for all: alone at once, together in batches, errors to whom they concern."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from rwkvsearch.data.errors import ModelError
from rwkvsearch.ui.api.batching import BatchingEncoder, seconds_encoding


class Model:
    """Says how long each text is; waits for `go` before its first batch."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.begun, self.go = threading.Event(), threading.Event()

    def encode_texts(self, texts: list[str]) -> Any:
        self.threads.add(threading.get_ident())
        self.batches.append(texts)
        self.begun.set()
        assert self.go.wait(10)
        if "bad" in texts:
            raise ModelError("no such words")
        return np.array([[len(text)] for text in texts], np.float32)

    def encode_images(self, images: list[Any]) -> Any:
        self.threads.add(threading.get_ident())
        return np.array([[image] for image in images], np.float32)

    encode_patches = encode_images


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def encoder(model: Model) -> BatchingEncoder:
    found = BatchingEncoder.of("starter", None, "fp32")
    found._encoder = model  # type: ignore[assignment]
    return found


def test_whatever_comes_meanwhile_is_one_batch(encoder: BatchingEncoder, model: Model) -> None:
    texts = ["a" * size for size in range(2, 12)]
    with ThreadPoolExecutor(11) as pool:
        first = pool.submit(encoder.encode_texts, ["b"])
        assert model.begun.wait(10)
        rest = [pool.submit(encoder.encode_texts, [text, "zz"]) for text in texts]
        while len(encoder._waiting) < len(texts):
            pass
        model.go.set()
        assert first.result(10).tolist() == [[1]]
        for text, one in zip(texts, rest, strict=True):
            assert one.result(10).tolist() == [[len(text)], [2]]
    assert model.batches[0] == ["b"] and len(model.batches) == 2
    assert sorted(model.batches[1]) == sorted([*texts, *["zz"] * len(texts)])


def test_all_in_one_thread(encoder: BatchingEncoder, model: Model) -> None:
    model.go.set()
    pictures: Any = [3.0]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(encoder.encode_texts, [["a"]] * 20))
        assert [*pool.map(encoder.encode_images, [pictures] * 4)] == [[[3]]] * 4
        assert [*pool.map(encoder.encode_patches, [pictures] * 4)] == [[[3]]] * 4
    assert len(model.threads) == 1 and threading.get_ident() not in model.threads


def test_an_error_reaches_everybody_in_the_batch(encoder: BatchingEncoder, model: Model) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(encoder.encode_texts, ["good"])
        assert model.begun.wait(10)
        both = [pool.submit(encoder.encode_texts, [text]) for text in ("bad", "worse")]
        while len(encoder._waiting) < 2:
            pass
        model.go.set()
        assert first.result(10).tolist() == [[4]]
        for one in both:
            with pytest.raises(ModelError, match="no such words"):
                one.result(10)
    assert encoder.encode_texts(["again"]).tolist() == [[5]]


def test_the_time_is_that_of_who_waits(encoder: BatchingEncoder, model: Model) -> None:
    before = seconds_encoding()
    threading.Timer(0.05, model.go.set).start()
    encoder.encode_texts(["a"])
    assert seconds_encoding() - before >= 0.04
