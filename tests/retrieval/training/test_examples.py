"""Where pictures come from: caption files, shards, folders; and what is refused."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.errors import DataError
from rwkvsearch.retrieval.models import sha256_of
from rwkvsearch.retrieval.training.config import DataConfig
from rwkvsearch.retrieval.training.examples import read_source, reduce


def picture(colour: int, size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (colour, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for n, label in enumerate(("Sea_star, starfish", "dog", "Dog")):
            for suffix, content in (("png", picture(n)), ("txt", label.encode())):
                member = tarfile.TarInfo(f"{n}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return tmp_path


def read(path: Path, share: int = 1, keep: int = 64, **settings: str):  # type: ignore[no-untyped-def]
    config = DataConfig(path.name, share, **settings)
    return read_source(config, path.parent, keep_pixels=keep).examples


def test_captions(samples: Path) -> None:
    examples = read(samples, split="test")
    assert len({example.group for example in examples}) == len(examples) >= 30
    assert all(e.picture.open().mode == "RGB" and e.texts["raw"] for e in examples)
    assert all(len(e.key) == 64 and min(e.picture.open().size) <= 64 for e in examples)


def test_labels(shards: Path) -> None:
    star, dog, other = read(shards / "a.tar", text="label")
    assert {"a Sea star", "a photo of a starfish"} <= set(star.texts["raw"])
    assert len(star.texts["raw"]) == 20 and dog.group == other.group != star.group


def test_captions_of_shards(shards: Path) -> None:
    star, dog, other = read(shards / "a.tar")
    assert star.texts == {"raw": ("Sea_star, starfish",)}
    assert len({star.group, dog.group, other.group}) == 3


def test_pictures_without_text(shards: Path) -> None:
    assert all(example.texts == {} for example in read(shards / "a.tar", text="none"))
    (shards / "bare").mkdir()
    (shards / "bare" / "x.png").write_bytes(picture(0))
    assert len(read(shards / "bare", text="none")) == 1
    with pytest.raises(DataError, match=r"x\.png has no text; give it one"):
        read(shards / "bare")


def test_a_folder_with_texts_beside_and_with_class_folders(tmp_path: Path) -> None:
    for name in ("sea_star", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "1.png").write_bytes(picture(9))
    dog, star = read(tmp_path / "set", text="label")
    assert "a photo of a sea star" in star.texts["raw"] and "a dog" in dog.texts["raw"]
    for name in ("sea_star", "dog"):
        (tmp_path / "set" / name / "1.txt").write_text(f"one {name}\nanother\n")
    assert read(tmp_path / "set")[0].texts == {"raw": ("one dog", "another")}


def test_excluded_keys(shards: Path) -> None:
    with tarfile.open(shards / "held_out.tar", "w") as shard:
        for suffix, content in (("png", picture(7)), ("txt", b"dog")):
            member = tarfile.TarInfo(f"1.{suffix}")
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    star, other = read(shards / "a.tar", text="label", exclude="held_out.tar")
    assert other.texts["raw"][0] == "Dog"
    config = DataConfig("a.tar", 9, text="label", exclude="held_out.tar")
    assert read_source(config, shards, keep_pixels=8).share == 2  # all that there are
    with pytest.raises(DataError, match=r"a\.tar: no picture is left that can be used"):
        read(shards / "a.tar", text="label", exclude="a.tar")
    (shards / "folder").mkdir()
    for n in range(3):
        (shards / "folder" / f"{n}.png").write_bytes(picture(n))
    assert len(read(shards / "folder", text="none", exclude="held_out.tar")) == 2
    (shards / "other").mkdir()
    (shards / "other" / "z.png").write_bytes(picture(0))
    with pytest.raises(DataError, match="no name in there is one of"):
        read(shards / "folder", text="none", exclude="other")


def test_kept_and_read_again(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / "x.png"
    file.write_bytes(picture(5, (400, 100)))
    kept = read(tmp_path / "set", keep=50, text="none")[0]
    assert kept.picture.open().size == (200, 50) and kept.key == sha256_of(file)
    fresh = read(tmp_path / "set", keep=0, text="none")[0]
    assert fresh.picture.open().size == (400, 100) and fresh.key == ""
    file.unlink()
    assert kept.picture.open().size == (200, 50)
    with pytest.raises(DataError, match=r"x\.png: cannot be read"):
        fresh.picture.open()


def test_a_picture_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "x.png").write_bytes(b"no")
    with pytest.raises(DataError, match="no picture is left that can be used"):
        read(tmp_path / "set", text="none")
    (tmp_path / "set" / "y.png").write_bytes(picture(3))
    with caplog.at_level("WARNING"):
        (kept,) = read(tmp_path / "set", text="none")
    assert "left out x.png" in caplog.text and kept.key == sha256_of(tmp_path / "set" / "y.png")
    broken, _ = read(tmp_path / "set", keep=0, text="none")
    with caplog.at_level("WARNING"):
        assert broken.picture.open().getcolors() == [(1024, (128, 128, 128))]
    assert "grey stands in" in caplog.text


def test_reduce_never_enlarges() -> None:
    assert reduce(picture(1, (30, 20)), 50).size == (30, 20)
    assert reduce(picture(1, (1000, 2)), 1).size == (500, 1)
    assert np.asarray(reduce(picture(200, (90, 60)), 30))[0, 0].tolist() == [200, 0, 0]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "nowhere")
