import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.data.errors import DataError
from rwkvsearch.indexer.clock import Clock, Profile
from rwkvsearch.indexer.estimate import estimate, spread
from rwkvsearch.indexer.found import Found, Stat
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import SyncOptions, sync

Paint = Callable[[Path, int], Path]


@pytest.fixture
def many(tmp_path: Path, paint: Paint) -> Path:
    for seed in range(300):
        paint(tmp_path / "many" / f"{seed:03}.png", seed)
    (tmp_path / "many" / "bad.png").write_bytes(b"no picture")
    return tmp_path / "many"


def contents(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_prediction_and_what_came_of_it(many: Path, tmp_path: Path, encoder: Any) -> None:
    before = contents(tmp_path)
    predicted = estimate(None, [many], encoder)
    assert contents(tmp_path) == before
    assert (predicted.found, predicted.new, predicted.sampled) == (301, 301, 200)
    with Library.create(tmp_path / "library") as library:
        empty = library.stats().bytes_on_disk
        report = sync(library, [many], encoder)
    with Library.open(tmp_path / "library") as library:
        grown = library.stats().bytes_on_disk - empty
    assert 0.6 < predicted.bytes / grown < 1.7
    assert 0.1 < predicted.seconds / report.seconds < 10  # the machine may be busy with others


def test_only_what_is_new_counts(many: Path, library: Library, encoder: Any, paint: Paint) -> None:
    sync(library, [many], encoder)
    known = library.stats()
    paint(many / "x" / "1.png", 1000)
    paint(many / "x" / "2.png", 1001)
    predicted = estimate(library, None, encoder)
    assert (predicted.found, predicted.new, predicted.sampled) == (303, 3, 3)  # bad.png among them
    assert predicted.bad == 1
    assert library.stats() == known
    shutil.rmtree(many / "x")
    (many / "bad.png").unlink()
    nothing = estimate(library, [many], encoder)
    assert (nothing.found, nothing.new, nothing.bytes) == (300, 0, 0)


def test_ignore_files_above_count_as_in_a_sync(
    photos: Path, library: Library, encoder: Any, paint: Paint
) -> None:
    sync(library, [photos], encoder)
    (photos / ".rwkvsearchignore").write_text("raw/\n")
    paint(photos / "a" / "raw" / "1.png", 1000)
    paint(photos / "a" / "more" / "2.png", 1001)
    predicted = estimate(library, [photos / "a"], encoder)
    assert (predicted.found, predicted.new) == (6, 1)
    assert sync(library, [photos / "a"], encoder).added == 1
    # A new folder around a known one, and a known one that is not there, are taken as well.
    assert estimate(library, [photos.parent], encoder).new == 0
    photos.rename(photos.with_name("elsewhere"))
    assert estimate(library, [photos], encoder).found == 0


def test_other_model_knows_nothing(
    many: Path, library: Library, encoder: Any, other_encoder: Callable[..., Any]
) -> None:
    sync(library, [many], encoder)
    assert estimate(library, [many], other_encoder("other")).new == 301


def test_missing_folder_and_shard(tmp_path: Path, encoder: Any) -> None:
    with pytest.raises(DataError, match="no such file"):
        estimate(None, [tmp_path / "nowhere"], encoder, SyncOptions())


def test_sample_is_spread_and_the_same_each_time() -> None:
    items = [Found(1, Path("/"), str(n), Stat(0, 0, n, 0)) for n in range(1000)]
    sample = spread(items, 10)
    assert [item.stat.inode // 100 for item in sample] == [*range(10)]
    assert sample == spread(items, 10) != items[::100]
    assert spread(items[:5], 10) == items[:5]


def profile(**busy: float) -> Profile:
    empty = Clock().profile()
    threads = dict.fromkeys(empty.busy, 1) | {"decode": 2}
    waited = {"for pictures": 0.0, "for the writer": 0.0}
    return Profile(empty.busy | busy, threads, waited, 100, 10.0, 12.0)  # type: ignore[dict-item, arg-type, operator]


def test_bottleneck() -> None:
    usual = profile(decode=8, read=2, encode=9, write=1)
    assert usual.bottleneck == "encode"
    assert usual.share("decode") == pytest.approx(8 / 24)
    starved = replace(usual, waited={"for pictures": 4.0, "for the writer": 0.0})
    assert starved.bottleneck == "decode"
    reading = replace(starved, busy=starved.busy | {"read": 20.0})
    assert reading.bottleneck == "read"
    blocked = replace(usual, waited={"for pictures": 0.0, "for the writer": 4.0})
    assert blocked.bottleneck == "write"
    assert replace(usual, busy=usual.busy | {"scan": 11.0}).bottleneck == "scan"


def test_profile_of_a_sync(many: Path, library: Library, encoder: Any) -> None:
    report = sync(library, [many], encoder, SyncOptions(workers=3))
    measured = report.profile
    assert measured.files == 301
    assert measured.threads["decode"] == 3
    assert measured.threads["encode"] == 1
    stages = ("scan", "read", "hash", "decode", "preprocess", "encode", "write", "publish")
    assert all(measured.busy[stage] > 0 for stage in stages)  # type: ignore[index]
    assert measured.pipeline <= measured.seconds <= report.seconds + 1
