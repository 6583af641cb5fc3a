"""Every kind of damage, made for real: found, put right from the truth, and clean afterwards."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkvsearch.indexer import edit
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.doctor.run import Checkup, Report, diagnose, repair
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.indexer.sync import sync

FULL = Checkup(full=True)
Break = Callable[[sqlite3.Connection, Path, Path], Any]


@pytest.fixture
def indexed(
    library: Library, photos: Path, encoder: Any, paint: Callable[[Path, int], Path]
) -> Iterator[Library]:
    """Ten pictures, two of them with a caption beside, and a shard of two."""
    for name in ("0", "1"):
        (photos / "a" / f"{name}.txt").write_text(f"a caption of {name}")
    for seed in (20, 21):
        paint(photos.parent / f"{seed}.png", seed)
    with tarfile.open(photos.parent / "shard.tar", "w") as shard:
        for seed in (20, 21):
            shard.add(photos.parent / f"{seed}.png", f"{seed}.png")
    sync(library, [photos, photos.parent / "shard.tar"], encoder)
    yield library


def catalog(library: Library) -> sqlite3.Connection:
    return sqlite3.connect(library.path / "library.sqlite", isolation_level=None)


def faults(report: Report) -> set[str]:
    return {finding.check for finding in report.findings if finding.state == "fault"}


def run(*statements: str) -> Break:
    """Damage by SQL."""

    def damage(connection: sqlite3.Connection, home: Path, photos: Path) -> None:
        for statement in statements:
            connection.execute(statement)

    return damage


def without_unique(table: str, columns: str, *statements: str) -> Break:
    """As if the index that keeps rows apart had been lost."""
    return run(
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_schema SET sql = replace(sql, 'UNIQUE ({columns})', 'CHECK (1)')"
        f" WHERE name = '{table}'",
        f"DELETE FROM sqlite_schema WHERE tbl_name = '{table}' AND name LIKE 'sqlite_autoindex%'",
        "PRAGMA writable_schema = RESET",
        "PRAGMA schema_version = 1000",  # so that open connections see it
        *statements,
    )


def half(values: list[float]) -> str:
    return np.array(values, "<f2").tobytes().hex()


def flip(at: int) -> Break:
    """Another byte in the ann file."""

    def damage(connection: sqlite3.Connection, home: Path, photos: Path) -> None:
        (path,) = (home / "ann").iterdir()
        data = bytearray(path.read_bytes())
        data[at] ^= 0xFF
        path.write_bytes(data)

    return damage


def ann(action: Callable[[Path], Any]) -> Break:
    def damage(connection: sqlite3.Connection, home: Path, photos: Path) -> None:
        (path,) = (home / "ann").iterdir()
        action(path)

    return damage


def on_disk(action: Callable[[Path], Any]) -> Break:
    """Damage to what is indexed."""

    def damage(connection: sqlite3.Connection, home: Path, photos: Path) -> None:
        action(photos)

    return damage


def leave(*names: str) -> Break:
    """Files in the library that nobody needs."""

    def damage(connection: sqlite3.Connection, home: Path, photos: Path) -> None:
        for name in names:
            path = home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"left over")

    return damage


def silently(path: Path, at: int = -20) -> None:
    """Another content with the size and time of before."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


