import io
import tarfile
from pathlib import Path

import pytest

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.shards import find_shards, iterate_shards, read_classes

Members = list[tuple[str, bytes]]
PAIR: Members = [("a.jpg", b"image a"), ("a.txt", b"cat\n")]


def write_tar(path: Path, members: Members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def as_tuples(source: str | Path) -> list[tuple[str, bytes, str]]:
    return [(item.key, item.image, item.text) for item in iterate_shards(source)]


def test_members_in_any_order(tmp_path: Path) -> None:
    members = [
        ("b.txt", b"two words"),
        ("a.jpg", b"image a"),
        ("dir/c.v2.PNG", b"image c"),
        ("a.txt", "ca\u00f1\u00f3n ".encode()),
        ("b.webp", b"image b"),
        ("dir/c.v2.txt", b"c"),
        ("a.json", b"{}"),
        ("._a.jpg", b"resource fork"),
    ]
    shard = write_tar(tmp_path / "s.tar", members)
    assert as_tuples(shard) == [
        ("b", b"image b", "two words"),
        ("a", b"image a", "ca\u00f1\u00f3n"),
        ("dir/c.v2", b"image c", "c"),
    ]


def test_folder_glob_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (1, 0):
        write_tar(tmp_path / f"set [x]/val-{n}.tar", [(f"{n}.jpg", b"i"), (f"{n}.txt", b"t")])
    write_tar(tmp_path / "set [x]/train-0.tar", PAIR)
    (tmp_path / "set [x]/notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert [key for key, *_ in as_tuples(tmp_path / "set [x]")] == ["a", "0", "1"]
    assert [key for key, *_ in as_tuples("set [x]/val-1.tar")] == ["1"]
    pattern = f"{tmp_path}/set*/val-[0-9].tar"
    assert [path.name for path in find_shards(pattern)] == ["val-0.tar", "val-1.tar"]
    monkeypatch.chdir(tmp_path / "set [x]")
    assert len(find_shards("../*/val-*.tar")) == 2


@pytest.mark.parametrize("source", ["", "absent.tar", "absent-*.tar", "absent/*.tar"])
def test_no_shards(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match=r"no shards: nothing matches .*\.tar"):
        iterate_shards(tmp_path / source)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "holds no key.jpg"),
        ([("readme.md", b"x")], "holds no key.jpg"),
        ([*PAIR, ("b.jpg", b"x")], "the key b has no text"),
        ([*PAIR, ("b.txt", b"x")], "the key b has no image"),
        ([*PAIR, ("a.png", b"x")], "the key a has two members for its image"),
        ([*PAIR, PAIR[1]], "the key a has two members for its text"),
        ([("a.jpg", b"x"), ("a.txt", b" \n")], "a.txt is empty"),
        ([("a.jpg", b"x"), ("a.txt", b"\xff")], "a.txt is not UTF-8"),
    ],
)
def test_faults(tmp_path: Path, members: Members, message: str) -> None:
    shard = write_tar(tmp_path / "shard-7.tar", members)
    with pytest.raises(DataError, match=f"shard-7.tar: .*{message}"):
        list(iterate_shards(shard))


# A member is a header of 512 bytes and its content padded to 512.
@pytest.mark.parametrize("size", [0, 100, 512, 800, 1024, 1300, 2048, 2060])
def test_cut_off_anywhere(tmp_path: Path, size: int) -> None:
    shard = write_tar(tmp_path / "s.tar", [("a.jpg", b"x" * 300), ("a.txt", b"y" * 300)])
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(DataError, match="s.tar: (not a whole tar|truncated or damaged)"):
        list(iterate_shards(shard))


def test_damaged_header_and_not_a_tar(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", [*PAIR, ("b.jpg", b"x"), ("b.txt", b"y")])
    content = bytearray(shard.read_bytes())
    content[2048:2060] = b"############"
    shard.write_bytes(content)
    with pytest.raises(DataError, match="truncated or damaged after byte 2048"):
        list(iterate_shards(shard))
    shard.write_text("not a tar " * 200)
    with pytest.raises(DataError, match="not a whole tar"):
        list(iterate_shards(shard))


def test_a_good_shard_comes_before_the_bad_one(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", PAIR)
    write_tar(tmp_path / "1.tar", PAIR[:1])
    items = iterate_shards(tmp_path)
    assert next(items).key == "a"
    with pytest.raises(DataError, match="1.tar"):
        next(items)


def test_classes(tmp_path: Path) -> None:
    texts = ["pop bottle, soda bottle", "banana", "banana", "viaduct ,"]
    for n, text in enumerate(texts):
        write_tar(tmp_path / f"{n}.tar", [(f"{n}.jpg", b"x"), (f"{n}.txt", text.encode())])
    assert read_classes(tmp_path) == {
        "banana": ("banana",),
        "pop bottle, soda bottle": ("pop bottle", "soda bottle"),
        "viaduct ,": ("viaduct",),
    }
    write_tar(tmp_path / "9.tar", [("9.jpg", b"x"), ("9.txt", b" , ")])
    with pytest.raises(DataError, match="holds no name"):
        read_classes(tmp_path)


def test_tiny_imagenet(shared_data: Path) -> None:
    shard = shared_data / "data/photos/tiny-imagenet-val-000.tar"
    if not shard.is_file():
        pytest.skip(f"no {shard}")
    assert sum(1 for _ in iterate_shards(shard)) == 2000
    assert len(read_classes(shard)) == 200
