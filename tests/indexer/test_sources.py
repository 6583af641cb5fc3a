"""Single pictures, shards, caption sets, several roots: each in its place, none twice."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from rwkvsearch.data.errors import DataError, LibraryError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import SyncReport
from rwkvsearch.indexer.sync import SyncOptions, sync
from rwkvsearch.indexer.tables import CaptionRow, FileRow, ImageRow, TextEmbeddingRow, TextRow

Paint = Callable[[Path, int], Path]


def counts(report: SyncReport) -> tuple[int, int, int, int, int]:
    return (
        report.added,
        report.reused,
        report.unchanged,
        report.removed,
        len(report.errors),
    )


def indexed(library: Library) -> set[Path]:
    ids, _ = library.embeddings("fake", "fake-8")
    return {path for paths in library.paths_of(ids.tolist()).values() for path in paths}


def texts(library: Library) -> set[tuple[str, str]]:
    with library.read() as session:
        rows = session.execute(
            select(CaptionRow.source, TextRow.text).join(TextRow, TextRow.id == CaptionRow.text_id)
        )
        return {(source, text) for source, text in rows}


def pack(shard: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(shard, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return shard


def test_single_pictures_share_one_place(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    files = [photos / "a/0.png", photos / "b/9.png", paint(tmp_path / "else/x.png", 50)]
    assert counts(sync(library, files, encoder)) == (3, 0, 0, 0, 0)
    assert library.stats().roots == []
    files[0].unlink()
    words = photos / "words.txt"
    words.write_text("no picture")
    report = sync(library, [*files, photos / "nothing.png", words], encoder)
    assert counts(report) == (0, 0, 2, 1, 2)
    reasons = {path.name: why.split(" (")[0] for path, why in report.errors}
    assert reasons == {
        "nothing.png": "file not found",
        "words.txt": "not the name of a picture",
    }
    assert indexed(library) == {*files[1:]}


def test_everything_again_without_naming_it(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    loose = paint(tmp_path / "else/x.png", 50)
    shard = pack(tmp_path / "s.tar", {"m.png": paint(tmp_path / "else/y.png", 51).read_bytes()})
    with pytest.raises(DataError, match="nothing was indexed before: name a folder"):
        sync(library, None, encoder)
    sync(library, [photos / "a", loose, shard], encoder)
    assert counts(sync(library, None, encoder)) == (0, 0, 7, 0, 0)
    (photos / "a/0.png").unlink()
    loose.unlink()
    shard.unlink()
    assert counts(sync(library, None, encoder)) == (0, 0, 4, 3, 0)


def test_a_folder_takes_over_single_pictures(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    sync(library, [photos / "a/0.png", photos / "b"], encoder)
    assert counts(sync(library, [tmp_path], encoder)) == (4, 0, 6, 0, 0)
    assert library.stats().roots == [tmp_path]
    assert len(indexed(library)) == 10


def test_a_shard_its_texts_and_its_changes(
    library: Library, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    one, two, three = (paint(tmp_path / f"{n}.png", n).read_bytes() for n in range(3))
    members = {
        "dogs/1.png": one,
        "dogs/1.txt": b"a dog\n",
        "dogs/2.png": two,
        "dogs/2.json": json.dumps({"caption": "two dogs"}).encode(),
        "dogs/.hidden.png": three,
        "notes.md": b"no",
    }
    shard = pack(tmp_path / "dogs-000.tar", members)
    assert counts(sync(library, [shard], encoder)) == (2, 0, 0, 0, 0)
    assert indexed(library) == {shard / "dogs/1.png", shard / "dogs/2.png"}
    assert texts(library) == {("sidecar", "a dog"), ("sidecar", "two dogs")}
    assert counts(sync(library, [shard], encoder)) == (0, 0, 2, 0, 0)
    for image_id, (path,) in library.paths_of([1, 2]).items():
        with library.open_image(image_id) as stream:
            assert stream.read() == members[str(path.relative_to(shard))]
    del members["dogs/1.png"]
    pack(shard, {"first.png": three} | members)
    assert counts(sync(library, [shard], encoder)) == (1, 1, 0, 1, 0)
    with library.open_image(2) as stream:
        assert read_image(stream).size == (16, 16)


def test_a_cut_shard_gives_what_it_has_and_says_so(
    library: Library, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    members = {f"{n}.png": paint(tmp_path / f"{n}.png", n).read_bytes() for n in range(4)}
    shard = pack(tmp_path / "x.tar", members)
    shard.write_bytes(shard.read_bytes()[:1550])
    report = sync(library, [shard], encoder)
    assert counts(report)[0] == 1
    assert "truncated file" in [why for _, why in report.unreachable]
    shard.write_bytes(b"nonsense" * 200)
    report = sync(library, [shard], encoder)
    assert len(report.unreachable) == 1 and report.removed == 0
    assert library.stats().files == 1


def test_a_compressed_shard_is_refused(library: Library, encoder: Any, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match="not a whole tar, or a compressed one"):
        sync(library, [tmp_path / "x.tar"], encoder)
    assert library.stats().roots == []


def test_captions_of_a_set_and_sidecars_live_side_by_side(
    library: Library, photos: Path, encoder: Any
) -> None:
    picture = photos / "a/0.png"
    picture.with_suffix(".txt").write_text("from a sidecar\nand another line\n")
    captions = {picture: ("a caption", "a second one")}
    sync(library, [], encoder, captions=captions)
    said = {
        ("captions", "a caption"),
        ("captions", "a second one"),
        ("sidecar", "from a sidecar"),
        ("sidecar", "and another line"),
    }
    assert texts(library) == said
    assert sync(library, [photos], encoder).unchanged == 1
    assert texts(library) == said
    assert encoder.told == 4
    picture.with_suffix(".txt").write_text("changed words")
    assert counts(sync(library, [photos], encoder)) == (0, 0, 10, 0, 0)
    assert texts(library) == {*said, ("sidecar", "changed words")} - {
        ("sidecar", "from a sidecar"),
        ("sidecar", "and another line"),
    }
    picture.with_suffix(".txt").unlink()
    sync(library, [], encoder, captions={picture: ("only this",)})
    assert texts(library) == {("captions", "only this")}
    with library.read() as session:
        assert session.query(TextEmbeddingRow).count() == 6


def test_a_damaged_sidecar_is_named_and_stops_nothing(
    library: Library, photos: Path, encoder: Any
) -> None:
    (photos / "a/0.json").write_text("{")
    report = sync(library, [photos], encoder)
    assert counts(report) == (10, 0, 0, 0, 0)
    ((path, reason),) = report.faults
    assert path == photos / "a/0.json" and reason.startswith("not JSON")


def test_facts_of_a_sidecar_fill_in_what_the_picture_does_not_say(
    library: Library, photos: Path, encoder: Any
) -> None:
    (photos / "a/0.png.json").write_text(
        json.dumps(
            {
                "photoTakenTime": {"timestamp": "1559565181"},
                "geoData": {"latitude": 41.9, "longitude": 12.5},
            }
        )
    )
    sync(library, [photos / "a"], encoder)
    with library.read() as session:
        row = session.get_one(ImageRow, 1)
        assert (row.taken_at, row.latitude, row.longitude) == ("2019-06-03T12:33:01", 41.9, 12.5)


def _takeout(path: Path, seconds: int, latitude: float, longitude: float) -> None:
    place = {"latitude": latitude, "longitude": longitude}
    moment = {"timestamp": str(seconds)}
    path.write_text(json.dumps({"photoTakenTime": moment, "geoData": place}))


def _facts(library: Library, image_id: int = 1) -> tuple[str | None, float | None, float | None]:
    with library.read() as session:
        row = session.get_one(ImageRow, image_id)
        return row.taken_at, row.latitude, row.longitude


def test_a_corrected_or_removed_sidecar_takes_back_its_facts(
    library: Library, photos: Path, encoder: Any
) -> None:
    beside = photos / "a/0.png.json"
    _takeout(beside, 1_000_000_000, 1, 2)
    sync(library, [photos / "a"], encoder)
    assert _facts(library) == ("2001-09-09T01:46:40", 1, 2)
    _takeout(beside, 1_500_000_000, 40, 50)
    sync(library, [photos / "a"], encoder)
    assert _facts(library) == ("2017-07-14T02:40:00", 40, 50)
    beside.unlink()
    sync(library, [photos / "a"], encoder)
    assert _facts(library) == (None, None, None)
    assert encoder.encoded == 5


def test_facts_beside_a_copy_count_while_it_is_there_and_those_of_the_picture_always(
    library: Library, photos: Path, encoder: Any, paint: Paint
) -> None:
    picture, copy = photos / "a/picture.jpg", photos / "a/z.jpg"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2010:01:02 03:04:05"
    with Image.open(photos / "a/0.png") as image:
        image.convert("RGB").save(picture, exif=exif)
    shutil.copy(picture, copy)
    _takeout(photos / "a/z.jpg.json", 1_000_000_000, 1, 2)
    sync(library, [picture, copy], encoder)
    assert _facts(library) == ("2010-01-02T03:04:05", 1, 2)
    content = copy.read_bytes()
    paint(copy, 77)  # the copy becomes another picture, which the sidecar is about now
    sync(library, [copy], encoder)
    assert _facts(library) == ("2010-01-02T03:04:05", None, None)
    assert _facts(library, 2) == ("2001-09-09T01:46:40", 1, 2)
    copy.write_bytes(content)
    sync(library, [copy], encoder)
    assert _facts(library) == ("2010-01-02T03:04:05", 1, 2)
    hidden = copy.rename(photos / "hidden")
    sync(library, [copy], encoder)
    assert _facts(library) == ("2010-01-02T03:04:05", None, None)
    hidden.rename(copy)
    sync(library, [copy], encoder)
    assert _facts(library) == ("2010-01-02T03:04:05", 1, 2)


def test_captions_follow_a_file_to_its_new_content_and_go_when_it_is_bad(
    library: Library, photos: Path, encoder: Any, paint: Paint
) -> None:
    picture = photos / "a/0.png"
    picture.with_suffix(".txt").write_text("beside")
    sync(library, [], encoder, captions={picture: ("in a set",)})
    paint(picture, 500)
    sync(library, [picture], encoder)
    with library.read() as session:
        owner = select(FileRow.image_id).scalar_subquery()
        assert session.scalars(select(CaptionRow.image_id == owner)).all() == [True, True]
    picture.write_bytes(b"no picture")
    assert len(sync(library, [picture], encoder).errors) == 1
    assert library.stats().captions == 0


def test_texts_of_a_moved_picture_go_with_it(library: Library, photos: Path, encoder: Any) -> None:
    (photos / "a/0.txt").write_text("words")
    sync(library, [photos], encoder)
    (photos / "a/0.png").rename(photos / "b/new.png")
    (photos / "a/0.txt").rename(photos / "b/new.txt")
    assert counts(sync(library, [photos], encoder)) == (0, 1, 9, 0, 0)
    assert texts(library) == {("sidecar", "words")}
    assert encoder.told == 1


def test_a_file_that_returns_costs_nothing(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)
    (photos / "a").rename(tmp_path / "gone")
    assert counts(sync(library, [photos], encoder)) == (0, 0, 5, 5, 0)
    assert library.stats().gone == 5
    monkeypatch.setattr("rwkvsearch.indexer.found.Found.open", None)
    (tmp_path / "gone").rename(photos / "a")
    assert counts(sync(library, [photos], encoder)) == (0, 0, 10, 0, 0)
    (photos / "a").rename(tmp_path / "gone")
    sync(library, [photos], encoder)
    (tmp_path / "gone").rename(photos / "c")
    assert counts(sync(library, [photos], encoder)) == (0, 5, 5, 0, 0)
    assert library.stats().gone == 0
    assert encoder.encoded == 10


def test_a_disk_mounted_anew_costs_nothing(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)
    with library.write() as session:
        session.connection().exec_driver_sql(
            "UPDATE files SET device = device + 1, inode = inode + 1000"
        )
    monkeypatch.setattr("rwkvsearch.indexer.found.Found.open", None)
    assert counts(sync(library, [photos], encoder)) == (0, 0, 10, 0, 0)
    with library.write() as session:
        session.connection().exec_driver_sql("UPDATE files SET inode = inode + 1000")
    monkeypatch.undo()
    assert counts(sync(library, [photos], encoder)) == (0, 10, 0, 0, 0)


def test_a_change_within_one_tick_of_the_clock_is_seen(
    library: Library, photos: Path, encoder: Any, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photos / "a/0.png"
    now = time.time_ns()
    os.utime(path, ns=(now, now))
    monkeypatch.setattr("rwkvsearch.indexer.prepare.time.time_ns", lambda: now + 1000)
    sync(library, [path], encoder)
    size = path.stat().st_size
    for seed in range(100, 400):
        paint(path, seed)
        if path.stat().st_size == size:
            break
    os.utime(path, ns=(now, now))
    assert path.stat().st_size == size
    report = sync(library, [path], encoder)
    assert counts(report) == (1, 0, 0, 0, 0)


def test_exclude_and_what_was_indexed_before(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    options = SyncOptions(exclude=["b/"])
    assert counts(sync(library, [photos], encoder, options)) == (0, 0, 5, 5, 0)
    assert counts(sync(library, [photos], encoder)) == (0, 0, 10, 0, 0)


def test_copies_across_roots_are_one_image(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    assert counts(sync(library, [photos, tmp_path / "copy"], encoder)) == (10, 10, 0, 0, 0)
    assert (library.stats().images, library.stats().files) == (10, 20)


def test_an_image_that_cannot_be_read_now(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos / "a/0.png"], encoder)
    (photos / "a/0.png").unlink()
    with pytest.raises(LibraryError, match=r"a/0\.png: cannot be read now"):
        library.open_image(1)


def test_a_moved_root_takes_its_pictures_along(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)
    new = photos.rename(tmp_path / "elsewhere")
    monkeypatch.setattr("rwkvsearch.indexer.found.Found.open", None)
    assert counts(sync(library, [new], encoder)) == (0, 10, 0, 0, 0)
    assert indexed(library) == set(new.rglob("*.png"))
    assert encoder.encoded == 10


def test_a_part_of_a_root_that_was_emptied_or_removed_is_gone(
    library: Library, photos: Path, encoder: Any
) -> None:
    sync(library, [photos], encoder)
    for path in (photos / "a").iterdir():
        path.unlink()
    assert counts(sync(library, [photos / "a"], encoder)) == (0, 0, 0, 5, 0)
    shutil.rmtree(photos / "b")
    report = sync(library, [photos / "b"], encoder)
    assert (report.removed, report.unreachable) == (5, [])


def test_ignore_files_above_a_part_of_a_root_count(
    library: Library, photos: Path, encoder: Any
) -> None:
    (photos / ".rwkvsearchignore").write_text("a/1.png\n/b/\n")
    assert counts(sync(library, [photos], encoder)) == (4, 0, 0, 0, 0)
    assert counts(sync(library, [photos / "a"], encoder)) == (0, 0, 4, 0, 0)
    with pytest.raises(DataError, match="no images found"):
        sync(library, [photos / "b"], encoder)
    assert library.stats().files == 4


def several(tmp_path: Path, paint: Paint) -> dict[str, bytes]:
    """Members of one size."""
    contents: list[bytes] = []
    for seed in range(300, 600):
        content = paint(tmp_path / "spare.png", seed).read_bytes()
        if not contents or len(content) == len(contents[0]):
            contents.append(content)
    (tmp_path / "spare.png").unlink()
    return {f"{n}.png": content for n, content in enumerate(contents[:3])}


def test_a_renamed_shard_keeps_its_pictures_apart(
    library: Library, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    members = several(tmp_path, paint)
    shard = pack(tmp_path / "x.tar", members)
    os.utime(shard, (1, 1))
    sync(library, [shard], encoder)
    other = shard.rename(tmp_path / "y.tar")
    assert counts(sync(library, [shard, other], encoder))[0] == 0
    for name, (path, *_) in ((str(p[0].name), p) for p in library.paths_of([1, 2, 3]).values()):
        assert path == other / name
    for n in range(3):
        with library.open_image(n + 1) as stream:
            assert stream.read() == members[f"{n}.png"]
    other.rename(shard)
    assert counts(sync(library, [shard], encoder)) == (0, 0, 3, 0, 0)
    assert indexed(library) == {shard / name for name in members}
    (tmp_path / "away").mkdir()
    away = shard.rename(tmp_path / "away/x.tar")
    assert counts(sync(library, [shard], encoder)) == (0, 0, 0, 3, 0)
    away.rename(shard)
    assert counts(sync(library, [shard], encoder)) == (0, 0, 3, 0, 0)
    assert encoder.encoded == 3


def test_names_in_a_shard_stay_inside_it(
    library: Library, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    one, two, three = several(tmp_path, paint).values()
    shard = pack(tmp_path / "x.tar", {"./a.png": one, "a.png": two, "/etc/../b.png": three})
    assert counts(sync(library, [shard], encoder)) == (2, 0, 0, 0, 0)
    assert indexed(library) == {shard / "a.png", shard / "etc/b.png"}


def test_a_damaged_header_in_a_shard_is_told(
    library: Library, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    shard = pack(tmp_path / "x.tar", several(tmp_path, paint))
    data = bytearray(shard.read_bytes())
    second = 512 + 512 * -(-len(several(tmp_path, paint)["0.png"]) // 512)
    data[second : second + 512] = b"?" * 512
    shard.write_bytes(data)
    report = sync(library, [shard], encoder)
    assert counts(report)[0] == 1
    assert "truncated or damaged after byte" in report.unreachable[0][1]


def test_what_was_not_mounted_is_kept(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    (tmp_path / "disk").mkdir()
    shard = pack(tmp_path / "disk/x.tar", several(tmp_path, paint))
    sync(library, [photos, shard], encoder)
    for folder in (photos, shard.parent):
        folder.rename(tmp_path / f"away-{folder.name}")
        folder.mkdir()
    report = sync(library, [photos / "a", shard], encoder)
    assert (report.removed, len(report.unreachable)) == (0, 2)
    assert library.stats().files == 13


def test_a_single_picture_that_returns(
    library: Library, encoder: Any, tmp_path: Path, paint: Paint
) -> None:
    picture = paint(tmp_path / "disk/x.png", 1)
    sync(library, [picture], encoder)
    away = picture.rename(tmp_path / "away.png")
    assert counts(sync(library, None, encoder)) == (0, 0, 0, 1, 0)
    away.rename(picture)
    assert counts(sync(library, None, encoder)) == (0, 0, 1, 0, 0)


def test_a_file_that_returns_with_a_hard_link(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    sync(library, [photos], encoder)
    away = (photos / "a/0.png").rename(tmp_path / "away.png")
    sync(library, [photos], encoder)
    away.rename(photos / "a/0.png")
    os.link(photos / "a/0.png", photos / "b/link.png")
    assert counts(sync(library, [photos], encoder)) == (0, 1, 10, 0, 0)
    assert indexed(library) == set(photos.rglob("*.png"))
