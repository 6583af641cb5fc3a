"""How a library is, by the API."""

import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.api import health_routes
from rwkvsearch.ui.api.checkups import Checkups
from rwkvsearch.ui.api.problems import add_problems

from ..conftest import Run

UNDECODABLE = os.fsdecode(b"caf\xe9.jpg")


@pytest.fixture
def library(photos: Path, home: Path, run: Run) -> Iterator[Library]:
    for number in range(5):
        (photos / f"empty-{number}.jpg").write_bytes(b"")
    (photos / UNDECODABLE).write_bytes(b"no picture")
    assert run("index", photos).code == 0
    with Library.open(home) as opened:
        yield opened


@pytest.fixture
def client(library: Library) -> Iterator[TestClient]:
    app = FastAPI()
    checkups = Checkups(library)
    app.state.service = SimpleNamespace(library=library, checkups=checkups)
    app.include_router(health_routes.router, prefix="/api/v1")
    add_problems(app)
    yield TestClient(app)
    checkups.close()


def get(client: TestClient, path: str, **parameters: Any) -> dict[str, Any]:
    answer = client.get(f"/api/v1/{path}", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def diagnosed(client: TestClient) -> dict[str, Any]:
    assert client.post("/api/v1/doctor").status_code == 202
    for _ in range(3000):
        found = get(client, "doctor")
        if not found["running"]:
            return found
        time.sleep(0.01)
    raise AssertionError("it does not end")


def test_roots(client: TestClient, photos: Path) -> None:
    (root,) = get(client, "roots")["roots"]
    assert (root["path"], root["kind"], root["is_there"]) == (str(photos), "folder", True)
    assert (root["files"], root["errors"], root["gone"]) == (8, 6, 0)


def test_errors_by_reason(client: TestClient, photos: Path) -> None:
    found = get(client, "errors")
    assert found["files"] == 6
    assert [(r["reason"], r["files"]) for r in found["reasons"]] == [
        ("empty file", 5),
        ("not an image", 1),
    ]
    assert all(reason["remedy"] for reason in found["reasons"])
    page = get(client, "errors/files", reason="not an image")
    assert page == {
        "total": 1,
        "files": [{"path": str(photos / UNDECODABLE), "reason": "not an image", "bytes": 10}],
        "next": None,
    }


def test_pages_of_errors(client: TestClient) -> None:
    found, at = [], 0
    while at is not None:
        page = get(client, "errors/files", limit=4, offset=at)
        found += page["files"]
        at = page["next"]
    assert len(found) == 6 == len({file["path"] for file in found})


def test_the_doctor_of_a_whole_library(client: TestClient, library: Library, run: Run) -> None:
    before = get(client, "doctor")
    assert (before["running"], before["clean"], before["findings"]) == (False, None, [])
    found = diagnosed(client)
    assert found["clean"] is True and found["finished_at"] and found["error"] is None
    lines = run("doctor").out.splitlines()
    for finding in found["findings"]:
        line = f"{finding['state']:<6} {finding['check']:<11} {finding['text']}"
        assert line in lines
    assert found["repair"] == f"rwkvsearch doctor --fix --library {shlex.quote(str(library.path))}"


def test_the_doctor_of_a_broken_one(client: TestClient, library: Library, run: Run) -> None:
    (index,) = (library.path / "ann").glob("*.faiss")
    index.write_bytes(index.read_bytes()[:-8])
    found = diagnosed(client)
    assert found["clean"] is False
    (fault,) = [one for one in found["findings"] if one["state"] == "fault"]
    assert fault["check"] == "ann" and fault["fixable"] and fault["remedy"]
    size = index.stat().st_size
    assert get(client, "doctor") == found and index.stat().st_size == size, "nothing is repaired"
    arguments = shlex.split(found["repair"])[1:]
    assert run(*arguments).code == 0
    assert diagnosed(client)["clean"] is True
