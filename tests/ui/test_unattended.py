"""Syncs that nobody watches: log lines for programs, and a file for Prometheus."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rwkvsearch.indexer.protocols import SyncEvent
from rwkvsearch.ui import unattended
from rwkvsearch.ui.logs import Lines, request_id

from .conftest import Outcome, Run

Values = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """A command sets the handlers of its process."""
    root, own = logging.getLogger(), logging.getLogger("rwkvsearch.sync")
    handlers, level = root.handlers, own.level
    yield
    root.handlers = handlers
    own.setLevel(level)


def lines(said: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.err.splitlines()]


def values(file: Path) -> Values:
    return {
        (sample.name.removeprefix("rwkvsearch_"), tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }


def test_lines_of_json(run: Run, photos: Path) -> None:
    (photos / "line\nbreak.jpg").write_bytes(b"no picture")
    said = run("index", photos, "--log-format", "json")
    assert said.code == 0 and said.out.startswith("9 files: 8 embedded")
    skipped, synced = [line for line in lines(said) if line["event"] != "progress"]
    assert skipped["level"] == "warning" and skipped["path"] == str(photos / "line\nbreak.jpg")
    assert synced["level"] == "info" and synced["event"] == "synced"
    assert (synced["files"], synced["embedded"], synced["bad"]) == (9, 8, 1)
    text = run("index", "--log-format", "text").err
    assert text.count("\n") == 1 and " info synced: 9 files, 0 embedded, " in text


def test_a_mistake_is_a_line_too(run: Run, tmp_path: Path) -> None:
    said = run("index", "--library", tmp_path / "none", "--log-format", "json")
    assert said.code == 1
    (line,) = lines(said)
    assert line["level"] == "error" and "no library at" in line["message"]


def test_progress_comes_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    log = unattended.SyncLog()
    with caplog.at_level(logging.INFO, "rwkvsearch.sync"):
        for number in range(120):
            now[0] += 0.1
            log(SyncEvent("embed", total=120, done=number))
    assert len(caplog.records) == 2


def test_what_a_sync_did_for_prometheus(run: Run, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "rwkvsearch.prom"
    (photos / "bad.jpg").write_bytes(b"no picture")
    began = time.time()
    assert run("index", photos, "--metrics", file).code == 0
    found = values(file)
    assert found["index_syncs_total", ("done",)] == 1
    assert found["index_syncs_total", ("failed",)] == found["index_syncs_total", ("stopped",)] == 0
    assert found["index_files_total", ("embedded",)] == 8
    assert found["index_files_total", ("bad",)] == 1
    assert found["index_stage_seconds_total", ("encode",)] > 0
    assert 0 < found["index_last_sync_seconds", ()] < 600
    assert began < found["index_last_sync_timestamp_seconds", ()] < time.time() + 1
    assert began - 1 < found["library_synced_timestamp_seconds", ()] < time.time() + 1
    assert found["library_files", ()] == 8
    (model,) = [labels for name, labels in found if name == "library_embeddings"]
    assert found["library_embeddings", model] == 8 and found["library_ann_recall", model] == 1
    assert [n for (name, _), n in found.items() if name == "library_bad_files"] == [1]
    assert not [name for name, _ in found if name.endswith("_created")]
    assert run("index", "--metrics", file).code == 0
    assert values(file)["index_files_total", ("unchanged",)] == 8
    assert sorted(path.name for path in tmp_path.glob("*.prom*")) == ["rwkvsearch.prom"]


def test_a_sync_that_fails_is_counted(
    run: Run, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rwkvsearch.data.errors import LibraryError

    def full(*_: Any, **__: Any) -> None:
        raise LibraryError("no space")

    file = tmp_path / "x.prom"
    assert run("index", "--metrics", file).code == 0
    synced = values(file)["library_synced_timestamp_seconds", ()]
    with monkeypatch.context() as patch:
        patch.setattr("rwkvsearch.indexer.sync.sync", full)
        assert run("index", "--metrics", file).code == 1
    found = values(file)
    assert found["index_syncs_total", ("failed",)] == 1
    assert found["library_synced_timestamp_seconds", ()] == synced, "the last that was done"


def test_a_file_that_cannot_be_written(run: Run, photos: Path, tmp_path: Path) -> None:
    said = run("index", photos, "--metrics", tmp_path / "none" / "x.prom")
    assert said.code == 1 and said.out == ""
    assert "x.prom cannot be written: No such file" in said.err and said.err.count("\n") == 1


def test_lines_whatever_is_said() -> None:
    record = logging.makeLogRecord({"msg": "a\nb \udce9 %s", "args": ("x",), "levelname": "ERROR"})
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    token = request_id.set("abc")
    try:
        said = json.loads(Lines("json").format(record))
    finally:
        request_id.reset(token)
    assert said["message"] == "a\nb \udce9 x" and said["level"] == "error"
    assert said["request_id"] == "abc" and "two\nlines" in said["exception"]
    assert "\n" not in Lines("json").format(record)
    assert Lines("text").format(record).splitlines()[0].endswith(r"error a\nb \udce9 x")