TAG = "INSERT INTO tags (image_id, model, label, confidence) VALUES"
DAMAGE: dict[str, tuple[Break, str]] = {
    "tag of a lost image": (run(f"{TAG} (999, 1, 'dog', 0.9)"), "references"),
    "tag of a lost model": (run(f"{TAG} (1, 999, 'dog', 0.9)"), "references"),
    "vote for a lost album": (run("INSERT INTO votes VALUES (7, 1, 1)"), "references"),
    "tags of a lost model were given": (
        run("""INSERT INTO settings VALUES ('tags:9', '{"how": "", "upto": 3}')"""),
        "orphans",
    ),
    "tag twice": (
        without_unique(
            "tags", "image_id, model, label", f"{TAG} (1, 1, 'dog', 0.9), (1, 1, 'dog', 0.8)"
        ),
        "duplicates",
    ),
    "embedding of a lost image": (
        run("INSERT INTO embeddings (image_id, model, data) VALUES (999, 1, zeroblob(24))"),
        "references",
    ),
    "embedding of a lost model": (
        run("INSERT INTO embeddings (image_id, model, data) VALUES (1, 999, zeroblob(24))"),
        "references",
    ),
    "file of a lost image": (run("UPDATE files SET image_id = 999 WHERE id = 3"), "references"),
    "file of a lost root": (run("UPDATE files SET root_id = 999 WHERE id = 1"), "references"),
    "caption of a lost file": (run("UPDATE captions SET file_id = 999"), "references"),
    "caption of a lost text": (run("UPDATE captions SET text_id = 999"), "references"),
    "text embedding of a lost text": (
        run("UPDATE text_embeddings SET text_id = 999 WHERE text_id = 1"),
        "references",
    ),
    "generation of a lost model": (
        run(
            "INSERT INTO generations (model, file_name, size, head_sha256, rows, max_embedding_id,"
            " created_at) VALUES (999, 'x', 1, '', 0, 0, 0)"
        ),
        "references",
    ),
    "ann that was replaced": (
        run(
            "INSERT INTO generations (model, file_name, size, head_sha256, rows, max_embedding_id,"
            " created_at, kind) SELECT model, file_name, size, head_sha256, rows, max_embedding_id,"
            " created_at, kind FROM generations"
        ),
        "orphans",
    ),
    "setting of a lost model": (
        run("""INSERT INTO settings VALUES ('ann:999', '{"kind": "SQ8"}')"""),
        "orphans",
    ),
    "caption twice": (
        run(
            "INSERT INTO captions (image_id, file_id, text_id, source)"
            " SELECT image_id, file_id, text_id, source FROM captions"
        ),
        "duplicates",
    ),
    "image twice": (
        without_unique(
            "images",
            "content_hash",
            "INSERT INTO images (content_hash, width, height, format)"
            " SELECT content_hash, width, height, format FROM images WHERE id < 4",
            "UPDATE files SET image_id = (SELECT max(id) FROM images) WHERE image_id = 3",
        ),
        "duplicates",
    ),
    "file twice": (
        without_unique(
            "files",
            "root_id, path",
            "INSERT INTO files (root_id, path, size, mtime_ns, inode, image_id)"
            " SELECT root_id, path, size, mtime_ns, inode, image_id FROM files WHERE id = 1",
        ),
        "duplicates",
    ),
    "text twice": (
        without_unique(
            "texts",
            "text",
            "INSERT INTO texts (text) SELECT text FROM texts",
            "UPDATE captions SET text_id = (SELECT max(id) FROM texts) WHERE text_id = 2",
        ),
        "duplicates",
    ),
    "embedding twice": (
        without_unique(
            "embeddings",
            "image_id, model",
            "INSERT INTO embeddings (image_id, model, data) SELECT image_id, model, data"
            " FROM embeddings WHERE id = 2",
        ),
        "duplicates",
    ),
    "file below two roots": (
        lambda connection, home, photos: (
            connection.execute("INSERT INTO roots (path) VALUES (?)", (os.fsencode(photos / "a"),)),
            connection.execute(
                "INSERT INTO files (root_id, path, size, mtime_ns, inode, image_id)"
                " SELECT (SELECT max(id) FROM roots), CAST('0.png' AS BLOB), size, mtime_ns, inode,"
                " image_id FROM files WHERE path = CAST('a/0.png' AS BLOB)"
            ),
        ),
        "duplicates",
    ),
    "pages of a lost index": (without_unique("texts", "text"), "database"),
    "index that lacks a row": (
        run(
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = sql || ' WHERE image_id > 1'"
            " WHERE name = 'files_of_image'",
            "PRAGMA writable_schema = RESET",
            "REINDEX files_of_image",
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET sql = replace(sql, ' WHERE image_id > 1', '')"
            " WHERE name = 'files_of_image'",
            "PRAGMA writable_schema = RESET",
        ),
        "database",
    ),
    "embedding too short": (
        run("UPDATE embeddings SET data = zeroblob(7) WHERE id = 2"),
        "embeddings",
    ),
    "embedding not finite": (
        run(f"UPDATE embeddings SET data = x'{half([float('nan')] * 12)}' WHERE id = 2"),
        "embeddings",
    ),
    "embedding not unit": (
        run(f"UPDATE embeddings SET data = x'{half([1.0] * 12)}' WHERE id IN (2, 5)"),
        "embeddings",
    ),
    "text embedding zero": (run("UPDATE text_embeddings SET data = zeroblob(24)"), "embeddings"),
    "embedding lost": (run("DELETE FROM embeddings WHERE id = 4"), "coverage"),
    "image lost": (run("UPDATE files SET image_id = NULL WHERE id = 4"), "coverage"),
    "ann lost": (ann(Path.unlink), "ann"),
    "ann cut": (ann(lambda path: os.truncate(path, 100)), "ann"),
    "ann with another head": (flip(8), "ann"),
    "ann with another middle": (flip(-200), "ann"),
    "ann with another tail": (flip(-8), "ann"),
    "ann of another image": (
        run(
            "UPDATE images SET id = 99 WHERE id = 12",
            *(f"UPDATE {t} SET image_id = 99 WHERE image_id = 12" for t in ("embeddings", "files")),
        ),
        "ann",
    ),
    "ann of too many": (
        run("DELETE FROM embeddings WHERE id = (SELECT max(id) FROM embeddings)"),
        "ann",
    ),
    "leftover of a killed run": (leave("ann/building-1.tmp"), "leftovers"),
    "ann not in use": (leave("ann/fake-77.faiss"), "leftovers"),
    "candidates of a killed tune": (leave("tune/0.faiss", "tune/lock"), "leftovers"),
    "lost thumbnail": (leave(f"thumbs/00/{'0' * 64}.webp"), "leftovers"),
    "file gone": (on_disk(lambda photos: (photos / "a" / "0.png").unlink()), "files"),
    "folder gone": (on_disk(lambda photos: shutil.rmtree(photos / "a")), "files"),
    "file touched": (on_disk(lambda photos: os.utime(photos / "a" / "0.png", (1, 1))), "files"),
    "file of other bytes": (on_disk(lambda photos: silently(photos / "a" / "0.png")), "files"),
    "shard changed": (
        on_disk(lambda photos: os.utime(photos.parent / "shard.tar", (1, 1))),
        "files",
    ),
    "shard of other bytes": (
        lambda connection, home, photos: silently(
            photos.parent / "shard.tar",
            connection.execute("SELECT max(offset) FROM files").fetchone()[0] + 60,
        ),
        "files",
    ),
    "shard gone": (on_disk(lambda photos: (photos.parent / "shard.tar").unlink()), "files"),
}


