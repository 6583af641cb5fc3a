"""Benchmarks against recall computed by hand from the same encoder's embeddings."""

from pathlib import Path

import numpy as np
import pytest

from rwkvsearch.data.captions import CaptionSet, load_captions
from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.images import read_image
from rwkvsearch.retrieval.benchmark import measure_recall
from rwkvsearch.retrieval.encoder import Encoder

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


class Count:
    """A progress callback that adds up."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, more: int) -> None:
        assert more > 0
        self.total += more


@pytest.fixture(scope="module")
def samples() -> CaptionSet:
    return load_captions(SAMPLES)


def test_recall_by_hand(encoder: Encoder, samples: CaptionSet) -> None:
    prefix, count = "a photo of ", Count()
    result = measure_recall(encoder, samples, prefix, count)
    captions = [(n, c) for n, item in enumerate(samples.images) for c in item.captions]
    assert (result.images, result.captions) == (len(samples.images), len(captions))
    assert result.prefix == prefix and count.total == result.images + result.captions
    images = np.concatenate([encoder.encode_images([read_image(i.path)]) for i in samples.images])
    texts = np.concatenate([encoder.encode_texts([prefix + text]) for _, text in captions])
    owner = np.array([n for n, _ in captions])
    found, finds = [], []
    for text, own in zip(texts, owner, strict=True):
        scores = images @ text
        found.append(int((scores >= scores[own]).sum()))  # rank of the right image, from 1
    for number, image in enumerate(images):
        scores = texts @ image
        best = scores[owner == number].max()
        finds.append(1 + int((scores[owner != number] >= best).sum()))
    for k in (1, 5, 10):
        got = result.recall.text_to_image[f"R@{k}"], result.recall.image_to_text[f"R@{k}"]
        share = [100 * float(np.mean(np.array(ranks) <= k)) for ranks in (found, finds)]
        assert got == pytest.approx(share, abs=0.01)
        assert all(0 <= x <= 100 for x in got)


def test_recall_names_a_broken_picture(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "captions_val.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg"}],'
        ' "annotations": [{"id": 1, "image_id": 1, "caption": "a dog"}]}'
    )
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="a.jpg"):
        measure_recall(encoder, load_captions(tmp_path), "", Count())
