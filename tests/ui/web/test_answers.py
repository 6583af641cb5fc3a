"""What the page is told, without a browser."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.albums import delete_album, read_album
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.web.answers import PAGE, answer, asked_about, kept_as, to_query
from rwkvsearch.ui.web.asked import Asked

from .conftest import HOSTILE


@pytest.fixture(scope="module")
def service(library: Path) -> Iterator[Service]:
    opened = Service(Settings(library))
    yield opened
    opened.close()


def test_pages_join_without_doubles(service: Service) -> None:
    for asked in (Asked(), Asked("a dog"), Asked("a dog", orientation="landscape")):
        first, second = answer(service, asked), answer(service, asked, PAGE)
        assert first["more"] and not second["more"] and second["offset"] == PAGE
        shown = [hit["id"] for hit in first["hits"] + second["hits"]]
        assert len(shown) == len({*shown}) == first["passing"]
        assert first["number"] != second["number"] and first["link"] == asked.to_link()


@pytest.mark.parametrize(
    "asked, said",
    [
        (Asked("./a.jpg"), "by the button"),
        (Asked(like=999_999), "999999"),
        (Asked(upload="0" * 64), "give it again"),
        (Asked(album="none"), "no album 'none'"),
        (Asked(after="soon"), "no time"),
        (Asked(orientation="round"), "no orientation"),
    ],
)
def test_what_cannot_be_answered(service: Service, asked: Asked, said: str) -> None:
    found = answer(service, asked)
    assert said in found["error"] and found["hits"] == [] and not found["more"]


def test_an_error_of_ours_is_said_and_logged(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "search", lambda _: 1 / 0)
    assert "the log of the server" in answer(service, Asked("a dog"))["error"]
    assert "ZeroDivisionError" in caplog.text


def test_why_is_asked_of_the_api(service: Service, pictures: Path) -> None:
    with (pictures / "coffee.jpg").open("rb") as file:
        upload = service.uploads.add(file.read())
    asked = Asked("2:a dog - snow", like=3, upload=upload)
    told = parse_qs(answer(service, asked)["why"])
    assert told == {"q": ["2:a dog - snow"], "image_id": ["3"], "upload": [upload]}
    assert answer(service, Asked())["why"] is None


def test_an_album_keeps_a_picture_but_not_its_upload(service: Service, pictures: Path) -> None:
    with (pictures / "coffee.jpg").open("rb") as file:
        asked = Asked(upload=service.uploads.add(file.read()), liked=(3,), camera=("canon",))
    album, said = kept_as(service, asked, HOSTILE)
    try:
        assert album == Asked(album=HOSTILE) and HOSTILE in said["albums"]
        assert read_album(service.library, HOSTILE).liked == (3,)
        assert said["why"] is None  # an embedding cannot be told the API
        assert [hit["id"] for hit in said["hits"]] == [
            hit["id"] for hit in answer(service, asked)["hits"]
        ]
        narrowed = to_query(service, Asked(album=HOSTILE, orientation="portrait"))
        assert narrowed is not None and narrowed.filters.orientation == "portrait"
        again, refused = kept_as(service, asked, HOSTILE)
        assert again == asked and "already" in refused["error"]
    finally:
        delete_album(service.library, HOSTILE)


def test_the_picture_in_the_question(service: Service) -> None:
    newest = answer(service, Asked())["hits"][0]
    told = asked_about(service, Asked(like=newest["id"]))
    assert told["picture"] == {"hash": newest["hash"], "name": newest["name"]}
    assert asked_about(service, Asked(like=999_999))["picture"] is None
    with pytest.raises(QueryError):
        to_query(service, Asked(upload="none"))