def test_a_good_library_is_clean(indexed: Library) -> None:
    before = {path: path.read_bytes() for path in indexed.path.rglob("*") if path.is_file()}
    report = diagnose(indexed, FULL)
    assert [finding for finding in report.findings if finding.state != "ok"] == []
    assert report.clean
    checks = {finding.check for finding in report.findings}
    assert checks == {
        *("database", "references", "duplicates", "orphans", "embeddings"),
        *("files", "coverage", "ann", "leftovers"),
    }
    after = {path: path.read_bytes() for path in indexed.path.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_put_right_and_gone(
    kind: str, indexed: Library, photos: Path, encoder: Any
) -> None:
    damage, check = DAMAGE[kind]
    with closing(catalog(indexed)) as connection:
        damage(connection, indexed.path, photos)
    outside = {path: path.read_bytes() for path in photos.parent.rglob("*.*g") if path.is_file()}
    report = diagnose(indexed, FULL)
    assert not report.clean
    assert check in faults(report), report.findings
    mended = repair(indexed, FULL)
    assert mended.clean, mended
    assert mended.done and not mended.failed
    again = diagnose(indexed, FULL)
    assert again.clean, again
    # What only a sync can make is made by the next one, and then nothing is left to say.
    sync(indexed, None, encoder)
    last = diagnose(indexed, FULL)
    assert [finding for finding in last.findings if finding.state == "fault"] == []
    assert [finding for finding in last.findings if finding.check == "coverage"][0].state == "ok"
    kept = {path: path.read_bytes() for path in photos.parent.rglob("*.*g") if path.is_file()}
    assert kept == outside
    assert_all_found(indexed, photos)


def assert_all_found(library: Library, photos: Path) -> None:
    """Every picture that is on the disk finds itself."""
    index = SearchIndex.open(library, "fake", "fake-8")
    ids, embeddings = library.embeddings("fake", "fake-8")
    _, found = index.search(embeddings.astype(np.float32), 1)
    np.testing.assert_array_equal(found[:, 0], ids)
    paths = {path for paths in library.paths_of(ids.tolist()).values() for path in paths}
    there = {path for path in photos.rglob("*.png")}
    with library.read() as session:
        from sqlalchemy import text

        bad = set(session.scalars(text("SELECT path FROM files WHERE error IS NOT NULL")))
    assert len(there - paths) == len(bad & {os.fsencode(p.relative_to(photos)) for p in there})


def test_what_edits_leave_behind_is_kept_until_it_is_forgotten(
    indexed: Library, photos: Path, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    paint(photos / "a" / "0.png", 77)
    (photos / "a" / "1.txt").write_text("another caption")
    sync(indexed, None, encoder)
    report = repair(indexed, FULL)
    assert report.clean and not report.done
    notes = [finding.text for finding in report.findings if finding.state == "note"]
    assert [note.split(" that")[0] for note in notes] == ["1 image", "1 text"]
    edit.forget_gone(indexed)
    assert [f for f in diagnose(indexed, FULL).findings if f.state != "ok"] == []


def test_a_sample_misses_what_only_a_full_look_sees(indexed: Library, photos: Path) -> None:
    silently(photos / "a" / "0.png")
    assert diagnose(indexed, Checkup()).clean
    assert faults(diagnose(indexed, FULL)) == {"files"}


def test_a_root_that_is_not_there_is_kept(indexed: Library, photos: Path) -> None:
    photos.rename(photos.with_name("elsewhere"))
    report = repair(indexed, FULL)
    assert report.clean and not report.done
    assert any("is not there; 10 files not looked at" in f.text for f in report.findings)
    photos.mkdir()  # a mount point with nothing in it
    assert diagnose(indexed, FULL).clean
    assert indexed.stats().files == 12


def test_single_pictures_of_a_disk_that_is_not_there_are_kept(
    indexed: Library, tmp_path: Path, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    away, lost = paint(tmp_path / "disk" / "30.png", 30), paint(tmp_path / "here" / "31.png", 31)
    sync(indexed, [away, lost], encoder)
    away.parent.rename(tmp_path / "unplugged")
    lost.unlink()
    report = repair(indexed, FULL)
    assert len(report.done) == 1
    notes = [finding.text for finding in report.findings if finding.state == "note"]
    assert f"{away.parent} is not there; 1 file not looked at" in notes
    assert indexed.stats().gone == 1
    (tmp_path / "unplugged").rename(away.parent)
    assert diagnose(indexed, FULL).clean
    assert indexed.stats().files == 13


def test_a_model_that_lacks_some_is_no_fault(
    indexed: Library, photos: Path, other_encoder: Any
) -> None:
    sync(indexed, [photos / "b"], other_encoder("second"))
    report = diagnose(indexed, FULL)
    assert report.clean
    assert [f.text for f in report.findings if f.check == "coverage"] == [
        "7 images without an embedding of second"
    ]


def test_embeddings_of_other_pictures_are_found_by_embedding_again(
    indexed: Library, photos: Path, encoder: Any
) -> None:
    with closing(catalog(indexed)) as connection:
        rows = dict(connection.execute("SELECT id, data FROM embeddings WHERE id < 3"))
        connection.execute("UPDATE embeddings SET data = ? WHERE id = 1", (rows[2],))
        connection.execute("UPDATE embeddings SET data = ? WHERE id = 2", (rows[1],))
    publish(indexed, indexed.models()[0], force=True)
    assert diagnose(indexed, FULL).clean
    checkup = Checkup(encoder=encoder, embed=12)
    assert faults(diagnose(indexed, checkup)) == {"embedding"}
    assert repair(indexed, checkup).clean
    before = encoder.encoded
    assert sync(indexed, None, encoder).added == 2
    assert encoder.encoded == before + 2
    report = diagnose(indexed, checkup)
    assert report.clean
    assert any("12 pictures embedded again" in finding.text for finding in report.findings)


def test_weights_are_asked_for(indexed: Library) -> None:
    report = diagnose(indexed, Checkup(weights=lambda model: ("fault", "other bytes")))
    assert faults(report) == {"weights"}
    assert report.findings[-1].text == "fake: other bytes"
    mended = repair(indexed, Checkup(weights=lambda model: ("fault", "other bytes")))
    assert not mended.clean and not mended.done


def test_what_lies_in_thumbs_by_another_name_is_not_touched(indexed: Library) -> None:
    (indexed.path / "thumbs").mkdir()
    own = indexed.path / "thumbs" / "my holiday.jpg"
    own.write_bytes(b"mine")
    with closing(catalog(indexed)) as connection:
        (known,) = connection.execute("SELECT content_hash FROM images LIMIT 1").fetchone()
    thumb = indexed.path / "thumbs" / f"{known}.webp"
    thumb.write_bytes(b"thumb")
    assert repair(indexed, FULL).clean
    assert own.exists() and thumb.exists()


def test_files_of_another_writer_are_left_alone(indexed: Library) -> None:
    (indexed.path / "ann" / "building-1.tmp").write_bytes(b"in the making")
    with Library.open(indexed.path) as other, other.writer():
        report = diagnose(indexed, FULL)
    assert report.clean
    assert any(f.check == "leftovers" and f.state == "note" for f in report.findings)


@pytest.mark.parametrize(
    "table", ["captions", "texts", "files", "embeddings", "sqlite_autoindex_images_1"]
)
def test_a_damaged_page_costs_only_what_was_in_it(
    table: str, indexed: Library, photos: Path, encoder: Any
) -> None:
    indexed.close()
    with closing(catalog(indexed)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with (indexed.path / "library.sqlite").open("r+b") as stream:
        stream.seek((page - 1) * size)
        stream.write(b"\xff" * 200)
    damaged = (indexed.path / "library.sqlite").read_bytes()
    with Library.open(indexed.path) as library:
        assert "database" in faults(diagnose(library, FULL))
        report = repair(library, FULL)
        assert report.clean, report
        assert (indexed.path / "library.sqlite.damaged").read_bytes() == damaged
        before = encoder.encoded
        sync(library, [photos, photos.parent / "shard.tar"], encoder)
        assert diagnose(library, FULL).clean
        stats = library.stats()
        assert (stats.images, stats.files, stats.captions) == (12, 12, 2)
        assert encoder.encoded - before == (12 if table == "embeddings" else 0)
        assert_all_found(library, photos)


def test_rows_twice_behind_an_index_that_lacks_them(
    indexed: Library, photos: Path, encoder: Any
) -> None:
    index = "sqlite_autoindex_images_1"
    with closing(catalog(indexed)) as connection:
        kept = connection.execute(
            "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = ?", (index,)
        ).fetchone()
        sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'images'").fetchone()
        DAMAGE["image twice"][0](connection, indexed.path, photos)
    with closing(catalog(indexed)) as connection:  # the index is back, without the new rows
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", kept)
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'images'", sql)
        connection.execute("PRAGMA schema_version = 2000")
    assert {"database", "duplicates"} <= faults(diagnose(indexed, FULL))
    assert repair(indexed, FULL).clean
    assert sync(indexed, None, encoder).added == 0
    assert diagnose(indexed, FULL).clean
    assert_all_found(indexed, photos)
