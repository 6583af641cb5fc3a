"""One picture: details, similar ones, why, the file and its thumbnails."""

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from rwkvsearch.indexer.details import details_of
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.grammar import parse
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.ui.api.service import Service

API = "/api/v1"
Problem = Callable[[Any, int], str]


@pytest.fixture
def wren(client: TestClient) -> int:
    (hit,) = client.get(f"{API}/search", params={"q": "x", "path": "wren.jpg"}).json()["hits"]
    return int(hit["image_id"])


def test_details(client: TestClient, service: Service, wren: int, pictures: Path) -> None:
    said = client.get(f"{API}/images/{wren}").json()
    known = details_of(service.library, [wren])[wren]
    assert said["captions"] == [{"text": "a small brown bird on a branch", "source": "sidecar"}]
    assert said["content_hash"] == hashlib.sha256((pictures / "wren.jpg").read_bytes()).hexdigest()
    assert said["thumb"] == f"{API}/thumbs/{said['content_hash']}"
    assert [file["path"] for file in said["files"]] == [str(pictures / "wren.jpg")]
    assert said["files"][0]["bytes"] == (pictures / "wren.jpg").stat().st_size
    for name in ("width", "height", "format", "frames", "taken_at", "camera", "lens", "latitude"):
        assert said[name] == getattr(known, name)
    assert said["models"] == [*known.models]


@pytest.mark.parametrize("tail", ["", "/similar", "/captions", "/why?q=x", "/why.json?q=x",
                                  "/original"])  # fmt: skip
def test_ids_that_are_none(tail: str, client: TestClient, problem: Problem) -> None:
    said = problem(client.get(f"{API}/images/54321{tail}"), 404)
    assert said.startswith("there is no image 54321 in ")
    for forged in ("0", "-1", "1.5", str(2**63), "x", "1%00"):
        assert "id: Input should be" in problem(client.get(f"{API}/images/{forged}{tail}"), 422)
    assert problem(client.get(f"{API}/images/..%2f..%2fetc{tail}"), 404)


def test_similar(client: TestClient, engine: SearchEngine, wren: int, problem: Problem) -> None:
    asked = {"k": 5, "offset": 1, "min_width": 500, "diverse": True}
    said = client.get(f"{API}/images/{wren}/similar", params={"k": 6}).json()
    hits = engine.run(Query((Term(image_id=wren),), k=6))
    assert [hit["image_id"] for hit in said["hits"]] == [hit.image_id for hit in hits]
    assert said["hits"][0]["image_id"] == wren and said["hits"][0]["score"] == 1
    filtered = client.get(f"{API}/images/{wren}/similar", params=asked).json()["hits"]
    assert len(filtered) == 5 and all(hit["width"] >= 500 for hit in filtered)
    odd = client.get(f"{API}/images/{wren}/similar", params={"q": "x"})
    assert "q: Extra inputs" in problem(odd, 422)


def test_words_for_a_picture(client: TestClient, engine: SearchEngine, wren: int) -> None:
    said = client.get(f"{API}/images/{wren}/captions").json()
    (hit,) = engine.texts(Query((Term(image_id=wren),)))
    assert said["hits"] == [
        {
            "rank": 1,
            "score": pytest.approx(hit.score, abs=1e-5),
            "text": "a small brown bird on a branch",
            "image_ids": [wren],
        }
    ]


def test_why(client: TestClient, engine: SearchEngine, wren: int, problem: Problem) -> None:
    asked = {"q": "a bird - a house", "every": True}
    answer = client.get(f"{API}/images/{wren}/why", params=asked)
    assert answer.headers["content-type"] == "image/webp"
    query = Query(parse("a bird - a house"), every=True)
    hit = engine.hit_of(query, wren)
    picture, words = engine.why(query, hit)
    drawn = Image.open(io.BytesIO(answer.content)).convert("RGB")
    assert drawn.size == picture.size
    difference = np.abs(np.asarray(drawn, float) - np.asarray(picture.convert("RGB"), float))
    assert difference.mean() < 8  # WebP loses a little
    said = client.get(f"{API}/images/{wren}/why.json", params=asked).json()
    assert said["words"] == words and said["score"] == pytest.approx(hit.score, abs=1e-5)
    assert client.get(said["picture"]).content == answer.content
    assert "nothing is asked for" in problem(client.get(f"{API}/images/{wren}/why"), 422)


def test_the_file_itself(
    client: TestClient, service: Service, wren: int, pictures: Path, problem: Problem
) -> None:
    answer = client.get(f"{API}/images/{wren}/original")
    data = (pictures / "wren.jpg").read_bytes()
    assert answer.content == data and answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''wren.jpg"
    try:
        shutil.copy(pictures / "panda.jpg", pictures / "wren.jpg")
        for tail in ("original", "why?q=bird"):
            said = problem(client.get(f"{API}/images/{wren}/{tail}"), 404)
            assert "not there or changed since it was indexed" in said
    finally:
        (pictures / "wren.jpg").write_bytes(data)


def test_odd_names_in_headers(client: TestClient) -> None:
    for name, quoted in (
        ("coffee.jpg", "coffee.jpg"),
        ("panda.jpg", "%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.jpg"),
    ):
        found = client.get(f"{API}/search", params={"q": "x", "path": name}).json()["hits"][0]
        answer = client.get(f"{API}/images/{found['image_id']}/original")
        assert answer.headers["content-disposition"] == f"attachment; filename*=UTF-8''{quoted}"


def test_thumbnails(client: TestClient, service: Service, wren: int, problem: Problem) -> None:
    thumb = client.get(f"{API}/images/{wren}").json()["thumb"]
    for size, longest in (("", 320), ("?size=320", 320), ("?size=1600", 512)):
        answer = client.get(thumb + size)
        assert answer.headers["content-type"] == "image/webp"
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert max(Image.open(io.BytesIO(answer.content)).size) == longest
        again = client.get(thumb + size, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and again.content == b""
    other = client.get(thumb, headers={"If-None-Match": '"another"'})
    assert other.status_code == 200 and other.content
    assert "size: Input should be 320 or 1600" in problem(client.get(f"{thumb}?size=1000"), 422)
    assert problem(client.get(f"{API}/thumbs/{'0' * 64}"), 404)
    for forged in ("0" * 63, "A" * 64, "x", "..%2f..%2flibrary.sqlite"):
        assert client.get(f"{API}/thumbs/{forged}").status_code in (404, 422)
