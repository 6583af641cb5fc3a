"""Benchmarks against recall and accuracy computed by hand from the same encoder's embeddings."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.captions import CaptionSet, load_captions
from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.images import read_image
from rwkvsearch.retrieval.benchmark import measure_accuracy, measure_recall
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


LABELS = [
    "dog",
    "cat, house cat",
    "soda bottle,pop bottle",
    "dog",
    "a very red truck",
    "cat, house cat",
]


def write_shard(path: Path, pictures: list[Image.Image], labels: list[str]) -> None:
    with tarfile.open(path, "w") as shard:
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            file = io.BytesIO()
            picture.save(file, "PNG")
            for suffix, content in (("png", file.getvalue()), ("txt", label.encode())):
                member = tarfile.TarInfo(f"{path.stem}-{number:04}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path, pictures: list[Image.Image]) -> Path:
    write_shard(tmp_path / "a.tar", pictures[:4], LABELS[:4])
    write_shard(tmp_path / "b.tar", pictures[4:6], LABELS[4:])
    return tmp_path


@pytest.mark.parametrize("templates", [["{}"], ["a photo of a {}", "one {} seen from above"]])
def test_accuracy_by_hand(
    templates: list[str], encoder: Encoder, shards: Path, pictures: list[Image.Image]
) -> None:
    count = Count()
    result = measure_accuracy(encoder, shards, templates, count)
    names = {label: [name.strip() for name in label.split(",")] for label in sorted(set(LABELS))}
    classes = {}
    for label in names:
        prompts = [template.format(name) for name in names[label] for template in templates]
        mean = encoder.encode_texts(prompts).mean(0)
        classes[label] = mean / np.linalg.norm(mean)
    ranks = []
    for picture, label in zip(pictures[:6], LABELS, strict=True):
        image = encoder.encode_images([picture])[0]
        scores = {other: float(image @ text) for other, text in classes.items()}
        ranks.append(sum(score >= scores[label] for score in scores.values()))
    assert (result.images, result.classes) == (6, 4)
    assert result.top1 == pytest.approx(100 * np.mean(np.array(ranks) <= 1), abs=0.01)
    assert result.top5 == 100  # of four classes
    assert count.total == 6 + sum(len(n) for n in names.values()) * len(templates)


def test_one_shard_alone(encoder: Encoder, shards: Path) -> None:
    result = measure_accuracy(encoder, shards / "b.tar", ["{}"], Count())
    assert (result.images, result.classes) == (2, 2)


def test_more_images_than_one_batch(
    encoder: Encoder, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    write_shard(tmp_path / "many.tar", pictures * 15, ["cat", "dog", "cow"] * 45)
    count = Count()
    result = measure_accuracy(encoder, tmp_path, ["{}"], count)
    few = tmp_path / "few"
    few.mkdir()
    write_shard(few / "few.tar", pictures, ["cat", "dog", "cow"] * 3)
    assert (result.images, count.total) == (135, 138)
    assert result.top1 == pytest.approx(measure_accuracy(encoder, few, ["{}"], Count()).top1)


def test_no_shards(encoder: Encoder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no shards"):
        measure_accuracy(encoder, tmp_path, ["{}"], Count())


def test_a_broken_picture_in_a_shard_is_named(encoder: Encoder, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as shard:
        for suffix, content in (("jpg", b"nothing"), ("txt", b"dog")):
            member = tarfile.TarInfo(f"key7.{suffix}")
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    with pytest.raises(ImageError, match="key7"):
        measure_accuracy(encoder, tmp_path, ["{}"], Count())
