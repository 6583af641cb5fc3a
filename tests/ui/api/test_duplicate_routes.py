"""Duplicates by the API are those of `find_duplicates`."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from rwkvsearch.indexer.dupes import find_duplicates
from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.api import duplicate_routes
from rwkvsearch.ui.api.duplicate_searches import DuplicateSearches
from rwkvsearch.ui.api.problems import add_problems

from ..conftest import Run

SAMPLES = Path(__file__).parents[3] / "data" / "samples" / "photos"
HOSTILE = '"><img src=x onerror=alert(1)>.jpg'
UNDECODABLE = os.fsdecode(b"caf\xe9 d'or.png")


@pytest.fixture
def library(photos: Path, home: Path, run: Run) -> Iterator[Library]:
    """Copies of the bytes of three pictures, and smaller ones of two others."""
    for seed, number in ((0, 3), (1, 1), (2, 1)):
        for at in range(number):
            (photos / "copies" / f"{at}").mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / f"{seed}.png", photos / "copies" / f"{at}" / f"{seed}.png")
    shutil.copy(photos / "2.png", photos / UNDECODABLE)
    for sample, name in (("panda.jpg", HOSTILE), ("coffee.jpg", "small.jpg")):
        large = Path(shutil.copy(SAMPLES / sample, photos))
        with Image.open(large) as image:
            image.reduce(2).save(photos / name, quality=95)
    assert run("index", photos).code == 0
    with Library.open(home) as opened:
        yield opened


@pytest.fixture
def searches(library: Library) -> Iterator[DuplicateSearches]:
    made = DuplicateSearches(library)
    yield made
    made.close()


@pytest.fixture
def client(library: Library, searches: DuplicateSearches) -> TestClient:
    app = FastAPI()
    app.state.service = SimpleNamespace(library=library, duplicates=searches)
    app.include_router(duplicate_routes.router, prefix="/api/v1")
    add_problems(app)
    return TestClient(app)


def get(client: TestClient, **parameters: Any) -> dict[str, Any]:
    answer = client.get("/api/v1/duplicates", params={"wait": 10, **parameters})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def paths(groups: list[dict[str, Any]]) -> list[list[str]]:
    return [[file["path"] for file in group["files"]] for group in groups]


@pytest.mark.parametrize(
    "asked",
    [{}, {"exact_only": True}, {"max_distance": 0}, {"min_score": 1.0}, {"min_score": -1.0}],
)
def test_they_are_those_of_the_library(
    client: TestClient, library: Library, asked: dict[str, Any]
) -> None:
    expected = find_duplicates(library, **asked)
    assert len(expected.groups) >= 3
    found = get(client, limit=200, **asked)
    assert paths(found["groups"]) == [
        [str(copy.path) for copy in group.copies] for group in expected.groups
    ]
    for group, shown in zip(expected.groups, found["groups"], strict=True):
        assert shown["kind"] == ("exact" if group.exact else "near")
        assert shown["spare_bytes"] == group.spare_bytes
        for copy, file in zip(group.copies, shown["files"], strict=True):
            same = ("image_id", "width", "height", "bytes", "distance")
            assert {name: file[name] for name in same} == {n: getattr(copy, n) for n in same}
            assert file["score"] == (None if copy.score is None else round(copy.score, 6))
            assert file["thumb"].startswith("/api/v1/thumbs/")
    assert (found["state"], found["current"], found["next"]) == ("ready", True, None)
    assert (found["files"], found["images"]) == (expected.files, expected.images)
    assert found["spare_bytes"] == sum(group.spare_bytes for group in expected.groups)
    assert found["spare_files"] == sum(len(group.copies) - 1 for group in expected.groups)
    assert found["exact"] + found["near"] == found["total"] == len(expected.groups)


def test_near_ones_are_among_them(client: TestClient) -> None:
    groups = get(client, kind="near")["groups"]
    assert {Path(names[1]).name for names in paths(groups)} == {HOSTILE, "small.jpg"}
    for group in groups:
        first, small = group["files"]
        assert first["width"] > small["width"] and small["score"] >= 0.4 and small["distance"] <= 10


@pytest.mark.parametrize("kind", ["all", "exact", "near"])
def test_pages_are_parts_of_one_list(client: TestClient, kind: str) -> None:
    whole = get(client, kind=kind, limit=200)
    found, at = [], 0
    while at is not None:
        page = get(client, kind=kind, limit=1, offset=at)
        assert len(page["groups"]) == 1 and page["total"] == whole["total"]
        found += page["groups"]
        at = page["next"]
    assert found == whole["groups"] != []
    assert get(client, offset=1000)["groups"] == []


def test_below_a_folder(client: TestClient, library: Library, photos: Path) -> None:
    folder = photos / "copies"
    expected = find_duplicates(library, under=folder)
    (names,) = paths(get(client, under=str(folder))["groups"])
    assert names == [str(copy.path) for copy in expected.groups[0].copies]
    assert get(client, under=str(photos / "3.png"))["total"] == 0


@pytest.mark.parametrize("under", ["/etc", "copies", "../..", "{photos}/../../etc", "/\x00", "a\n"])
def test_what_is_not_known_is_not_looked_at(client: TestClient, photos: Path, under: str) -> None:
    under = under.replace("{photos}", str(photos))
    answer = client.get("/api/v1/duplicates", params={"under": under})
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("nothing there was indexed; name a folder of a hit")


def test_a_change_of_the_library_is_seen(
    client: TestClient, library: Library, photos: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = get(client)
    shutil.copy(photos / "5.png", photos / "again.png")
    assert run("index").code == 0
    old = get(client)
    assert (old["total"], old["current"]) == (before["total"], False)
    monkeypatch.setattr("rwkvsearch.ui.api.jobs.LEAST", 0.0)
    monkeypatch.setattr("rwkvsearch.ui.api.jobs.SHARE", 0)
    for _ in range(1000):
        found = get(client)
        if found["current"]:
            break
    assert found["total"] == before["total"] + 1


def test_whoever_cannot_wait_is_not_kept(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Event

    leave = Event()
    monkeypatch.setattr(
        "rwkvsearch.ui.api.duplicate_searches.find_duplicates",
        lambda *_, **__: leave.wait(30) and find_duplicates(*_, **__),
    )
    assert get(client, wait=0)["state"] == "running"
    answer = client.get("/api/v1/duplicates/paths", params={"wait": 0})
    assert answer.status_code == 503 and "still being looked for" in answer.json()["detail"]
    leave.set()
    assert get(client)["state"] == "ready"


def test_paths_for_other_programs(client: TestClient, library: Library) -> None:
    groups = find_duplicates(library).groups
    spare = [os.fsencode(copy.path) for group in groups for copy in group.copies[1:]]
    address = "/api/v1/duplicates/paths"
    answer = client.get(address, params={"as": "nul"})
    assert answer.content.split(b"\0")[:-1] == spare
    assert answer.headers["content-disposition"].startswith("attachment")
    assert client.get(address).content.split(b"\n")[:-1] == spare
    assert rb"caf\xe9 d\x27or.png'" in client.get(address, params={"as": "shell"}).content
    near = client.get(address, params={"kind": "near"}).content
    assert HOSTILE.encode() in near and b"copies" not in near
    one = client.get(address, params={"group": 1}).content
    assert one.split(b"\n")[:-1] == [os.fsencode(copy.path) for copy in groups[1].copies[1:]]
    assert client.get(address, params={"group": 1000}).content == b""


def test_of_many_copies_the_oldest_is_first(client: TestClient, photos: Path) -> None:
    for group in get(client, kind="exact", limit=200)["groups"]:
        times = [file["modified_at"] for file in group["files"]]
        assert times == sorted(times)
