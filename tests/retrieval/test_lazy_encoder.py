"""A model that is loaded when it is needed."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.lazy_encoder import LazyEncoder


def test_what_it_is_without_loading(installed: str, encoder: Encoder) -> None:
    lazy = LazyEncoder.of(installed, "nowhere", "fp32")
    for name in ("card", "model_id", "preprocessing_id", "image_size"):
        assert getattr(lazy, name) == getattr(encoder, name)


def test_threads_share_one_model(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load, loaded = Encoder.load, []
    monkeypatch.setattr(Encoder, "load", lambda *a, **b: loaded.append(load(*a, **b)) or loaded[-1])
    lazy, together = LazyEncoder.of(installed, "cpu", "fp32"), Barrier(8)

    def use(_number: int) -> Encoder:
        together.wait()
        return lazy.encoder

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(use, range(8))) == set(loaded) and len(loaded) == 1
