"""Answers of the API are those of the engine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.details import shapes_of
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.grammar import parse
from rwkvsearch.retrieval.query import Crop, Hit, Query, Term
from rwkvsearch.ui.api.service import Service

SEARCH = "/api/v1/search"
JPEG = "application/octet-stream"
Problem = Callable[[Any, int], str]


def as_said(engine: SearchEngine, hits: list[Hit]) -> list[dict[str, Any]]:
    """What the API has to say of hits."""
    shapes = shapes_of(engine.library, [hit.image_id for hit in hits])
    return [
        {
            "rank": hit.rank,
            "score": pytest.approx(hit.score, abs=1e-5),
            "confidence": pytest.approx(hit.confidence, abs=1e-5),
            "path": str(hit.path),
            "paths": [*map(str, hit.paths)],
            "image_id": hit.image_id,
            "terms": pytest.approx(list(hit.terms), abs=1e-5),
            "thumb": f"/api/v1/thumbs/{shapes[hit.image_id].content_hash}",
            "width": shapes[hit.image_id].width,
            "height": shapes[hit.image_id].height,
        }
        for hit in hits
    ]


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ({"q": "a small bird"}, Query(parse("a small bird"))),
        ({"q": "2:fruit - table", "k": 3}, Query(parse("2:fruit - table"), k=3)),
        ({"q": "a + b", "plain": True}, Query((Term("a + b"),))),
        ({"q": "./coffee.jpg", "plain": True}, Query((Term("./coffee.jpg"),))),
        ({"q": "sea", "and": ["boat"], "not": ["sky", "2:snow"]},
         Query((Term("sea"), Term("boat"), Term("sky", weight=-1), Term("snow", weight=-2)),
               every=True)),
        ({"q": "sea + boat", "every": True}, Query(parse("sea + boat"), every=True)),
        ({"image_id": [5, 9], "k": 7}, Query((Term(image_id=5), Term(image_id=9)), k=7)),
        ({"q": "night", "image_id": 3}, Query((Term("night"), Term(image_id=3)))),
        ({"q": "sea", "k": 4, "offset": 9, "diverse": True},
         Query(parse("sea"), k=4, offset=9, diverse=True)),
        ({"q": "sea", "min_confidence": 0.6, "k": 50},
         Query(parse("sea"), k=50, min_confidence=0.6)),
        ({"q": "sea", "orientation": "portrait", "min_width": 300, "format": ["jpg", "png"]},
         Query(parse("sea"), filters=Filters(orientation="portrait", min_width=300,
                                             formats=("jpg", "png")))),
        ({"q": "sea", "path": "c*.jpg"}, Query(parse("sea"), filters=Filters(globs=("c*.jpg",)))),
        ({"q": "bird", "captioned": "true"}, Query(parse("bird"), filters=Filters(captioned=True))),
        ({"q": "bird", "gps": "1,2,3,4"}, None),
        ({"q": "bird", "camera": "Canon"}, None),
        ({"q": "bird", "tag": "dog"}, None),
        ({"q": "bird", "after": "2019", "before": "2020-06"}, None),
    ],
)  # fmt: skip
def test_values(
    asked: dict[str, Any], query: Query | None, client: TestClient, engine: SearchEngine
) -> None:
    answer = client.get(SEARCH, params=asked)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    if query is None:
        assert said["hits"] == [] and said["message"] == "no picture passes these filters"
        return
    hits = engine.run(query)
    assert said["hits"] == as_said(engine, hits) and hits
    assert said["query"] == asked.get("q") and said["offset"] == query.offset
    assert said["model"] == engine.encoder.model_id and said["how"] == engine.how == "exact"


def test_what_is_said_beside_the_hits(client: TestClient) -> None:
    said = client.get(SEARCH, params={"q": "2:bird - tree", "k": 1}).json()
    assert said["terms"] == "2:bird - tree" and said["message"] is None
    times = said["timings"]
    assert all(value >= 0 for value in times.values())
    parts = times["encode"] + times["search"] + times["rest"]
    assert parts == pytest.approx(times["total"], abs=0.01)
    doubtful = client.get(SEARCH, params={"q": "qzx", "k": 1, "min_confidence": 1}).json()
    assert doubtful["message"] == "no picture reaches a confidence of 1"
    behind = client.get(SEARCH, params={"q": "bird", "offset": 5000}).json()
    assert behind["hits"] == [] and behind["message"] == "there are not more than 5,000 hits"


def test_pages_are_parts_of_one_answer(client: TestClient) -> None:
    whole = client.get(SEARCH, params={"q": "sea", "k": 1000}).json()["hits"]
    assert len(whole) == 60
    pages = [client.get(SEARCH, params={"q": "sea", "k": 25, "offset": at}) for at in (0, 25, 50)]
    assert [hit for page in pages for hit in page.json()["hits"]] == whole


def test_folders(client: TestClient, engine: SearchEngine, pictures: Path) -> None:
    said = client.get(SEARCH, params={"q": "x", "under": str(pictures / "odd")}).json()
    query = Query(parse("x"), filters=Filters(folders=(pictures / "odd",)))
    assert said["hits"] == as_said(engine, engine.run(query)) and len(said["hits"]) == 2


def test_names_that_are_no_utf_8_pass_as_on_the_command_line(client: TestClient) -> None:
    hits = client.get(SEARCH, params={"q": "coffee", "path": "coffee.jpg"}).json()["hits"]
    assert [Path(path).name for path in hits[0]["paths"]] == ["coffee.jpg", "caf\udce9.jpg"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "nothing is asked for: give q, image_id or upload"),
        ({"q": ""}, "the query is empty"),
        ({"q": " "}, "the query is empty"),
        ({"q": " ", "plain": 1}, "the query is empty"),
        ({"q": "- dog"}, "only what is not wanted"),
        ({"not": "dog"}, "only what is not wanted"),
        ({"q": "0:dog"}, "a weight of 0"),
        ({"q": "dog + - cat"}, "nothing stands behind"),
        ({"q": "x" * 1001}, "q: String should have at most 1000 characters"),
        ({"q": "x" * 999 + ":dog"}, "q: String should have at most"),
        ({"q": "9" * 400 + ":dog"}, "a weight cannot be inf"),
        ({"q": " + ".join("x" * 33)}, "a query of 33 terms: 32 are the most"),
        ({"q": "x", "k": 0}, "k: Input should be greater than or equal to 1"),
        ({"q": "x", "k": 1001}, "k: Input should be less than or equal to 1000"),
        ({"q": "x", "k": "ten"}, "k: Input should be a valid integer"),
        ({"q": "x", "offset": -1}, "offset: Input should be greater"),
        ({"q": "x", "offset": 9999, "k": 2}, "offset and k together are 10000 at most"),
        ({"q": "x", "min_confidence": 2}, "min_confidence: Input should be less"),
        ({"q": "x", "min_confidence": "nan"}, "min_confidence: Input should be"),
        ({"q": "x", "kk": 3}, "kk: Extra inputs are not permitted"),
        ({"image_id": 10**6}, "there is no image 1000000 in the library"),
        ({"image_id": 0}, "image_id.0: Input should be greater"),
        ({"image_id": 2**63}, "image_id.0: Input should be less"),
        ({"upload": "0" * 64}, "is not kept any more"),
        ({"upload": "../etc"}, "upload.0: String should match pattern"),
        ({"q": "x", "crop": "0,0,1,1"}, "crop: give exactly one upload"),
        ({"q": "x", "after": "yesterday"}, "'yesterday' is no time"),
        ({"q": "x", "after": "2020", "before": "2019"}, "nothing was taken after 2020 and before"),
        ({"q": "x", "orientation": "round"}, "orientation: Input should be 'landscape'"),
        ({"q": "x", "format": "exe"}, "'exe' is no format that is read"),
        ({"q": "x", "camera": " "}, "cameras: an empty one fits nothing"),
        ({"q": "x", "gps": "1,2,3"}, "'1,2,3' is no box"),
        ({"q": "x", "gps": "nan,nan,nan,nan"}, "a latitude lies between"),
        ({"q": "x", "min_megapixels": "inf"}, "min_megapixels: Input should be"),
        ({"q": "x", "captioned": "perhaps"}, "captioned: Input should be a valid boolean"),
        ({"q": "x", "under": "photos"}, "under: give the whole path"),
        ({"q": "x", "under": "~/photos"}, "under: give the whole path"),
        ({"q": "x", "under": "/photos\0"}, "under: give the whole path"),
        ({"q": "x", "under": "/nowhere"}, "/nowhere: nothing below it was indexed"),
        ({"q": "x", "path": "./a"}, "path: a pattern begins anywhere or with /"),
        ({"q": "x", "path": "!~/a"}, "path: a pattern begins anywhere or with /"),
    ],
)
def test_mistakes(asked: dict[str, Any], said: str, client: TestClient, problem: Problem) -> None:
    assert said in problem(client.get(SEARCH, params=asked), 422)


@pytest.mark.parametrize("path", ["/etc/passwd", "./coffee.jpg", "../x.jpg", "~/x"])
@pytest.mark.parametrize("form", ["{}", "2:{}", "dog + {}", "dog - {}"])
def test_words_are_never_opened(path: str, form: str, client: TestClient, problem: Problem) -> None:
    for asked in ({"q": form.format(path)}, {"q": "dog", "and": path}, {"q": "dog", "not": path}):
        said = problem(client.get(SEARCH, params=asked), 422)
        assert said.startswith("words that begin like a path name no picture here")
        assert path.removeprefix("~") not in said


def test_uploads(client: TestClient, engine: SearchEngine, pictures: Path) -> None:
    data = (pictures / "panda.jpg").read_bytes()
    kept = client.post("/api/v1/uploads", content=data, headers={"Content-Type": JPEG})
    assert kept.status_code == 201
    said = kept.json()
    image = read_image(pictures / "panda.jpg")
    assert (said["width"], said["height"], said["format"]) == (*image.size, "JPEG")
    found = client.get(SEARCH, params={"upload": said["upload"], "k": 3}).json()["hits"]
    assert str(pictures / "panda.jpg") in found[0]["paths"] and found[0]["score"] > 0.99
    crop = {"upload": said["upload"], "crop": "0,0,0.5,0.5", "k": 3}
    part = client.get(SEARCH, params=crop).json()["hits"]
    wanted = engine.run(Query((Term(image=image, crop=Crop(0, 0, 0.5, 0.5)),), k=3))
    assert [hit["score"] for hit in part] == pytest.approx([h.score for h in wanted], abs=0.01)
    assert part[0]["score"] < found[0]["score"]


def test_files_in_a_form(client: TestClient, service: Service, pictures: Path) -> None:
    names = ("wren.jpg", "panda.jpg")
    files = [("image", ("x", (pictures / name).read_bytes())) for name in names]
    fields = {"q": "snow", "not": ["sky"], "k": "4", "orientation": "landscape"}
    said = client.post(SEARCH, data=fields, files=files).json()
    uploads = [service.uploads.add(data) for _, (_, data) in files]
    same = client.get(SEARCH, params=fields | {"upload": uploads}).json()
    assert said["hits"] == same["hits"] and len(said["hits"]) == 4
    assert said["terms"] == "snow + a picture + a picture - sky"
    assert client.post(SEARCH, data={"q": "snow"}).json()["query"] == "snow"


def test_files_that_are_no_pictures(client: TestClient, problem: Problem) -> None:
    assert "nothing was sent" in problem(client.post("/api/v1/uploads", content=b""), 422)
    for data in (b"no picture", b"\xff\xd8\xff\xe0" + b"\0" * 100, b"<svg/>"):
        problem(client.post("/api/v1/uploads", content=data), 422)
        problem(client.post(SEARCH, files=[("image", ("x.jpg", data))]), 422)
    assert "q: there is no such" in problem(client.post(f"{SEARCH}?q=dog", data={"k": "1"}), 422)
    assert "kk: Extra" in problem(client.post(SEARCH, data={"q": "x", "kk": "1"}), 422)
    assert "nothing is asked" in problem(client.post(SEARCH, data={"k": "1"}), 422)


def test_what_is_not_there(client: TestClient, problem: Problem) -> None:
    assert "there is nothing at /api/v1/nothing" in problem(client.get("/api/v1/nothing"), 404)
    assert "there is nothing" in problem(client.post("/api/v1/"), 404)
    for method, path, allowed in (
        ("DELETE", "search", "GET, POST"),
        ("GET", "uploads", "POST"),
        ("PUT", "images/1", "GET"),
        ("POST", "albums/x", "GET, PATCH, DELETE"),
    ):
        answer = client.request(method, f"/api/v1/{path}")
        assert problem(answer, 405) and answer.headers["Allow"] == allowed


def test_an_error_nobody_thought_of_tells_nothing(
    client: TestClient, problem: Problem, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Query) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service, "search", fail)
    said = problem(client.get(SEARCH, params={"q": "x"}), 500)
    assert said == "the server failed to answer this: its log says where"


def test_many_threads_get_the_same(client: TestClient, engine: SearchEngine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    words = [f"a picture of {what}" for what in ("a dog", "food", "the sea", "a house")] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda text: client.get(SEARCH, params={"q": text, "k": 5}), words)]
    for text, answer in zip(words, answers, strict=True):
        hits = engine.run(replace(Query(parse(text)), k=5))
        assert answer.json()["hits"] == as_said(engine, hits)
