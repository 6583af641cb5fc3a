"""Labelled sets in each layout, and what is refused with which words."""

import tarfile
from pathlib import Path

import pytest

from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.labelled import LabelledPicture, open_labelled


def write(path: Path, content: bytes = b"picture") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pairs(source: str | Path) -> list[tuple[str, str, bytes]]:
    found = open_labelled(source).pictures()
    return [(Path(one.name).name, one.label, one.read()) for one in found]


def test_folders(tmp_path: Path) -> None:
    root = tmp_path / "pets-2"
    write(root / "house_cat" / "a.jpg", b"1")
    write(root / "house_cat" / "deep" / "images" / "b.PNG", b"2")
    write(root / "dog" / "c.webp", b"3")
    for ignored in ("dog/boxes.txt", "dog/.d.jpg", ".cache/e.jpg", "readme.md"):
        write(root / ignored)
    found = open_labelled(root)
    assert (found.name, found.layout, found.count) == ("pets", "folders", 3)
    assert found.labels == ("dog", "house_cat")
    assert [found.spoken(label) for label in found.labels] == ["dog", "house cat"]
    wanted = [("c.webp", "dog", b"3"), ("a.jpg", "house_cat", b"1"), ("b.PNG", "house_cat", b"2")]
    assert pairs(root) == wanted == pairs(root)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["a/1.jpg", "b/notes.txt", "c/x.md"],
            "class folders without a picture: 2, the first is b",
        ),
        (
            ["a/1.jpg", "b/2.jpg", "3.jpg"],
            "pictures beside the class folders: 1, the first is 3.jpg",
        ),
        (["train/a/1.jpg", "val/a/2.jpg"], "holds splits, not classes: name one, such as .*train"),
        (["a/1.jpg", "a/2.jpg"], "holds the one class 'a': nothing to tell apart"),
        (["1.jpg"], "no labelled set; looked for a folder of class folders, .tar shards"),
    ],
)
def test_faults_of_folders(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        write(tmp_path / "set" / name)
    with pytest.raises(DataError, match=message):
        open_labelled(tmp_path / "set")


@pytest.mark.parametrize("source", ["absent", "absent.csv", "notes.md"])
def test_no_set(tmp_path: Path, source: str) -> None:
    write(tmp_path / "notes.md")
    with pytest.raises(DataError, match=f"{source}: no labelled set; looked for"):
        open_labelled(tmp_path / source)


def test_shards(tmp_path: Path) -> None:
    label = tmp_path / "label"
    for number, text in enumerate(("a cat, a tom", "a dog")):
        label.write_text(text)
        with tarfile.open(tmp_path / f"set-val-{number:03}.tar", "w") as archive:
            archive.add(write(tmp_path / "x", b"%d" % number), f"{number}.jpg")
            archive.add(label, f"{number}.txt")
    for source in (tmp_path, str(tmp_path / "set-val-*.tar")):
        found = open_labelled(source)
        assert (found.layout, found.count) == ("webdataset", None)
        assert found.labels == ("a cat, a tom", "a dog")
        assert pairs(source) == [("0", "a cat, a tom", b"0"), ("1", "a dog", b"1")]
    assert open_labelled(tmp_path / "set-val-*.tar").name == "set-val"
    with pytest.raises(DataError, match="no shards: nothing matches"):
        open_labelled(tmp_path / "other-*.tar")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("set.csv", "path,label\nin/a.jpg,cat\n\nb c.jpg , dog\n"),
        ("set.csv", "\ufeffin/a.jpg,cat\nb c.jpg,dog\n"),
        ("set.csv", 'width,Label,file,note\n3,cat,in/a.jpg,"two\nlines"\n4,dog,b c.jpg,\n'),
        ("set.tsv", "image\tclass\nin/a.jpg\tcat\nb c.jpg\tdog\n"),
    ],
)
def test_tables(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "in" / "a.jpg", b"1")
    write(tmp_path / "b c.jpg", b"2")
    write(tmp_path / name, text.encode())
    assert pairs(tmp_path / name) == [("a.jpg", "cat", b"1"), ("b c.jpg", "dog", b"2")]
    found = open_labelled(tmp_path / name)
    assert (found.name, found.layout, found.count, found.labels) == (
        "set",
        "csv",
        2,
        ("cat", "dog"),
    )
    assert found.spoken("a_b") == "a_b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no picture"),
        ("path,label\n", "lists no picture"),
        ("a.jpg,cat\nb.jpg,dog,brown\n", "line 2: not a path and a label, and no header"),
        ("path,label\na.jpg,cat\nb.jpg,\n", "line 3: lacks a path or a label"),
        ("path,label\na.jpg,cat\nb.jpg\n", "line 3: lacks a path or a label"),
        (
            "a.jpg,cat\nb.jpg,dog\na.jpg,dog\n",
            r"line 3: a.jpg is listed already in line 1 \(1 such\)",
        ),
        ("a.jpg,cat\nc.jpg,dog\nd.jpg,dog\n", "2 of 3 pictures are missing, the first is .*c.jpg"),
        ("a.jpg,cat\nb.jpg,cat\n", "holds the one class 'cat'"),
        ("a.jpg,c\xe4t", "not a csv file in UTF-8"),
    ],
)
def test_faults_of_tables(tmp_path: Path, text: str, message: str) -> None:
    for name in ("a.jpg", "b.jpg"):
        write(tmp_path / name)
    with pytest.raises(DataError, match=f"set.csv: {message}"):
        open_labelled(write(tmp_path / "set.csv", text.encode("latin-1")))


def test_a_file_that_went_away(tmp_path: Path) -> None:
    gone = tmp_path / "gone.jpg"
    with pytest.raises(ImageError, match=r"gone.jpg: file not found"):
        LabelledPicture(str(gone), "cat", gone).read()
