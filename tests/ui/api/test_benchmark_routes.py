"""GET /api/v1/benchmarks: what is kept, what cannot be read, and what is published."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI

from rwkvsearch.indexer.results import MeasuredData, MeasuredModel, Result, keep_result
from rwkvsearch.ui.api.benchmark_routes import router

from .conftest import Ask

HOSTILE = '"><img src=x onerror=alert(1)>'
MODEL = MeasuredModel("tiny-00000000-fp32", "0" * 64, "p-112")


def made(name: str, images: int, kind: str = "recall") -> Result:
    data = MeasuredData(name, "test", images, 5000, None, "f" * 16)
    when = datetime(2026, 1, images % 27 + 1, tzinfo=UTC)
    return Result(kind, when, MODEL, data, {"prefix": ""}, {"x": 1.5}, {"cores": 2})


def asked(ask: Ask, home: Path) -> dict[str, Any]:
    app = FastAPI()
    app.state.service = SimpleNamespace(
        library=SimpleNamespace(path=home, place=home, name=str(home), is_shared=False)
    )
    app.include_router(router, prefix="/api/v1")
    reply = ask(app, path="/api/v1/benchmarks")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.headers["cache-control"] == "no-store"
    answer: dict[str, Any] = json.loads(reply.body)
    return answer


def test_nothing_is_kept(ask: Ask, tmp_path: Path, home: Path) -> None:
    answer = asked(ask, tmp_path / "it's here")
    assert (answer["results"], answer["unreadable"]) == ([], [])
    assert [one["command"] for one in answer["commands"]] == [
        f"rwkvsearch {do} --save --library '{tmp_path}/it'\"'\"'s here'"
        for do in ("bench recall --data SET", "bench classify --data SHARDS", "tune", "bench speed")
    ]
    assert asked(ask, home)["commands"][2]["command"] == "rwkvsearch tune --save"
    assert [one["name"] for one in answer["published_recall"]] == ["Flickr30k", "MSCOCO"]
    row = answer["published_recall"][0]["rows"][0]
    assert (row["source"], row["text_to_image"]["R@1"]) == ("arXiv 2406.06973", 57.6)
    assert answer["published_accuracy"][0]["average"] == 44.4


def test_results_and_files_that_hold_none(ask: Ask, tmp_path: Path) -> None:
    for result in (made("flickr30k", 1000), made("flickr30k", 999), made(HOSTILE, 5, "speed")):
        keep_result(tmp_path, result)
    (tmp_path / "benchmarks" / "bad.json").write_text("{")
    (tmp_path / "benchmarks" / "newer.json").write_text('{"format": 7}')
    answer = asked(ask, tmp_path)
    same, fewer, other = sorted(answer["results"], key=lambda one: one["data"]["images"])[::-1]
    assert same["published_set"] == "Flickr30k" and same["published_note"] is None
    assert fewer["data"]["images"] == 999 and fewer["published_set"] is None
    assert "of test with 1,000 images, not of test with 999 images" in fewer["published_note"]
    assert (other["published_set"], other["published_note"]) == (None, None)
    assert other["data"]["name"] == HOSTILE
    assert same["when"].endswith("Z") and same["results"] == {"x": 1.5}
    assert same["model"]["id"] == MODEL.id
    assert answer["unreadable"] == [
        {"file": "bad.json", "reason": "damaged: not JSON", "newer": False},
        {"file": "newer.json", "reason": "of a newer version (format 7)", "newer": True},
    ]
