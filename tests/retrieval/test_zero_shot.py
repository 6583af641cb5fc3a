"""Zero-shot accuracy against the same computed by hand from the encoder's embeddings."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.class_names import class_names
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.labelled import open_labelled
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.zero_shot import ZeroShotResult, measure_zero_shot, spoken_names

LABELS = [
    "dog",
    "cat, house cat",
    "soda bottle,pop bottle",
    "dog",
    "a very red truck",
    "cat, house cat",
]


class Count:
    """A progress callback that adds up."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, more: int) -> None:
        assert more > 0
        self.total += more


def as_png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def write_shard(path: Path, pictures: list[bytes], labels: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            for suffix, content in (("png", picture), ("txt", label.encode())):
                member = tarfile.TarInfo(f"{path.stem}-{number:04}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def files(pictures: list[Image.Image]) -> list[bytes]:
    return [as_png(picture) for picture in pictures]


@pytest.fixture
def shards(tmp_path: Path, files: list[bytes]) -> Path:
    write_shard(tmp_path / "a.tar", files[:4], LABELS[:4])
    write_shard(tmp_path / "b.tar", files[4:6], LABELS[4:])
    return tmp_path


def measure(
    encoder: Encoder,
    source: Path,
    templates: list[str] | None = None,
    count: Count | None = None,
    names: Path | None = None,
) -> ZeroShotResult:
    labelled = open_labelled(source)
    classes = class_names(labelled, names)
    return measure_zero_shot(encoder, labelled, classes, templates or ["{}"], count or Count())


@pytest.mark.parametrize("templates", [["{}"], ["a photo of a {}", "one {} seen from above"]])
def test_by_hand(
    templates: list[str], encoder: Encoder, shards: Path, pictures: list[Image.Image]
) -> None:
    count = Count()
    result = measure(encoder, shards, templates, count).accuracy
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
    assert result.top1.value == pytest.approx(100 * np.mean(np.array(ranks) <= 1), abs=0.01)
    assert result.top5.value == 100  # of four classes
    assert count.total == 6 + sum(len(n) for n in names.values()) * len(templates)


def test_every_layout_gives_the_same(
    encoder: Encoder, shards: Path, tmp_path: Path, files: list[bytes]
) -> None:
    wanted = measure(encoder, shards)
    rows = []
    for number, (content, label) in enumerate(zip(files[:6], LABELS, strict=True)):
        path = tmp_path / "folders" / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append(f'"folders/{label}/{number}.png","{label}"\n')
    (tmp_path / "set.csv").write_text("".join(rows))
    for source in (tmp_path / "folders", tmp_path / "set.csv"):
        assert measure(encoder, source) == wanted
    (tmp_path / "set.csv").write_text("".join(rows).replace('"dog"', '"a very red truck"', 1))
    assert measure(encoder, tmp_path / "set.csv").fingerprint != wanted.fingerprint


def test_more_images_than_one_batch(encoder: Encoder, tmp_path: Path, files: list[bytes]) -> None:
    write_shard(tmp_path / "many" / "many.tar", files * 15, ["cat", "dog", "cow"] * 45)
    write_shard(tmp_path / "few" / "few.tar", files, ["cat", "dog", "cow"] * 3)
    count = Count()
    result = measure(encoder, tmp_path / "many", count=count).accuracy
    assert (result.images, count.total) == (135, 138)
    few = measure(encoder, tmp_path / "few").accuracy
    assert result.top1.value == pytest.approx(few.top1.value)


def test_classes_of_a_file_are_rivals(encoder: Encoder, shards: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    rivals = "".join(f"other {number}\n" for number in range(60))
    names.write_text("".join(f"{label}\t{label}\n" for label in sorted(set(LABELS))) + rivals)
    result, plain = (measure(encoder, shards, names=one).accuracy for one in (names, None))
    assert (result.classes, plain.classes) == (64, 4)
    assert len(result.by_class) == 4
    assert result.top5.value < plain.top5.value


def test_unreadable_pictures_are_counted_and_named(
    encoder: Encoder, tmp_path: Path, files: list[bytes]
) -> None:
    content = [files[0], b"nothing", files[1], files[2][:90]]
    write_shard(tmp_path / "all" / "x.tar", content, ["cat", "cat", "dog", "cow"])
    write_shard(tmp_path / "good" / "x.tar", files[:2], ["cat", "dog"])
    result = measure(encoder, tmp_path / "all")
    assert (result.accuracy.images, result.accuracy.classes) == (2, 3)
    named = [(error.path, error.reason) for error in result.unreadable]
    assert named == [("x-0001", "not an image"), ("x-0003", "truncated file")]
    assert result.fingerprint != measure(encoder, tmp_path / "good").fingerprint
    write_shard(tmp_path / "bad" / "x.tar", [b"", b"nothing"], ["cat", "dog"])
    with pytest.raises(DataError, match="bad: no picture can be read: x-0000: empty file"):
        measure(encoder, tmp_path / "bad")


def test_a_name_that_two_classes_share_is_told_in_full() -> None:
    classes = {"1": ("crane", "bird"), "2": ("crane", "machine"), "3": ("wren", "bird")}
    assert spoken_names(classes) == ["crane, bird", "crane, machine", "wren"]
