"""Tags come from stored embeddings, are replaced as a whole, and go with their image."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from rwkvsearch.data.errors import LibraryBusy
from rwkvsearch.indexer import edit
from rwkvsearch.indexer.doctor.run import Checkup, diagnose, repair
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import TagRow
from rwkvsearch.indexer.tags import Tagged, count_tags, count_untagged, tag_images

Floats = NDArray[np.float32]
NAMES = ("red", "green", "blue")


def by_colour(embeddings: Floats) -> list[list[tuple[str, float]]]:
    """The brightest colour of a picture; nothing where it is not bright."""
    cells = embeddings.reshape(-1, 3, 4).mean(axis=2)
    best = cells.argmax(axis=1)
    sure = cells[np.arange(len(cells)), best]
    return [[(NAMES[n], float(s))] if s > 0.3 else [] for n, s in zip(best, sure, strict=True)]


def both(embeddings: Floats) -> Sequence[Sequence[tuple[str, float]]]:
    return [[("any", 0.5), ("thing", 0.25)] for _ in embeddings]


@pytest.fixture
def model(library: Library, photos: Path, encoder: Any) -> ModelInfo:
    """The model of a library of ten pictures."""
    sync(library, [photos], encoder)
    return library.models()[0]


def tags(library: Library) -> dict[int, list[tuple[str, float]]]:
    with library.read() as session:
        found: dict[int, list[tuple[str, float]]] = {}
        for row in session.scalars(select(TagRow).order_by(TagRow.image_id, TagRow.label)):
            found.setdefault(row.image_id, []).append((row.label, row.confidence))
        return found


def test_tags_of_the_stored_embeddings(library: Library, model: ModelInfo, photos: Path) -> None:
    for path in photos.rglob("*.png"):
        path.unlink()  # none is needed
    told: list[int] = []
    done = tag_images(library, model, by_colour, "a", progress=told.append)
    ids, embeddings = library.embeddings_of(model, range(1, 11))
    expected = zip(ids.tolist(), by_colour(embeddings.astype(np.float32)), strict=True)
    wanted = {image_id: found for image_id, found in expected if found}
    assert tags(library) == wanted
    assert 0 < len(wanted) < 10
    assert done == Tagged(10, len(wanted), len(wanted)) and told == [10]


def test_again_only_what_is_new(
    library: Library, model: ModelInfo, photos: Path, encoder: Any, paint: Callable[..., Path]
) -> None:
    assert count_untagged(library, model, "a") == 10
    tag_images(library, model, by_colour, "a")
    assert count_untagged(library, model, "a") == 0
    before = tags(library)
    assert tag_images(library, model, both, "a") == Tagged(0, 0, 0)
    assert tags(library) == before
    paint(photos / "new.png", 77)
    sync(library, [photos], encoder)
    assert count_untagged(library, model, "a") == 1
    assert tag_images(library, model, both, "a") == Tagged(1, 1, 2)
    assert tags(library) == before | {11: [("any", 0.5), ("thing", 0.25)]}


def test_all_anew(library: Library, model: ModelInfo) -> None:
    tag_images(library, model, by_colour, "a")
    first = tags(library)
    assert tag_images(library, model, both, "a", anew=True) == Tagged(10, 10, 20)
    assert tags(library) == {n: [("any", 0.5), ("thing", 0.25)] for n in range(1, 11)}
    assert count_untagged(library, model, "b") == 10  # other labels
    tag_images(library, model, by_colour, "b")
    assert tags(library) == first
    tag_images(library, model, by_colour, "b", anew=True)
    assert tags(library) == first


def test_models_are_kept_apart(
    library: Library, model: ModelInfo, photos: Path, other_encoder: Callable[..., Any]
) -> None:
    sync(library, [photos], other_encoder("other"))
    tag_images(library, model, by_colour, "a")
    before = tags(library)
    other = library.model("other", "fake-8")
    assert count_untagged(library, other, "a") == 10
    tag_images(library, other, both, "a")
    assert dict(count_tags(library))["any"] == 10
    tag_images(library, other, lambda x: [[] for _ in x], "b")
    assert tags(library) == before


def test_labels_are_counted_on_what_is_there(
    library: Library, model: ModelInfo, photos: Path, encoder: Any
) -> None:
    assert count_tags(library) == []
    tag_images(library, model, both, "a")
    assert count_tags(library) == [("any", 10), ("thing", 10)]
    next(photos.rglob("3.png")).unlink()
    sync(library, [photos], encoder)
    assert count_tags(library) == [("any", 9), ("thing", 9)]


def test_forgotten_with_their_image(library: Library, model: ModelInfo, photos: Path) -> None:
    tag_images(library, model, both, "a")
    edit.forget(library, photos / "a")
    assert len(tags(library)) == 5
    assert count_tags(library) == [("any", 5), ("thing", 5)]
    assert diagnose(library, Checkup(full=True)).clean


def test_what_is_embedded_again_is_tagged_again(
    library: Library, model: ModelInfo, photos: Path, encoder: Any
) -> None:
    tag_images(library, model, both, "a")
    edit.forget(library, photos)
    sync(library, [photos], encoder)
    assert count_untagged(library, model, "a") == 10


def test_one_writer(library: Library, model: ModelInfo) -> None:
    with Library.open(library.place) as other, other.writer():
        with pytest.raises(LibraryBusy):
            tag_images(library, model, both, "a")
    assert tags(library) == {}


KILLED = """
import os, signal, sys
from rwkvsearch.indexer import blocks, tags
from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.library import Library

blocks.BLOCK = 3
seen = []

def label(embeddings):
    seen.append(embeddings)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return [[("any", 0.5), ("thing", 0.25)] for _ in embeddings]

with Library.open(place_of(sys.argv[1])) as library:
    tags.tag_images(library, library.models()[0], label, "a")
"""


def test_a_killed_run_goes_on(library: Library, model: ModelInfo) -> None:
    tag_images(library, model, by_colour, "old")
    old = tags(library)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(library.place)])
    assert killed.returncode == -signal.SIGKILL
    new = [("any", 0.5), ("thing", 0.25)]
    assert tags(library) == {**old, **{n: new for n in range(1, 7)}}
    assert diagnose(library, Checkup(full=True)).clean
    assert tag_images(library, model, both, "a").images == 4
    assert tags(library) == {n: new for n in range(1, 11)}


def test_doctor_is_content_with_tags(library: Library, model: ModelInfo) -> None:
    tag_images(library, model, both, "a")
    report = diagnose(library, Checkup(full=True))
    assert [finding for finding in report.findings if finding.state != "ok"] == []


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("table", ["texts", "tags", "embeddings"])
def test_tags_are_salvaged(
    table: str, library: Library, model: ModelInfo, photos: Path, encoder: Any
) -> None:
    """They outlive damage elsewhere; a page of their own costs what was in it until `tag`."""
    tag_images(library, model, both, "a")
    before = tags(library)
    library.close()
    with closing(sqlite3.connect(library.path / "library.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with (library.path / "library.sqlite").open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"\xff" * 200)
    with Library.open(library.place) as opened:
        assert repair(opened, Checkup(full=True)).clean
        assert tags(opened) == ({} if table == "tags" else before)
        sync(opened, [photos], encoder)
        assert diagnose(opened, Checkup(full=True)).clean
        assert count_untagged(opened, opened.models()[0], "a") == 10
        tag_images(opened, opened.models()[0], both, "a")
        assert tags(opened) == before
