"""Features are computed once for each content, and anew where the cache is of no use."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.labelled import open_labelled
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.feature_cache import FeatureCache, feature_cache
from rwkvsearch.retrieval.labelled_embeddings import LabelledVectors, embed_labelled_set

Floats = NDArray[np.float32]


@pytest.fixture
def folders(tmp_path: Path, pictures: list[Image.Image]) -> Path:
    for number, picture in enumerate(pictures):
        path = tmp_path / "set" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return tmp_path / "set"


class Counted:
    """The encoder's features, counting the pictures that it is asked for."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.pictures = 0

    def __call__(self, pixels: Floats) -> Floats:
        self.pictures += len(pixels)
        return self._encoder.encode_features(pixels)


def run(encoder: Encoder, folders: Path, cache: FeatureCache | None) -> tuple[LabelledVectors, int]:
    encode = Counted(encoder)
    labelled = open_labelled(folders)
    return embed_labelled_set(labelled, encoder, encode, lambda more: None, cache), encode.pictures


def same(first: LabelledVectors, second: LabelledVectors) -> bool:
    return bool((first.vectors == second.vectors).all()) and first.labels == second.labels


def test_encoded_once(
    encoder: Encoder, folders: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    cache = FeatureCache(tmp_path / "deep" / "cache.sqlite", encoder.dim)
    first, count = run(encoder, folders, cache)
    assert count == len(pictures) == len(first.vectors)
    plain, _ = run(encoder, folders, None)
    assert same(first, plain) and first.fingerprint == plain.fingerprint
    again, count = run(encoder, folders, cache)
    assert count == 0 and same(again, first)
    (folders / "class 0" / "0.png").rename(folders / "class 1" / "moved.png")
    Image.new("RGB", (40, 40), "red").save(folders / "class 1" / "new.png")
    (folders / "class 1" / "bad.png").write_bytes(b"nothing")
    moved, count = run(encoder, folders, cache)
    assert count == 1 and len(moved.vectors) == len(pictures) + 1
    assert [error.reason for error in moved.unreadable] == ["not an image"]


def test_what_cannot_be_used_is_computed_anew(
    encoder: Encoder, folders: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    wanted, _ = run(encoder, folders, None)
    file = tmp_path / "cache.sqlite"
    run(encoder, folders, FeatureCache(file, encoder.dim))
    _, count = run(encoder, folders, FeatureCache(file, encoder.dim + 1))
    assert count == len(pictures)
    file.write_bytes(b"this is no database" * 100)
    found, count = run(encoder, folders, FeatureCache(file, encoder.dim))
    assert count == len(pictures) and same(found, wanted)
    (tmp_path / "file").touch()
    found, _ = run(encoder, folders, FeatureCache(tmp_path / "file" / "c.sqlite", encoder.dim))
    assert same(found, wanted)


def test_models_and_precisions_are_kept_apart(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path))
    file = feature_cache(encoder).file
    assert file.parent == tmp_path / "features"
    assert encoder.model_id in file.name and encoder.preprocessing_id in file.name
