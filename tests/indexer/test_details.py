"""What is told of images is what the library knows, put together one by one in plain Python."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.indexer import library as library_module
from rwkvsearch.indexer.details import Caption, Tag, content_hashes, details_of, shapes_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.places import images_at
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import FileRow, ImageRow
from rwkvsearch.indexer.tags import tag_images


@pytest.fixture
def told(library: Library, photos: Path, encoder: Any, other_encoder: Callable[..., Any]) -> Path:
    """Ten pictures by two models; one with a copy, texts, facts and tags."""
    shutil.copy2(photos / "a/0.png", photos / "b/copy.png")
    (photos / "a/0.txt").write_text("said beside both")
    (photos / "b/copy.txt").write_text("said beside both")
    facts = {
        "title": "of one",
        "description": "A dog",
        "photoTakenTime": {"timestamp": "1600000000"},
        "geoData": {"latitude": 48.5, "longitude": -3.25, "altitude": 0.0},
    }
    (photos / "a/1.png.json").write_text(json.dumps(facts))
    sync(library, [photos], encoder)
    sync(library, [photos], other_encoder("other"))
    for model in library.models():
        sure = 0.5 if model.model_id == "fake" else 0.75
        tag_images(library, model, lambda rows, s=sure: [[("x", s), ("y", 0.6)] for _ in rows], "h")  # type: ignore[misc]
    return photos


def image(library: Library, path: Path) -> int:
    return images_at(library, [path])[path]


def test_everything_of_a_picture(library: Library, told: Path) -> None:
    key = image(library, told / "a/0.png")
    details = details_of(library, [key])[key]
    assert (details.width, details.height, details.format, details.frames) == (16, 16, "PNG", 1)
    files = [told / "a/0.png", told / "b/copy.png"]
    assert [file.path for file in details.files] == files
    for file in details.files:
        stat = file.path.stat()
        assert file.bytes == stat.st_size
        assert file.modified is not None and file.modified.tzinfo is UTC
        assert abs(file.modified.timestamp() - stat.st_mtime) < 1e-3
    assert details.captions == (Caption("said beside both", "sidecar"),)
    assert details.tags == (Tag("x", 0.75), Tag("y", 0.6))
    assert details.models == ("fake", "other")
    assert details.taken_at is details.camera is details.latitude is None


def test_what_stands_beside_it(library: Library, told: Path) -> None:
    key = image(library, told / "a/1.png")
    details = details_of(library, [key])[key]
    assert details.taken_at is not None and details.taken_at.startswith("2020-09-13T")
    assert (details.latitude, details.longitude) == (48.5, -3.25)
    assert "A dog" in {caption.text for caption in details.captions}


def test_only_of_what_is_there(library: Library, told: Path, encoder: Any) -> None:
    both, gone = image(library, told / "a/0.png"), image(library, told / "a/2.png")
    (told / "a/0.png").unlink()
    (told / "b/copy.txt").unlink()
    (told / "a/2.png").unlink()
    sync(library, [told], encoder)
    found = details_of(library, [gone, both, 999, both])
    assert [*found] == [both]
    assert [file.path for file in found[both].files] == [told / "b/copy.png"]
    assert found[both].captions == ()


def test_a_time_that_was_not_written_down(
    library: Library, photos: Path, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    path = paint(photos / "new.png", 50)
    sync(library, [photos], encoder)
    key = image(library, path)
    with library.write() as session:
        session.query(FileRow).filter(FileRow.image_id == key).update({"mtime_ns": -1})
    assert details_of(library, [key])[key].files[0].modified is None
    os.utime(path, (0, 0))
    sync(library, [photos], encoder)
    modified = details_of(library, [key])[key].files[0].modified
    assert modified == datetime(1970, 1, 1, tzinfo=UTC)


def test_shapes_and_contents(library: Library, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "_CHUNK", 3)
    with library.read() as session:
        rows = {row.id: row for row in session.query(ImageRow)}
    expected = {key: (row.content_hash, row.width, row.height) for key, row in rows.items()}
    assert len(expected) == 10
    assert shapes_of(library, [*expected, 999]) == expected
    hashes = {key: shape[0] for key, shape in expected.items()}
    assert content_hashes(library, [*expected]) == hashes
    assert {key: one.content_hash for key, one in details_of(library, [*rows]).items()} == hashes
    assert shapes_of(library, []) == details_of(library, []) == {}
