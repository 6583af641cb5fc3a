"""Forget and relocate: nothing is left of what is forgotten, nothing is lost of what moves."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.edit import forget, forget_gone, relocate
from rwkvsearch.indexer.indexes import open_index
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import ImageRow, Table

Paint = Callable[[Path, int], Path]


def rows(library: Library) -> dict[str, int]:
    with library.read() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) or 0
            for table in Table.metadata.sorted_tables
        }


def indexed(library: Library) -> set[Path]:
    ids, _ = library.embeddings("fake", "fake-8")
    return {path for paths in library.paths_of(ids.tolist()).values() for path in paths}


def test_forget_leaves_nothing_behind(library: Library, photos: Path, encoder: Any) -> None:
    (photos / "a/0.txt").write_text("words")
    shutil.copy2(photos / "a/1.png", photos / "b/copy.png")
    sync(library, [photos], encoder)
    assert forget(library, photos / "a") == 5
    left = rows(library)
    assert (left["files"], left["images"], left["embeddings"]) == (6, 6, 6)
    assert (left["captions"], left["texts"], left["text_embeddings"]) == (0, 0, 0)
    index = open_index(library, "fake", "fake-8")
    assert index.rows == 6
    assert forget(library, photos) == 6
    assert [*library.path.glob("ann/*")] == []
    assert {name for name, number in rows(library).items() if number} <= {"models", "settings"}
    assert sync(library, [photos], encoder).added == 10


def test_forget_one_file_and_a_root_that_is_gone(
    library: Library, photos: Path, encoder: Any
) -> None:
    sync(library, [photos / "a", photos / "b/7.png"], encoder)
    assert forget(library, photos / "b/7.png") == 1
    shutil.rmtree(photos / "a")
    assert sync(library, [photos / "a"], encoder).unreachable
    assert forget(library, photos / "a") == 5
    with pytest.raises(LibraryError, match="nothing there was indexed"):
        forget(library, photos / "a")


def test_forget_what_is_gone(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    (photos / "a/0.png").unlink()
    sync(library, [photos], encoder)
    assert forget_gone(library) == 1
    left = rows(library)
    assert (left["files"], left["images"], left["embeddings"]) == (9, 9, 9)
    assert forget_gone(library) == 0


def test_relocate_a_root(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)
    new = photos.rename(tmp_path / "elsewhere")
    assert relocate(library, photos, new) == 10
    assert library.stats().roots == [new]
    assert indexed(library) == set(new.rglob("*.png"))
    monkeypatch.setattr("rwkvsearch.indexer.found.Found.open", None)
    assert sync(library, [new], encoder).unchanged == 10


def test_relocate_what_lies_above_several_roots(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    sync(library, [photos / "a", photos / "b/7.png", photos / "b/8.png"], encoder)
    new = photos.rename(tmp_path / "elsewhere")
    assert relocate(library, photos, new) == 7
    assert library.stats().roots == [new / "a"]
    assert indexed(library) == {*(new / "a").iterdir(), new / "b/7.png", new / "b/8.png"}
    assert sync(library, None, encoder).unchanged == 7


def test_relocate_a_part_of_a_root_out_of_it_and_into_another(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    other = tmp_path / "other"
    paint(other / "x.png", 50)
    sync(library, [photos, other], encoder)
    (photos / "a").rename(other / "a")
    assert relocate(library, photos / "a", other / "a") == 5
    (photos / "b").rename(tmp_path / "alone")
    assert relocate(library, photos / "b", tmp_path / "alone") == 5
    assert library.stats().roots == [tmp_path / "alone", other, photos]
    report = sync(library, None, encoder)
    assert (report.unchanged, report.removed, report.added) == (11, 0, 0)


def test_relocate_onto_what_is_known(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    new = tmp_path / "copy"
    shutil.copytree(photos, new)
    sync(library, [photos, new], encoder)
    shutil.rmtree(photos)
    assert relocate(library, photos, new) == 10
    assert library.stats().roots == [new]
    assert library.stats().files == 10
    report = sync(library, None, encoder)
    assert (report.unchanged, report.added) == (10, 0)


def test_relocate_refuses_what_makes_no_sense(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    sync(library, [photos], encoder)
    with pytest.raises(LibraryError, match="lie inside each other"):
        relocate(library, photos, photos / "a")
    with pytest.raises(LibraryError, match="nothing there was indexed"):
        relocate(library, tmp_path / "nowhere", tmp_path / "else")


def test_paths_are_taken_as_written_or_where_they_lead(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(photos / "b")
    assert forget(library, Path("../a/0.png")) == 1
    assert forget(library, tmp_path / "link" / "a" / "1.png") == 1
    assert relocate(library, Path("../../link/b"), tmp_path / "new") == 5


def test_relocate_a_shard_with_its_folder(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    shard = photos / "pack.tar"
    with tarfile.open(shard, "w") as archive:
        archive.add(photos / "a/0.png", "m.png")
    sync(library, [photos], encoder)
    sync(library, [shard], encoder)
    new = photos.rename(tmp_path / "elsewhere")
    assert relocate(library, photos, new) == 11
    assert library.stats().roots == [new, new / "pack.tar"]
    assert sync(library, None, encoder).unchanged == 11
    (new / "pack.tar").rename(tmp_path / "other.tar")
    assert relocate(library, new / "pack.tar", tmp_path / "other.tar") == 1
    assert sync(library, None, encoder).unchanged == 11


def test_relocate_below_a_hidden_folder_of_a_root(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    other = paint(tmp_path / "other/x.png", 50).parent
    sync(library, [photos, other], encoder)
    new = other.rename(photos / ".hidden")
    assert relocate(library, other, new) == 1
    assert sync(library, None, encoder).unchanged == 11


def test_a_forgotten_member_is_found_again(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    shard = tmp_path / "pack.tar"
    with tarfile.open(shard, "w") as archive:
        for n in range(3):
            archive.add(photos / f"a/{n}.png", f"{n}.png")
    os.utime(shard, (1, 1))
    sync(library, [shard], encoder)
    assert forget(library, shard / "1.png") == 1
    assert sync(library, [shard], encoder).added == 1


def test_facts_of_a_forgotten_sidecar_are_forgotten(
    library: Library, photos: Path, encoder: Any
) -> None:
    copy = shutil.copy2(photos / "a/0.png", photos / "b/copy.png")
    taken = {"photoTakenTime": {"timestamp": "1559565181"}}
    (photos / "b/copy.png.json").write_text(json.dumps(taken))
    sync(library, [photos], encoder)
    with library.read() as session:
        (image,) = session.scalars(select(ImageRow).where(ImageRow.taken_at.is_not(None)))
        assert image.taken_at == "2019-06-03T12:33:01"
    assert forget(library, Path(copy)) == 1
    with library.read() as session:
        assert session.get_one(ImageRow, image.id).taken_at is None
