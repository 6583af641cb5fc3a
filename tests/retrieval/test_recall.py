"""Recall of a captioned set, by hand from the same encoder's embeddings."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.captions import CaptionedImage, CaptionSet, load_captions
from rwkvsearch.data.errors import ImageError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.ann.kinds import Kind
from rwkvsearch.indexer.ann.loose import Answers
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.ranks import DIRECTIONS
from rwkvsearch.retrieval.recall import embed_scaled, found_recall, measure_recall

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


def by_hand(
    images: NDArray[np.float32], texts: NDArray[np.float32], owner: NDArray[np.int64]
) -> tuple[list[int], list[int]]:
    """Ranks from 1, equal scores against the model."""
    found, finds = [], []
    for text, own in zip(texts, owner, strict=True):
        scores = images @ text
        found.append(int((scores >= scores[own]).sum()))
    for number, image in enumerate(images):
        scores = texts @ image
        best = scores[owner == number].max()
        finds.append(1 + int((scores[owner != number] >= best).sum()))
    return found, finds


def embedded(
    encoder: Encoder, items: Sequence[CaptionedImage], prefix: str
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    captions = [(n, c) for n, item in enumerate(items) for c in item.captions]
    images = np.concatenate([encoder.encode_images([read_image(i.source())]) for i in items])
    texts = np.concatenate([encoder.encode_texts([prefix + text]) for _, text in captions])
    return images, texts, np.array([n for n, _ in captions])


def test_by_hand(encoder: Encoder, samples: CaptionSet) -> None:
    prefix, count = "a photo of ", Count()
    result = measure_recall(encoder, samples, prefix, count)
    images, texts, owner = embedded(encoder, samples.images, prefix)
    assert (result.images, result.captions) == (len(images), len(texts))
    assert result.prefix == prefix and count.total == result.images + result.captions
    counts = np.bincount(owner)
    assert result.per_image == (counts.min(), counts.max())
    both = result.figures["pessimistic"]
    for direction, ranks in zip(DIRECTIONS, by_hand(images, texts, owner), strict=True):
        one = both[direction]
        for k in (1, 5, 10):
            share = 100 * np.mean(np.array(ranks) <= k)
            assert one.recall[f"R@{k}"] == pytest.approx(share, abs=0.01)
            low, high = result.intervals[direction][f"R@{k}"]
            assert 0 <= low <= share + 0.01 and share - 0.01 <= high <= 100
        assert one.median_rank == pytest.approx(np.median(ranks), abs=0.5)
        assert one.mean_rank == pytest.approx(np.mean(ranks), rel=0.02)
        assert one.mrr == pytest.approx(np.mean(1 / np.array(ranks)), rel=0.02)
        curve = dict(result.curve[direction])
        assert curve[1] == one.recall["R@1"] and curve[10] == one.recall["R@10"]
        chance = dict(result.chance[direction])
        assert chance.keys() == curve.keys() and max(chance.values()) == pytest.approx(100)
        assert curve[{"text_to_image": len(images)}.get(direction, len(texts))] == 100
        strict = result.figures["strict"][direction].recall
        assert all(strict[name] >= share for name, share in one.recall.items())
    assert result.searched is None and result.folds is None


def test_through_a_library(encoder: Encoder, samples: CaptionSet) -> None:
    kind = Kind("RaBitQ,Refine(SQfp16)")
    result = measure_recall(encoder, samples, "", Count(), ann=kind, folds=2)
    assert result.searched is not None and result.folds is not None
    model = result.figures["pessimistic"]
    for direction in DIRECTIONS:
        exact, ann = result.searched.exact[direction], result.searched.ann[direction]
        for name, share in model[direction].recall.items():
            assert exact[name] == pytest.approx(share, abs=4)  # one or two of the ties of fp16
            assert ann[name] <= exact[name] + 4
        assert result.searched.how[direction][0] == kind.name
        fold = result.folds.figures["pessimistic"][direction]
        assert fold.recall["R@10"] > model[direction].recall["R@10"]  # of half the gallery
    assert (result.folds.number, result.folds.images) == (2, len(samples.images) // 2)


def test_by_chance(encoder: Encoder, samples: CaptionSet) -> None:
    """As often as the images of a shuffled order have one of theirs among the first."""
    result = measure_recall(encoder, samples, "", Count())
    rng, ks = np.random.default_rng(0), (1, 5, 20, 50)
    owner = np.repeat(np.arange(len(samples.images)), [len(i.captions) for i in samples.images])
    found = np.zeros(len(ks))
    for _ in range(400):
        order = rng.permutation(owner)
        found += [len(np.unique(order[:k])) for k in ks]
    shares = 100 * found / 400 / len(samples.images)
    chance = dict(result.chance["image_to_text"])
    assert [chance[k] for k in ks] == pytest.approx(shares, rel=0.02)


def test_found_by_eye() -> None:
    answers = Answers(
        np.array([[0.9, 0.8], [0.9, 0.9], [0.9, 0.8], [0.9, -np.inf]], np.float32),
        np.array([[0, 1], [0, 1], [0, 1], [2, -1]]),
    )
    gallery = np.array([10, 11, 12])
    # First; second by a tie; not found, a wrong one first; first and alone.
    assert found_recall(answers, np.array([10, 10, 12, 12]), gallery)["R@1"] == 50.0
    assert found_recall(answers, np.array([10, 10, 12, 12]), gallery)["R@5"] == 75.0
    assert found_recall(answers, np.array([11, 11, 12, 10]), gallery)["R@1"] == 0.0
    assert found_recall(answers, np.array([11, 11, 11, 12]), np.array([11, 11, 12]))["R@1"] == 100.0


def test_scaled_decoding(encoder: Encoder, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = []
    for n, side in enumerate((40, 200, 700)):  # of 32 pixels only the last two are scaled
        noise = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
        noise.resize((side, side)).save(tmp_path / f"{n}.jpg", quality=95)
        items.append(CaptionedImage(tmp_path / f"{n}.jpg", ("words",)))
    full = np.concatenate([encoder.encode_images([read_image(i.path)]) for i in items])
    scaled, number = embed_scaled(encoder, items, full)
    assert number == 2
    assert np.array_equal(scaled[0], full[0])
    assert not np.array_equal(scaled[1:], full[1:])
    own = [encoder.encode_images([read_image(i.path, min_side=32)])[0] for i in items]
    np.testing.assert_allclose(scaled, own, atol=1e-5)
    assert (np.sum(scaled * full, axis=1) > 0.9).all()


def test_pictures_in_shards(encoder: Encoder, samples: CaptionSet, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for n, item in enumerate(samples.images):
            archive.add(item.path, f"{n:03}.jpg")
            text = "\n".join(item.captions).encode()
            member = tarfile.TarInfo(f"{n:03}.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    inside = measure_recall(encoder, load_captions(tmp_path / "a.tar"), "", Count())
    assert inside == measure_recall(encoder, samples, "", Count())


def test_a_broken_picture_is_named(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "captions_val.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg"}],'
        ' "annotations": [{"id": 1, "image_id": 1, "caption": "a dog"}]}'
    )
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="a.jpg"):
        measure_recall(encoder, load_captions(tmp_path), "", Count())
