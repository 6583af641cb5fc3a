"""Texts and labels for uploads and pictures of the library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rwkvsearch.data.descriptions.vocabulary import find_word
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.labels import Labels, one_of
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.ui.api.service import Service

CAPTIONS, CLASSIFY = "/api/v1/captions", "/api/v1/classify"
CORPUS = ["a panda eats bamboo", "a plate of fruit", "a rocket"]
Problem = Callable[[Any, int], str]


@pytest.fixture
def panda(service: Service, pictures: Path) -> str:
    return service.uploads.add((pictures / "panda.jpg").read_bytes())


def test_captions_of_an_upload(
    client: TestClient, service: Service, engine: SearchEngine, panda: str
) -> None:
    said = client.post(CAPTIONS, json={"upload": panda, "corpus": CORPUS, "k": 2}).json()
    hits = engine.texts(Query((Term(image=service.uploads.image(panda)),), k=2), CORPUS)
    assert [hit["text"] for hit in said["hits"]] == [hit.text for hit in hits]
    assert said["hits"][0]["text"] == CORPUS[0] and len(hits) == 2
    assert [hit["score"] for hit in said["hits"]] == pytest.approx(
        [h.score for h in hits], abs=1e-5
    )
    of_library = client.post(CAPTIONS, json={"upload": panda}).json()
    assert [hit["text"] for hit in of_library["hits"]] == ["a small brown bird on a branch"]


def test_labels(client: TestClient, service: Service, engine: SearchEngine, panda: str) -> None:
    names = ["panda", "fruit", "car"]
    said = client.post(CLASSIFY, json={"upload": panda, "labels": [*names, " panda "]}).json()
    encoder = engine.encoder.encoder  # type: ignore[attr-defined]
    labels = Labels(encoder, one_of({name: find_word(name) for name in names}))
    (tags,) = labels.tags(encoder.encode_images([service.uploads.image(panda)]), 0, 3)
    wanted = [{"label": tag.name, "confidence": pytest.approx(tag.confidence)} for tag in tags]
    assert said == {"model": engine.encoder.model_id, "labels": wanted}
    assert said["labels"][0]["label"] == "panda"


def test_a_picture_of_the_library_has_the_labels_of_its_file(
    client: TestClient, panda: str
) -> None:
    (hit,) = client.get("/api/v1/search", params={"q": "x", "path": "/**/panda.jpg"}).json()["hits"]
    asked = {"labels": ["panda", "fruit"], "min_confidence": 0.5}
    of_file = client.post(CLASSIFY, json=asked | {"upload": panda}).json()["labels"]
    of_library = client.post(CLASSIFY, json=asked | {"image_id": hit["image_id"]}).json()["labels"]
    assert of_library == [
        of_file[0] | {"confidence": pytest.approx(of_file[0]["confidence"], abs=0.01)}
    ]


@pytest.mark.parametrize(
    ("route", "asked", "status", "said"),
    [
        (CAPTIONS, {}, 422, "body: give either upload or image_id"),
        (CAPTIONS, {"image_id": 1, "upload": "0" * 64}, 422, "give either upload or image_id"),
        (CAPTIONS, {"image_id": 1, "corpus": []}, 422, "corpus: List should have at least 1"),
        (
            CAPTIONS,
            {"image_id": 1, "corpus": ["x"] * 1001},
            422,
            "corpus: List should have at most",
        ),
        (CAPTIONS, {"image_id": 1, "corpus": ["x" * 501]}, 422, "corpus.0: String should have at"),
        (CAPTIONS, {"image_id": 1, "file": "/etc/passwd"}, 422, "file: Extra inputs"),
        (CAPTIONS, {"image_id": 77777}, 422, "there is no image 77777 in the library"),
        (CAPTIONS, {"upload": "0" * 64}, 422, "is not kept any more"),
        (CLASSIFY, {"image_id": 1, "labels": ["one"]}, 422, "labels: List should have at least 2"),
        (CLASSIFY, {"image_id": 1, "labels": ["one", " one"]}, 422, "give two labels or more"),
        (CLASSIFY, {"image_id": 1, "labels": [" ", "  "]}, 422, "give two labels or more"),
        (CLASSIFY, {"image_id": 1, "labels": "dog"}, 422, "labels: Input should be a valid list"),
        (CLASSIFY, {"image_id": 77777, "labels": ["a", "b"]}, 404, "there is no image 77777"),
    ],
)
def test_mistakes(
    route: str, asked: Any, status: int, said: str, client: TestClient, problem: Problem
) -> None:
    assert said in problem(client.post(route, json=asked), status)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"null", b'{"upload": "\\ud800"}'])
def test_bodies_that_are_none(body: bytes, client: TestClient, problem: Problem) -> None:
    for route in (CAPTIONS, CLASSIFY, "/api/v1/albums"):
        headers = {"Content-Type": "application/json"}
        assert problem(client.post(route, content=body, headers=headers), 422)
        assert problem(client.post(route, content=b"\xff", headers=headers), 400)
