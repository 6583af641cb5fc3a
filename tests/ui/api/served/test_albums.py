"""Albums: saved, asked, voted on, renamed and forgotten."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rwkvsearch.indexer.albums import delete_album, read_albums, save_album
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.grammar import parse
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.retrieval.query_json import query_to_json
from rwkvsearch.ui.api.service import Service

ALBUMS = "/api/v1/albums"
Problem = Callable[[Any, int], str]


@pytest.fixture(autouse=True)
def none_left(service: Service) -> Iterator[None]:
    yield
    for album in read_albums(service.library):
        delete_album(service.library, album.name)


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [hit["image_id"] for hit in answer.json()["hits"]]


def test_an_album_from_its_making_to_its_end(
    client: TestClient, engine: SearchEngine, problem: Problem
) -> None:
    asked = {"name": "birds", "q": "a bird - a cat", "k": 5, "orientation": "landscape"}
    made = client.post(ALBUMS, json=asked)
    assert made.status_code == 201 and made.headers["location"] == f"{ALBUMS}/birds"
    assert made.json()["terms"] == "a bird - a cat; orientation landscape"
    query = Query(parse("a bird - a cat"), filters=Filters(orientation="landscape"), k=5)
    hits = [hit.image_id for hit in engine.run(query)]
    assert ids(client.get(f"{ALBUMS}/birds")) == hits
    assert ids(client.get(f"{ALBUMS}/birds?k=2&offset=1")) == hits[1:3]

    for image_id, liked in ((hits[1], True), (hits[0], False), (hits[2], True)):
        said = client.put(f"{ALBUMS}/birds/votes/{image_id}", json={"liked": liked})
        assert said.status_code == 200
    assert said.json()["liked"] == sorted([hits[1], hits[2]])
    assert client.delete(f"{ALBUMS}/birds/votes/{hits[2]}").json()["liked"] == [hits[1]]
    voted = client.get(f"{ALBUMS}/birds").json()
    assert (voted["liked"], voted["disliked"]) == ([hits[1]], [hits[0]])
    turned = engine.run(
        Query(query.terms, filters=query.filters, k=5, liked=(hits[1],), disliked=(hits[0],))
    )
    assert [hit["image_id"] for hit in voted["hits"]] == [hit.image_id for hit in turned]
    assert voted["album"] == "birds" and hits[0] not in ids(client.get(f"{ALBUMS}/birds?k=100"))

    renamed = client.patch(f"{ALBUMS}/birds", json={"name": "a/b ü"})
    assert renamed.json()["name"] == "a/b ü" and renamed.json()["disliked"] == [hits[0]]
    assert problem(client.get(f"{ALBUMS}/birds"), 404)
    assert ids(client.get(f"{ALBUMS}/a%2Fb%20%C3%BC")) == ids(client.get(f"{ALBUMS}/a/b ü"))
    assert [one["name"] for one in client.get(ALBUMS).json()["albums"]] == ["a/b ü"]
    gone = client.delete(f"{ALBUMS}/a/b ü")
    assert gone.status_code == 204 and gone.content == b""
    assert "there is no album 'a/b ü'" in problem(client.delete(f"{ALBUMS}/a/b ü"), 404)


def test_an_upload_is_kept_as_the_model_sees_it(
    client: TestClient, service: Service, pictures: Path
) -> None:
    upload = service.uploads.add((pictures / "wren.jpg").read_bytes())
    asked = {"q": "snow", "upload": [upload]}
    made = client.post(ALBUMS, json=asked | {"name": "x"}).json()
    assert made["terms"] == "snow + an embedding"
    assert [term.keys() for term in made["query"]["terms"]] == [
        {"text", "weight"}, {"model", "weight"}
    ]  # fmt: skip
    found = client.get("/api/v1/search", params=asked)
    assert ids(client.get(f"{ALBUMS}/x")) == ids(found)


def test_albums_of_the_command_line_may_hold_paths(
    client: TestClient, service: Service, pictures: Path, problem: Problem
) -> None:
    save_album(service.library, "own", query_to_json(Query((Term(path=pictures / "wren.jpg"),))))
    found = client.get(f"{ALBUMS}/own?k=1").json()["hits"]
    assert Path(found[0]["path"]).name == "wren.jpg"
    save_album(service.library, "odd", "{}")
    save_album(service.library, "odder", '{"version": 1, "terms": 5}')
    shown = {one["name"]: one for one in client.get(ALBUMS).json()["albums"]}
    assert "damaged" in shown["odd"]["terms"] and shown["odder"]["query"]["terms"] == 5
    assert "a saved query is damaged" in problem(client.get(f"{ALBUMS}/odd"), 422)


def test_replacing(client: TestClient, problem: Problem) -> None:
    assert client.post(ALBUMS, json={"name": "a", "q": "sea"}).status_code == 201
    taken = client.post(ALBUMS, json={"name": "a", "q": "snow"})
    assert "there is an album 'a' already" in problem(taken, 409)
    again = client.post(ALBUMS, json={"name": "a", "q": "snow", "replace": True})
    assert again.status_code == 201 and again.json()["terms"] == "snow"
    assert client.post(ALBUMS, json={"name": "b", "q": "sea"}).status_code == 201
    assert problem(client.patch(f"{ALBUMS}/b", json={"name": "a"}), 409)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"q": "sea"}, "name: Field required"),
        ({"q": "sea", "name": ""}, "name: String should have at least 1"),
        ({"q": "sea", "name": "  "}, "name: String should match pattern"),
        ({"q": "sea", "name": "x" * 201}, "name: String should have at most 200"),
        ({"name": "x"}, "nothing is asked for"),
        ({"name": "x", "q": "/etc/passwd"}, "words that begin like a path"),
        ({"name": "x", "image_id": [54321]}, "there is no image 54321"),
        ({"name": "x", "q": "sea", "offset": 3}, "offset: Extra inputs"),
        ({"name": "x", "q": "sea", "under": ["/nowhere"]}, "nothing below it was indexed"),
    ],
)
def test_what_cannot_be_kept(
    asked: dict[str, Any], said: str, client: TestClient, service: Service, problem: Problem
) -> None:
    answer = client.post(ALBUMS, json=asked)
    assert said in problem(answer, 422)
    assert not read_albums(service.library)


def test_votes_on_nothing(client: TestClient, problem: Problem) -> None:
    assert problem(client.put(f"{ALBUMS}/none/votes/1", json={"liked": True}), 404)
    assert client.post(ALBUMS, json={"name": "a", "q": "sea"}).status_code == 201
    assert problem(client.put(f"{ALBUMS}/a/votes/54321", json={"liked": True}), 404)
    assert problem(client.put(f"{ALBUMS}/a/votes/1", json={}), 422)
    assert client.delete(f"{ALBUMS}/a/votes/54321").status_code == 200
