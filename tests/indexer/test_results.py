"""Kept results: the format, names that are free, and files that hold none."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.doctor.run import Checkup, diagnose, repair
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.machine import describe_machine
from rwkvsearch.indexer.results import (
    FORMAT,
    MeasuredData,
    MeasuredModel,
    Result,
    check_room,
    keep_result,
    kept_results,
    searched_contents,
)
from rwkvsearch.indexer.sync import sync

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RECALL = Result(
    kind="recall",
    when=WHEN,
    model=MeasuredModel("tiny-00000000-fp32", "0" * 64, "p-112"),
    data=MeasuredData('Größe / "><b>', "test", 4, 8, None, "0123456789abcdef"),
    settings={"prefix": "a photo of ", "precision": "fp32"},
    results={"text_to_image": {"R@1": 12.5}},
    machine={"processor": "some", "cores": 2, "torch": None},
)
NAME = "20260102T030405Z-recall-gr-e-b-test"


def write(home: Path, name: str, content: Any) -> None:
    (home / "benchmarks").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (home / "benchmarks" / name).write_text(text)


def document() -> dict[str, Any]:
    return {
        "format": FORMAT,
        "kind": "speed",
        "when": "2026-01-02T04:04:05+01:00",
        "model": None,
        "data": None,
        "settings": {},
        "results": {"images_per_second": 12.5},
        "machine": {},
    }


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = keep_result(tmp_path, RECALL)
    assert path == tmp_path / "benchmarks" / f"{NAME}.json"
    found = json.loads(path.read_text())
    assert (found["format"], found["when"]) == (1, "2026-01-02T03:04:05Z")
    assert list(found) == [*("format", "kind", "when", "model", "data"), *list(found)[5:]]
    (kept,), unreadable = kept_results(tmp_path)
    assert (kept.file, kept.result, unreadable) == (path.name, RECALL, [])
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    first = keep_result(tmp_path, RECALL)
    before = first.read_bytes()
    with ThreadPoolExecutor(8) as pool:
        paths = [
            *pool.map(lambda n: keep_result(tmp_path, replace(RECALL, settings={"n": n})), range(8))
        ]
    assert {path.name for path in paths} == {f"{NAME}-{n}.json" for n in range(2, 10)}
    assert first.read_bytes() == before
    kept, unreadable = kept_results(tmp_path)
    assert len(kept) == 9 and not unreadable
    assert sorted(one.result.settings.get("n", -1) for one in kept) == [-1, *range(8)]


def test_newest_first_in_any_time_zone(tmp_path: Path) -> None:
    east = timezone(timedelta(hours=9))
    for when in (WHEN, WHEN.astimezone(east) + timedelta(hours=1), WHEN - timedelta(days=1)):
        keep_result(tmp_path, replace(RECALL, when=when))
    days = [one.result.when - WHEN for one in kept_results(tmp_path)[0]]
    assert days == [timedelta(hours=1), timedelta(0), timedelta(days=-1)]


def test_a_result_may_need_no_model_and_no_data(tmp_path: Path) -> None:
    write(tmp_path, "a.json", document())
    (kept,), _ = kept_results(tmp_path)
    assert (kept.result.model, kept.result.data, kept.result.when) == (None, None, WHEN)
    path = keep_result(tmp_path, kept.result)
    assert path.name == "20260102T030405Z-speed-machine.json"


BROKEN = {
    "": "damaged: not JSON",
    '{"format": 1, "kin': "damaged: not JSON",
    "[]": "damaged: not the result of a measurement",
    "{}": "damaged: not the result of a measurement",
    "[" * 100_000: "damaged: ",
    json.dumps(document() | {"when": "yesterday"}): "damaged: ",
    json.dumps(document() | {"when": "2026-01-02T03:04:05"}): "damaged: `when` has no time zone",
    json.dumps(document() | {"kind": 7}): "damaged: `kind` is missing or of the wrong type",
    json.dumps(document() | {"results": []}): "damaged: `results` is missing or of the wrong type",
    json.dumps(document() | {"model": {"id": "a"}}): "damaged: `weights_sha256` is missing",
    json.dumps(document() | {"data": {"name": "a", "images": True}}): "damaged: `images`",
    json.dumps(document() | {"results": {"x": float("nan")}}): "damaged: NaN is no number of JSON",
    "1" * (5 << 20): "damaged: larger than 4 megabytes",
}


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: BROKEN[text][9:40] + str(len(text)))
def test_damaged_files_are_named(text: str, tmp_path: Path) -> None:
    write(tmp_path, "bad.json", text)
    keep_result(tmp_path, RECALL)
    kept, (bad,) = kept_results(tmp_path)
    assert [one.result for one in kept] == [RECALL]
    assert (bad.file, bad.newer) == ("bad.json", False)
    assert bad.reason.startswith(BROKEN[text]) and "\n" not in bad.reason


def test_files_of_a_newer_version_and_no_files_at_all(tmp_path: Path) -> None:
    assert kept_results(tmp_path) == ([], [])
    write(tmp_path, "newer.json", {"format": 2, "results": "of another shape"})
    (tmp_path / "benchmarks" / "folder.json").mkdir()
    write(tmp_path, "notes.txt", "mine")
    kept, (folder, newer) = kept_results(tmp_path)
    assert kept == []
    assert folder.reason == "cannot be read: unreadable: is a directory"
    assert (newer.reason, newer.newer) == ("of a newer version (format 2)", True)


def test_figures_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        keep_result(tmp_path, replace(RECALL, results={"R@1": float("nan")}))
    assert kept_results(tmp_path) == ([], [])


def test_where_nothing_can_be_kept(open_path: Path, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="no library at"):
        check_room(tmp_path)
    with Library.create(open_path / "library") as library:
        home = library.path
    home.chmod(0o555)
    if os.getuid() == 0:
        os.seteuid(65534)
    try:
        for keep in (check_room, lambda home: keep_result(home, RECALL)):
            with pytest.raises(LibraryError) as error:
                keep(home)
            expected = f"cannot keep a result in {home / 'benchmarks'}: permission denied; see"
            assert str(error.value) == f"{expected} --library"
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        home.chmod(0o755)
    check_room(home)
    assert [*(home / "benchmarks").iterdir()] == []


def test_doctor_names_damaged_ones_and_removes_only_parts(library: Library) -> None:
    home = library.path

    def found(report: Any) -> list[tuple[str, str]]:
        return [(f.state, f.text) for f in report.findings if f.check == "results"]

    assert found(diagnose(library, Checkup())) == []
    keep_result(home, RECALL)
    assert found(diagnose(library, Checkup())) == [("ok", "1 kept result can be read")]
    write(home, "newer.json", {"format": 2})
    report = diagnose(library, Checkup())
    assert found(report) == [("note", "benchmarks/newer.json: of a newer version (format 2)")]
    assert report.clean
    write(home, "bad.json", "{")
    write(home, ".a.json.part", "{")
    write(home, ".b.json.part", "{")
    hour = time.time() - 3600
    os.utime(home / "benchmarks" / ".a.json.part", (hour, hour))
    before = {path.name for path in (home / "benchmarks").iterdir()}
    mended = repair(library, Checkup())
    assert [text for state, text in found(mended) if state == "fault"] == [
        "benchmarks/bad.json: damaged: not JSON"
    ]
    assert mended.done == ["1 file in benchmarks/ of a command that was killed: removed"]
    assert {path.name for path in (home / "benchmarks").iterdir()} == before - {".a.json.part"}


def test_stats_count_their_bytes(library: Library) -> None:
    before = library.stats().bytes_on_disk
    path = keep_result(library.path, RECALL)
    assert library.stats().bytes_on_disk == before + path.stat().st_size


def test_contents_that_can_be_searched(
    library: Library, photos: Path, encoder: Any, paint: Callable[[Path, int], Path]
) -> None:
    paint(photos / "copy.png", 0)
    sync(library, [photos], encoder)
    hashes = searched_contents(library, library.models()[0])
    assert len(hashes) == len(set(hashes)) == 10
    (photos / "a" / "1.png").unlink()
    sync(library, [photos], encoder)
    assert len(searched_contents(library, library.models()[0])) == 9


def test_the_machine() -> None:
    found = describe_machine()
    assert {"processor", "cores", "python", "torch", "faiss", "rwkvsearch"} <= set(found)
    assert isinstance(found["cores"], int) and found["cores"] > 0
    assert found["processor"] and found["torch"] and found["faiss"]
