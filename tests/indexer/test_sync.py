"""What a sync finds, embeds, keeps and forgets."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkvsearch.data.errors import DataError, LibraryError, ModelError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.prepare import Limits
from rwkvsearch.indexer.protocols import SyncEvent, SyncReport
from rwkvsearch.indexer.sync import SyncOptions, sync

Paint = Callable[[Path, int], Path]
HERE = Path(__file__).parent


def counts(report: SyncReport) -> tuple[int, int, int, int, int]:
    bad = len(report.errors)
    assert report.scanned == report.added + report.reused + report.unchanged + bad
    return report.added, report.reused, report.unchanged, report.removed, bad


def indexed(library: Library) -> set[Path]:
    ids, _ = library.embeddings("fake", "fake-8")
    return {path for paths in library.paths_of(ids.tolist()).values() for path in paths}


def on_disk(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*.png")}


def test_second_run_embeds_and_reads_nothing(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert counts(sync(library, [photos], encoder, SyncOptions(batch_size=4))) == (10, 0, 0, 0, 0)
    monkeypatch.setattr("rwkvsearch.indexer.found.Found.open", None)
    assert counts(sync(library, [photos], encoder)) == (0, 0, 10, 0, 0)
    assert encoder.encoded == 10
    assert indexed(library) == on_disk(photos)


def test_embeddings_are_those_of_the_pictures(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder, SyncOptions(batch_size=3, workers=3))
    from rwkvsearch.data.images import read_image

    ids, embeddings = library.embeddings("fake", "fake-8")
    for image_id, (path,) in library.paths_of(ids.tolist()).items():
        expected = encoder.encode_pixels(encoder.preprocess(read_image(path))[None])[0]
        np.testing.assert_allclose(embeddings[ids == image_id][0], expected, atol=5e-4)


def test_copy_rename_change_delete_return(
    library: Library, photos: Path, encoder: Any, paint: Paint, tmp_path: Path
) -> None:
    sync(library, [photos], encoder)
    shutil.copy2(photos / "a/0.png", photos / "copy.png")
    (photos / "a/1.png").rename(photos / "renamed.png")
    paint(photos / "a/2.png", 99)
    (photos / "a/3.png").rename(tmp_path / "kept.png")
    assert counts(sync(library, [photos], encoder)) == (1, 2, 7, 1, 0)
    assert indexed(library) == on_disk(photos)
    shutil.copy(tmp_path / "kept.png", photos / "back.png")
    assert counts(sync(library, [photos], encoder)) == (0, 1, 10, 0, 0)
    assert encoder.encoded == 11
    assert indexed(library) == on_disk(photos)
    (copies,) = (
        paths for paths in library.paths_of(range(1, 12)).values() if photos / "copy.png" in paths
    )
    assert copies == [photos / "a/0.png", photos / "copy.png"]


def test_a_rename_is_not_even_read(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(library, [photos], encoder)
    monkeypatch.setattr("rwkvsearch.indexer.found.Found.open", None)
    (photos / "a").rename(photos / "c")
    assert counts(sync(library, [photos], encoder)) == (0, 5, 5, 0, 0)
    assert indexed(library) == on_disk(photos)


def test_swapped_names(library: Library, photos: Path, encoder: Any) -> None:
    sync(library, [photos], encoder)
    first, second = photos / "a/0.png", photos / "a/1.png"
    before = {path: i for i, paths in library.paths_of(range(99)).items() for path in paths}
    first.rename(photos / "a/tmp")
    second.rename(first)
    (photos / "a/tmp").rename(second)
    sync(library, [photos], encoder)
    after = {path: i for i, paths in library.paths_of(range(99)).items() for path in paths}
    assert (after[first], after[second]) == (before[second], before[first])
    assert encoder.encoded == 10


def test_identical_new_files_are_embedded_once(
    library: Library, photos: Path, encoder: Any
) -> None:
    for number in range(7):
        shutil.copy(photos / "a/0.png", photos / f"copy{number}.png")
    assert counts(sync(library, [photos], encoder, SyncOptions(batch_size=2))) == (10, 7, 0, 0, 0)
    assert encoder.encoded == 10
    assert library.stats().images == 10
    assert library.stats().files == 17


def test_bad_files_are_rows(library: Library, photos: Path, encoder: Any, paint: Paint) -> None:
    (photos / "text.png").write_text("words")
    (photos / "empty.jpg").touch()
    whole = paint(photos / "cut.png", 50).read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    events: list[SyncEvent] = []
    report = sync(library, [photos], encoder, progress=events.append)
    expected = {"cut.png": "truncated file", "empty.jpg": "empty file", "text.png": "not an image"}
    assert {path.name: reason for path, reason in report.errors} == expected
    named = [(event.path, event.reason) for event in events if event.path]
    assert sorted(named) == sorted(report.errors)
    assert counts(report) == (10, 0, 0, 0, 3)
    assert (events[-1].stage, events[-1].done, events[-1].total) == ("publish", 13, 13)
    assert events[-1].errors == 3 and events[-1].embedded == 10
    stats = library.stats()
    assert (stats.images, stats.files, stats.errors) == (10, 10, 3)
    assert stats.errors_by_reason == {"empty file": 1, "not an image": 1, "truncated file": 1}

    events.clear()
    assert counts(sync(library, [photos], encoder, progress=events.append)) == (0, 0, 10, 0, 3)
    assert not any(event.path for event in events)
    (photos / "cut.png").write_bytes(whole)
    (photos / "text.png").unlink()
    assert counts(sync(library, [photos], encoder)) == (1, 0, 10, 1, 1)


def test_too_large_is_tried_again_with_another_limit(
    library: Library, photos: Path, encoder: Any
) -> None:
    report = sync(library, [photos], encoder, SyncOptions(limits=Limits(megapixels=1e-4)))
    assert counts(report) == (0, 0, 0, 0, 10)
    assert {reason for _, reason in report.errors} == {
        "too large: 0.000256 megapixels (limit 0.0001, raise with --max-megapixels)"
    }
    assert counts(sync(library, [photos], encoder)) == (10, 0, 0, 0, 0)


def test_odd_names_and_links(library: Library, photos: Path, encoder: Any, paint: Paint) -> None:
    undecodable = Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9 \xff.png"))
    paths = [paint(photos / "a b \N{CAMERA}\n.png", 20), paint(undecodable, 21)]
    (photos / "loop.png").symlink_to(photos / "loop.png")
    (photos / "circle").symlink_to(photos)
    (photos / "nowhere.png").symlink_to(photos / "gone.png")
    assert counts(sync(library, [photos], encoder)) == (12, 0, 0, 0, 0)
    assert set(paths) < indexed(library)
    assert counts(sync(library, [photos], encoder)) == (0, 0, 12, 0, 0)


def test_the_same_root_twice_and_overlapping(
    library: Library, photos: Path, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    roots = [photos / "b", Path("photos"), tmp_path / "link", photos / "a/../a"]
    assert counts(sync(library, roots, encoder)) == (10, 0, 0, 0, 0)
    assert library.stats().roots == [photos]
    (photos / "a/0.png").unlink()
    (photos / "b/9.png").unlink()
    assert counts(sync(library, [photos / "a"], encoder)) == (0, 0, 4, 1, 0)
    assert counts(sync(library, [photos], encoder)) == (0, 0, 8, 1, 0)


def test_a_new_root_takes_over_the_roots_inside_it(
    library: Library, photos: Path, encoder: Any
) -> None:
    sync(library, [photos / "a"], encoder)
    sync(library, [photos / "b" / "7.png"], encoder)
    assert counts(sync(library, [photos], encoder)) == (4, 0, 6, 0, 0)
    assert library.stats().roots == [photos]
    assert indexed(library) == on_disk(photos)


def test_a_single_file_as_root(library: Library, photos: Path, encoder: Any) -> None:
    path = photos / "a/0.png"
    assert counts(sync(library, [path], encoder)) == (1, 0, 0, 0, 0)
    assert counts(sync(library, [path], encoder)) == (0, 0, 1, 0, 0)
    assert indexed(library) == {path}


def test_missing_and_empty_roots(
    library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"empty: no images found \(looked for .apng, "):
        sync(library, [empty], encoder)
    with pytest.raises(DataError, match="none: no such file or folder"):
        sync(library, [photos, tmp_path / "none"], encoder)
    assert library.stats().roots == []
    assert counts(sync(library, [photos, empty], encoder)) == (10, 0, 0, 0, 0)


@pytest.mark.parametrize("how", ["unmounted", "missing"])
def test_an_unreachable_root_keeps_its_rows(
    how: str, library: Library, photos: Path, encoder: Any, tmp_path: Path
) -> None:
    sync(library, [photos], encoder)
    photos.rename(tmp_path / "elsewhere")
    if how == "unmounted":
        photos.mkdir()
    report = sync(library, [photos], encoder)
    assert counts(report) == (0, 0, 0, 0, 0)
    ((path, reason),) = report.unreachable
    assert path == photos
    assert reason.startswith("no such folder" if how == "missing" else "no images there, but 10")
    assert library.stats().files == 10
    if how == "unmounted":
        photos.rmdir()
    (tmp_path / "elsewhere").rename(photos)
    assert counts(sync(library, [photos], encoder)) == (0, 0, 10, 0, 0)


def test_permissions(photos: Path, open_path: Path) -> None:
    """In a process that may not read everything, whoever runs the tests."""
    photos = photos.rename(open_path / "photos")
    code = (
        "import os, sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from conftest import FakeEncoder\n"
        "from rwkvsearch.indexer.library import Library\n"
        "from rwkvsearch.indexer.sync import sync\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "photos, home = map(Path, sys.argv[1:])\n"
        "os.umask(0)\n"
        "with Library.create(home) as library:\n"
        "    for _ in range(2):\n"
        "        report = sync(library, [photos], FakeEncoder())\n"
        "        reasons = [why for _, why in report.errors + report.unreachable]\n"
        "        print(report.scanned, report.added, report.removed, *reasons, sep=', ')\n"
    )
    home = open_path / "open" / "library"
    home.parent.mkdir()
    home.parent.chmod(0o777)

    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, photos, home], capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    (photos / "a/0.png").chmod(0)
    assert run() == ["10, 9, 0, permission denied", "10, 0, 0, permission denied"]
    (photos / "b").chmod(0)
    try:
        assert run() == ["5, 0, 0, permission denied, permission denied"] * 2
    finally:
        (photos / "b").chmod(0o755)
    (photos / "a/0.png").chmod(0o644)
    assert run() == ["10, 1, 0", "10, 0, 0"]
    with Library.open(home) as after:
        assert after.stats().files == 10


def test_two_models_side_by_side(
    library: Library, photos: Path, encoder: Any, other_encoder: Any
) -> None:
    sync(library, [photos], encoder)
    with pytest.raises(LibraryError, match="indexed with fake, not with second: run "):
        library.embeddings("second", "fake-8")
    second = other_encoder("second")
    assert counts(sync(library, [photos], second)) == (10, 0, 0, 0, 0)
    assert [(m.model_id, m.embeddings) for m in library.models()] == [("fake", 10), ("second", 10)]
    assert library.stats().images == 10
    with pytest.raises(LibraryError, match="weights 000000000000; asked for dim 12 and weights 1"):
        sync(library, [photos], other_encoder("fake", "1" * 64))


def test_the_library_inside_a_root_is_not_indexed(photos: Path, encoder: Any, paint: Paint) -> None:
    with Library.create(photos / "library") as library:
        paint(library.path / "thumbs" / "x.png", 77)
        assert counts(sync(library, [photos], encoder)) == (10, 0, 0, 0, 0)


def test_no_rubbish_from_a_broken_encoder(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = encoder.encode_pixels

    def patch(change: Callable[[Any], Any]) -> None:
        monkeypatch.setattr(encoder, "encode_pixels", lambda pixels: change(good(pixels)))

    def fail(_: Any) -> Any:
        raise ModelError("out of memory")

    def one_nan(values: Any) -> Any:
        values[0, 3] = np.nan
        return values

    for change, message in [
        (lambda v: v * np.nan, "no finite embedding"),
        (lambda v: v * 2, "not unit vectors"),
        (lambda v: v[:, :5], "shape"),
        (fail, "out of memory"),
    ]:
        patch(change)
        with pytest.raises(ModelError, match=message):
            sync(library, [photos], encoder)
        assert library.stats().files == library.stats().errors == library.stats().images == 0
    patch(one_nan)
    report = sync(library, [photos], encoder)
    assert counts(report) == (9, 0, 0, 0, 1)
    assert report.errors[0][1] == "the model gives no finite embedding"
    monkeypatch.undo()
    assert counts(sync(library, [photos], encoder)) == (1, 0, 9, 0, 0)


def test_an_encoder_failing_later_keeps_what_was_written(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = encoder.encode_pixels

    def fail_at_the_third(pixels: Any) -> Any:
        if encoder.encoded >= 4:
            raise ModelError("out of memory")
        return good(pixels)

    monkeypatch.setattr(encoder, "encode_pixels", fail_at_the_third)
    with pytest.raises(ModelError, match="out of memory"):
        sync(library, [photos], encoder, SyncOptions(batch_size=2))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert library.stats().images == 4
    monkeypatch.undo()
    assert counts(sync(library, [photos], encoder)) == (6, 0, 4, 0, 0)


def test_a_picture_that_cannot_be_preprocessed(
    library: Library, photos: Path, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(image: Any) -> Any:
        raise ValueError("too thin")

    monkeypatch.setattr(encoder, "preprocess", refuse)
    report = sync(library, [photos / "a/0.png"], encoder)
    assert report.errors == [(photos / "a/0.png", "cannot be preprocessed: too thin")]


def test_a_library_in_the_folder_of_the_pictures(photos: Path, encoder: Any) -> None:
    with Library.create(photos) as library:
        assert counts(sync(library, [photos], encoder)) == (10, 0, 0, 0, 0)


@pytest.mark.parametrize("outer_first", [True, False])
def test_a_hidden_folder_named_as_root_stays(
    library: Library, photos: Path, encoder: Any, paint: Any, outer_first: bool
) -> None:
    hidden = paint(photos / ".hidden/x.png", 99).parent
    order = [photos, hidden] if outer_first else [hidden, photos]
    for root in [*order, photos, hidden]:
        sync(library, [root], encoder)
    assert library.stats().files == 11
    assert library.stats().roots == sorted([photos, hidden])
