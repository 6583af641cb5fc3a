"""Facets are what the filters leave, value by value, and what plain Python counts."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select

from rwkvsearch.indexer import facets
from rwkvsearch.indexer.facets import Count, Facets, Folder, facets_of
from rwkvsearch.indexer.filters import Box, Filters, images_passing
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import (
    CaptionRow,
    FileRow,
    ImageRow,
    ModelRow,
    RootRow,
    TagRow,
    TextRow,
)

ROOTS = {
    "/photos": "folder",
    "/photos/sets/pack.tar": "shard",
    "/": "loose",
    "/other place": "folder",
    "/never": "folder",
}
FOLDERS = ["", "2019", "2019/a", "2019/a b", "2019-06", "sets", "x/" * 9 + "deep", "2019/a/\udcff"]
CAMERAS, FORMATS, LABELS = [None, "Canon", "NIKON", "canon"], ["JPEG", "PNG"], ["cat", "sea", "öl"]
IMAGES = 300
EVERYWHERE = Box(-90, -180, 90, 180)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """Images with up to three files, some gone, in roots that lie in each other."""
    rng = np.random.default_rng(5)

    def one(values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    with Library.create(tmp_path_factory.mktemp("facets") / "library") as library:
        with library.write() as session:
            rows = [{"path": Path(path), "kind": kind} for path, kind in ROOTS.items()]
            session.execute(insert(RootRow), rows)
            model = ModelRow(
                model_id="m", preprocessing_id="p", dim=1, weights_sha256="0", created_at=0.0
            )
            session.add(model)
            session.add(TextRow(id=1, text="said"))
            session.flush()
            roots = {path: key for key, path in session.execute(select(RootRow.id, RootRow.path))}
            for image_id in range(1, IMAGES + 1):
                _enter(session, image_id, roots, model.id, one, rng)
        yield library


def _enter(
    session: Any, image_id: int, roots: dict[Path, int], model: int, one: Any,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    placed = rng.random() < 0.4
    session.add(
        ImageRow(
            id=image_id,
            content_hash=f"{image_id:064x}",
            width=one([1, 2]),
            height=one([1, 2]),
            format=one(FORMATS),
            camera=one(CAMERAS),
            taken_at=f"20{int(rng.integers(10, 30))}-01-01T00:00:00"
            if rng.random() < 0.7
            else None,
            latitude=1.0 if placed else None,
            longitude=180.0 if placed else None,
        )
    )
    for label in LABELS:
        if rng.random() < 0.3:
            session.add(TagRow(image_id=image_id, model=model, label=label, confidence=0.5))
    session.flush()
    for at in range(int(rng.integers(1, 4))):
        root = one([*ROOTS][:4])
        folder = ("alone/" if root == "/" else "") + one(FOLDERS)
        name = f"{folder}/{image_id}-{at}.png".lstrip("/")
        file = FileRow(
            root_id=roots[Path(root)],
            path=Path(name),
            size=1,
            mtime_ns=0,
            inode=0,
            image_id=image_id,
            gone_at=None if rng.random() < 0.5 else 1.0,
        )
        session.add(file)
        session.flush()
        if rng.random() < 0.3:
            beside = file.id if rng.random() < 0.7 else None
            session.add(CaptionRow(image_id=image_id, file_id=beside, text_id=1, source="s"))


def number(library: Library, filters: Filters) -> int:
    with library.read() as session:
        return len(images_passing(session, filters))


def by_hand(library: Library) -> tuple[dict[int, ImageRow], dict[int, set[Path]]]:
    """The live images, and the absolute folders of the live files of each."""
    places: dict[int, set[Path]] = defaultdict(set)
    with library.read() as session:
        roots = {row.id: row.path for row in session.scalars(select(RootRow))}
        for file in session.scalars(select(FileRow)):
            if file.gone_at is None and file.image_id is not None:
                places[file.image_id].add((roots[file.root_id] / file.path).parent)
        images = {row.id: row for row in session.scalars(select(ImageRow)) if row.id in places}
        session.expunge_all()
    return images, places


def test_values_are_counted(mixed: Library) -> None:
    found = facets_of(mixed)
    images, _ = by_hand(mixed)
    assert 0 < found.images == len(images) < IMAGES
    cameras = Counter(image.camera for image in images.values() if image.camera)
    assert {*found.cameras} == {*cameras.items()}
    assert {*found.formats} == {*Counter(image.format for image in images.values()).items()}
    taken = sorted(image.taken_at for image in images.values() if image.taken_at)
    assert (found.first_taken, found.last_taken) == (taken[0], taken[-1])
    with mixed.read() as session:
        tags = Counter(
            tag.label for tag in session.scalars(select(TagRow)) if tag.image_id in images
        )
    assert {*found.tags} == {*tags.items()}
    for counts in (found.cameras, found.formats, found.orientations, found.tags):
        assert len(counts) > 1
        assert list(counts) == sorted(counts, key=lambda one: (-one.images, one.value))


def test_values_are_what_the_filters_leave(mixed: Library) -> None:
    found = facets_of(mixed)
    assert found.images == number(mixed, Filters())
    for one in found.formats:
        assert one.images == number(mixed, Filters(formats=(one.value,)))
    for one in found.orientations:
        assert one.images == number(mixed, Filters(orientation=one.value))  # type: ignore[arg-type]
    for one in found.tags:
        assert one.images == number(mixed, Filters(tags=(one.value,)))
    assert sum(one.images for one in found.cameras if one.value.lower() == "canon") == number(
        mixed, Filters(cameras=("canon",))
    )
    assert 0 < found.captioned == number(mixed, Filters(captioned=True))
    assert 0 < found.placed == number(mixed, Filters(box=EVERYWHERE))


def test_folders_are_counted(mixed: Library) -> None:
    """Each as the filter counts it, and as plain Python does; those that are offered, all."""
    _, places = by_hand(mixed)
    found = facets_of(mixed).folders
    assert len(found) > 15
    for folder, images in found:
        below = [one for one in places.values() if any(p.is_relative_to(folder) for p in one)]
        assert images == len(below) > 0
        assert images == number(mixed, Filters(folders=(folder,)))
    assert list(found) == sorted(found, key=lambda one: (-one.images, os.fsencode(one.path)))
    assert {folder for folder, _ in found} == offered(mixed)


def offered(library: Library) -> set[Path]:
    """Every root with something in it and its folders down to a depth, but no outside ones."""
    found: set[Path] = set()
    with library.read() as session:
        roots = {row.id: (row.path, row.kind) for row in session.scalars(select(RootRow))}
        for file in session.scalars(select(FileRow).where(FileRow.gone_at.is_(None))):
            root, kind = roots[file.root_id]
            if kind == "loose":
                found.add((root / file.path).parent)
                continue
            parts = file.path.parent.parts[: facets.DEPTH]
            found |= {root.joinpath(*parts[:end]) for end in range(len(parts) + 1)}
    return found


def test_the_fullest_with_all_that_they_lie_in(
    mixed: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = facets_of(mixed).folders
    for most in range(1, len(whole)):
        monkeypatch.setattr(facets, "FOLDERS", most)
        some = facets_of(mixed).folders
        assert some == whole[:most]
        listed = {folder for folder, _ in some}
        known = {folder for folder, _ in whole}
        assert all(not (known & {*folder.parents}) - listed for folder in listed)


def test_an_empty_library(library: Library) -> None:
    assert facets_of(library) == Facets(0, (), (), (), (), (), None, None, 0, 0)


def test_after_a_sync(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    found = facets_of(library)
    assert found.folders == (Folder(photos, 10), Folder(photos / "a", 5), Folder(photos / "b", 5))
    assert found.formats == (Count("PNG", 10),)
    assert found.orientations == (Count("square", 10),)
