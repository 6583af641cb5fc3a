"""Which files beside a picture belong to it, and what they say."""

import json
import os
from pathlib import Path
from types import ModuleType

import pytest

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.fields import Metadata
from rwkvsearch.data.sidecars import MAX_BYTES, MAX_LINES, find_sidecars, read_sidecar


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("photo.jpg", "photo.txt"),
        ("photo.jpg", "photo.jpg.txt"),
        ("photo.jpg", "photo.json"),
        ("photo.jpg", "photo.jpg.json"),
        ("photo.jpg", "photo.xmp"),
        ("photo.jpg", "photo.jpg.xmp"),
        ("photo.JPG", "photo.jpg.TXT"),
        ("photo.jpg", "photo.JPG.XMP"),
        ("photo.v2.jpg", "photo.v2.txt"),
        ("photo.jpg", "photo.jpg.supplemental-metadata.json"),
        ("photo.jpg", "photo.jpg.supplemental-meta.json"),
        ("photo.jpg", "photo.jpg.s.json"),
        ("photo.jpg", "photo.jpg..json"),
        ("photo(1).jpg", "photo.jpg(1).json"),
        ("photo(1).jpg", "photo.jpg.supplemental-metadata(1).json"),
        ("photo(1).jpg", "photo(1).jpg.json"),
        ("x" * 50 + ".jpg", "x" * 46 + ".json"),
    ],
)
def test_names_that_belong(image: str, name: str) -> None:
    assert find_sidecars([image, name], image) == [name]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("photo.jpg", "photo1.txt"),
        ("photo.jpg", "Photo.txt"),
        ("photo.jpg", "photo.png.txt"),
        ("photo.jpg", "photo.jpg.supplement.md"),
        ("photo.jpg", "photo.jpg.supplementary.json"),
        ("photo.jpg", "photo.jpg(1).json"),
        ("photo(1).jpg", "photo.jpg.json"),
        ("photo.jpg", "metadata.json"),
    ],
)
def test_names_that_do_not(image: str, name: str) -> None:
    assert find_sidecars({image, name}, image) == []


def test_a_raw_and_its_jpeg_share_what_is_named_after_both() -> None:
    names = {"a.nef", "a.jpg", "a.xmp", "a.jpg.txt"}
    assert find_sidecars(names, "a.nef") == ["a.xmp"]
    assert find_sidecars(names, "a.jpg") == ["a.jpg.txt", "a.xmp"]


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def sidecar(*texts: str) -> tuple[tuple[str, str], ...]:
    return tuple(("sidecar", text) for text in texts)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_text(encoding: str, tmp_path: Path) -> None:
    path = written(
        tmp_path, "a.txt", "Ein Café\r\n\n  two\tspaces \n42\nEin Café\n".encode(encoding)
    )
    assert read_sidecar(path) == Metadata(texts=sidecar("Ein Café", "two spaces", "42"))


def test_only_the_first_lines_of_a_text(tmp_path: Path) -> None:
    path = written(tmp_path, "a.txt", "\n".join(f"line {n}" for n in range(500)))
    assert len(read_sidecar(path).texts) == MAX_LINES
    assert read_sidecar(written(tmp_path, "b.txt", "")).texts == ()


def test_json(tmp_path: Path) -> None:
    document = {
        "caption": "one",
        "captions": ["two", "one", 3, None],
        "description": "three",
        "title": "IMG_1.JPG",
        "text": {"not": "a text"},
        "keywords": "sea, sun",
        "tags": ["wind", "wind", 7],
    }
    found = read_sidecar(written(tmp_path, "a.json", document))
    assert found == Metadata(texts=sidecar("one", "two", "three", "sea, sun", "wind"))


def test_google_takeout(tmp_path: Path) -> None:
    document = {
        "title": "IMG_20190603.jpg",
        "description": "At the lake",
        "photoTakenTime": {"timestamp": "1559565181", "formatted": "Jun 3, 2019"},
        "geoData": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
        "geoDataExif": {"latitude": 47.5, "longitude": -8.25},
    }
    found = read_sidecar(written(tmp_path, "a.jpg.supplemental-metadata.json", document))
    expected = Metadata("2019-06-03T12:33:01", None, None, 47.5, -8.25, sidecar("At the lake"))
    assert found == expected


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"photoTakenTime": {"timestamp": "never"}},
        {"photoTakenTime": {"timestamp": 10**30}},
        {"photoTakenTime": 5, "geoData": {"latitude": "north"}},
        {"geoData": {"latitude": 95.0, "longitude": 8.0}},
        {"geoData": {"latitude": 10**400, "longitude": 8.0}},
        {"geoData": {"latitude": float("nan"), "longitude": 8.0}},
        {"description": None, "tags": {}, "keywords": 3},
    ],
)
def test_odd_json_says_nothing(document: object, tmp_path: Path) -> None:
    assert read_sidecar(written(tmp_path, "a.json", document)) == Metadata()


def test_xmp(build: ModuleType, tmp_path: Path) -> None:
    inside = build.alternatives("dc:description", "A bridge")
    inside += "<dc:subject><rdf:Bag><rdf:li>river</rdf:li></rdf:Bag></dc:subject>"
    packet = build.xmp(inside, 'exif:DateTimeOriginal="2019-06-03T12:33:01"')
    found = read_sidecar(written(tmp_path, "a.XMP", packet))
    assert found == Metadata("2019-06-03T12:33:01", texts=sidecar("A bridge", "river"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "[1]", "not a JSON object"),
        ("a.json", "[" * 200_000, "not JSON"),
        ("a.json", b"\xff\xfe\0", "not JSON"),
        ("a.xmp", "<x:xmpmeta", "not XMP"),
        ("a.xmp", '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', "not XMP"),
        ("a.xmp", b"", "not XMP"),
        ("a.txt", b"\x89PNG\0\0\0", "not a text file"),
        ("a.txt", b"x" * (MAX_BYTES + 1), "larger than 1 MB"),
    ],
)
def test_damaged_ones_are_named(name: str, content: object, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(DataError, match=f"{name}: {said}"):
        read_sidecar(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none.txt: file not found"):
        read_sidecar(tmp_path / "none.txt")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("folder.json", "pipe.txt"):
        with pytest.raises(DataError, match=f"{name}: not a file"):
            read_sidecar(tmp_path / name)
