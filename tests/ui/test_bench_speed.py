"""`bench speed` as a person runs it, with little models and few repetitions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.results import kept_results
from rwkvsearch.retrieval import speed_ann
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.speed_times import Effort
from rwkvsearch.ui import bench_speed
from rwkvsearch.ui.speeds import speed_as_text

from .conftest import TINY, Run


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch, tiny_towers: Callable[[ModelConfig], None]) -> None:
    """Tiny models in the place of ours and CLIP's, and few of everything."""
    tiny_towers(TINY)
    monkeypatch.setattr(Effort, "seconds", 0.0)
    monkeypatch.setattr(speed_ann, "DIM", 16)
    monkeypatch.setattr(speed_ann, "ROWS", (100, 300))
    monkeypatch.setattr(speed_ann, "FULL_ROWS", (100, 300, 400))
    monkeypatch.setattr(bench_speed, "QUERIES", 3)
    monkeypatch.setattr(bench_speed, "COLD_ROUNDS", 1)
    monkeypatch.setattr(bench_speed, "PHOTOGRAPHS", 1)


def test_the_parts_of_json(run: Run, photos: Path) -> None:
    parts = ("--only", "encoder", "--only", "indexing", "--only", "ann")
    told = run("bench", "speed", *parts, "--data", photos, "--rounds", 1, "--json")
    assert told.code == 0, told.err
    found = json.loads(told.out)
    assert [*found] == ["machine", "encoder", "indexing", "ann", "seconds"]
    wanted = {"processor", "cores", "memory_bytes", "load", "load_after", "torch", "openvino"}
    assert wanted <= found["machine"].keys()
    encoder = found["encoder"]
    assert [*encoder] == ["models", "b32_image", "b32_text"]
    assert encoder["models"]["fp32"]["images"].keys() == {"1", "16", "64"}
    for tower in ("b32_image", "b32_text"):
        assert encoder[tower]["engine"] == "torch fp32"
        ratios = encoder[tower]["ratio_to_vit_b32"]
        assert ratios.keys() == {"1", "16", "64"} and min(ratios.values()) > 0
    assert (found["indexing"]["files"], found["indexing"]["pictures"]) == (8, str(photos))
    assert found["indexing"]["stages"]["decode"]["busy_seconds"]["median"] > 0
    assert [*found["ann"]] == ["100", "300"]
    assert "measuring b32_image, batch 64" in told.err.splitlines()
    text = speed_as_text(found)
    assert "b32 image, torch fp32" in text and "indexing 8 files" in text
    assert text.count("ann recall@10 of images, texts") == 2


def test_full_and_kept(run: Run, indexed: Path, home: Path) -> None:
    done = run("bench", "speed", "--only", "ann", "--full", "--rounds", 1, "--save")
    assert done.code == 0 and "400 made-up embeddings of 16 numbers" in done.out
    assert "kept: " in done.err.splitlines()[-1]
    [kept], _ = kept_results(home)
    assert (kept.result.kind, kept.result.data) == ("speed", None)
    assert kept.result.settings["parts"] == ["ann"] and kept.result.settings["full"] is True
    assert [*kept.result.results["ann"]] == ["100", "300", "400"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--data", "/none"], 1, "/none: no such folder"),
        (["--save"], 1, "no library at"),
        (["--precision", "fp64"], 1, "no precision is called 'fp64'"),
        (["--device", "tpu9"], 1, "device 'tpu9' cannot be used"),
        (["--only", "nothing"], 2, "'nothing' is not one of"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    run: Run, options: list[str], code: int, message: str
) -> None:
    wrong = run("bench", "speed", *options)
    assert (wrong.code, wrong.out) == (code, "") and message in wrong.err
    assert "measuring" not in wrong.err and "Traceback" not in wrong.err


def test_a_part_that_fails_does_not_stop_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RwkvSearchError("no daemon")

    monkeypatch.setattr("rwkvsearch.ui.speed_queries.measure_queries", fails)
    told = run("bench", "speed", "--only", "queries", "--only", "ann", "--rounds", 1, "--json")
    found = json.loads(told.out)
    assert (told.code, found["left_out"]) == (0, {"queries": "no daemon"})
    assert [*found["ann"]] == ["100", "300"]
    assert "queries left out: no daemon" in speed_as_text(found)
    alone = run("bench", "speed", "--only", "queries")
    assert (alone.code, alone.out) == (1, "") and "rwkvsearch: no daemon" in alone.err


@pytest.mark.slow
@pytest.mark.usefixtures("library")
def test_queries_in_new_processes_by_a_daemon_and_here(run: Run) -> None:
    told = run("bench", "speed", "--only", "queries", "--model", "tiny", "--json")
    assert told.code == 0, told.err
    found: dict[str, Any] = json.loads(told.out)["queries"]
    nothing = ["python_alone", "import_torch", "help"]
    assert [*found["cold"]] == [*nothing, "new_words", "words_in_the_cache"]
    for one in found["daemon"].values():
        assert one["answered_by_the_daemon"] == 3
    assert found["warm"]["new_words"]["queries"] == 3
    assert found["warm"]["pictures"]["p50_ms"]["median"] > 0
