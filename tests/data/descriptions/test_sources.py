import io
import json
import tarfile
from pathlib import Path

import pytest

from rwkvsearch.data.descriptions.sources import find_items
from rwkvsearch.data.errors import DataError

SAMPLES = Path(__file__).parents[3] / "data/samples"


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_a_folder_with_a_sidecar(photos: Path) -> None:
    items = find_items(photos)
    assert [item.key for item in items] == [
        f"{folder}/{colour}.png"
        for folder, colours in (
            ("a", ("blue", "green", "red")),
            ("b", ("black", "white", "yellow")),
        )
        for colour in colours
    ]
    assert items[2].raw == ("A red square.", "Something red.")
    assert items[0].raw == ()
    assert items[0].image.read() == (photos / "a/blue.png").read_bytes()
    assert [item.key for item in find_items(photos / "a/red.png")] == ["red.png"]


def test_folder_names_as_labels(photos: Path) -> None:
    (photos / "b").rename(photos / "golden_retriever")
    items = {item.key: item.raw for item in find_items(photos, folder_labels=True)}
    assert items["golden_retriever/white.png"] == ("golden retriever",)
    assert items["a/red.png"] == ("A red square.", "Something red.")


def test_a_caption_set() -> None:
    items = find_items(SAMPLES)
    assert len(items) == 60
    assert items[0].key == "photos/tabby-cat.jpg"
    assert len(items[0].raw) == 2
    assert find_items(SAMPLES / "samples.json") == items
    with pytest.raises(DataError, match="no split 'val'"):
        find_items(SAMPLES, split="val")


def test_shards(tmp_path: Path) -> None:
    ours = {"texts": [{"kind": "raw", "text": "r"}, {"kind": "generated", "text": "g"}]}
    members = {
        "label.jpg": b"one",
        "label.txt": b"soda bottle, pop bottle\n",
        "dir/notes.v2.png": b"two",
        "dir/notes.v2.json": json.dumps({"captions": ["x", " y "], "width": 3}).encode(),
        "dir/notes.v2.txt": b"not this",
        "ours.webp": b"three",
        "ours.json": json.dumps(ours).encode(),
        "bare.jpg": b"four",
        "no-picture.txt": b"lost",
    }
    write_tar(tmp_path / "s-0.tar", members)
    for source in (tmp_path, tmp_path / "s-0.tar", f"{tmp_path}/s-*.tar"):
        items = find_items(source)
        assert [(item.key, item.raw) for item in items] == [
            ("label", ("soda bottle, pop bottle",)),
            ("dir/notes.v2", ("x", "y")),
            ("ours", ("r",)),
            ("bare", ()),
        ]
        assert [item.image.read() for item in items] == [b"one", b"two", b"three", b"four"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.jpg": b"x", "a.json": b"{"}, "is not JSON"),
        ({"a.jpg": b"x", "a.txt": b"\xff"}, "is not UTF-8"),
        ({"a.jpg": b"x", "a.png": b"x"}, "the key a has two members for its image"),
    ],
)
def test_faults_of_shards(members: dict[str, bytes], message: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "bad.tar", members)
    with pytest.raises(DataError, match=f"bad.tar: .*{message}"):
        find_items(tmp_path)


def test_truncated_shard(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "s.tar", {"a.jpg": b"x" * 900})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="s.tar: (not a whole tar|truncated)"):
        find_items(path)


def test_nothing_there(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="void: no pictures, captions json or .tar found"):
        find_items(tmp_path / "void")
    with pytest.raises(DataError, match="absent: no such file or folder"):
        find_items(tmp_path / "absent")
    with pytest.raises(DataError, match="only a caption set has splits"):
        find_items(photos, split="test")
    (photos / "a/red.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match="red.txt: cannot be read: not UTF-8"):
        find_items(photos)
