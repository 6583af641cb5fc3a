"""`rwkvsearch album` as a person uses it."""

import io
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import Run


def shown(run: Run, *arguments: object) -> list[str]:
    """The names of the pictures that an album shows."""
    outcome = run("album", "show", *arguments, "--paths")
    assert outcome.code == 0, outcome.err
    return [Path(line).name for line in outcome.out.splitlines()]


def asked(run: Run, *arguments: object) -> list[str]:
    outcome = run("query", *arguments, "--paths")
    assert outcome.code == 0, outcome.err
    return [Path(line).name for line in outcome.out.splitlines()]


def test_an_album_is_its_query_asked_anew(indexed: Path, run: Run) -> None:
    query = ("2:red + ./photos/3.png - blue", "--and", "green", "-k", 5)
    saved = run("album", "save", "mine", *query)
    assert saved.code == 1 and "photos/3.png: no such file" in saved.err
    query = (f"2:red + {indexed}/3.png - blue", "--and", "green", "-k", 5)
    saved = run("album", "save", "mine", *query)
    words = f"2:red + {indexed}/3.png - blue + green; all have to hold"
    assert (saved.code, saved.out) == (0, f"saved mine: {words}\n")
    assert shown(run, "mine") == asked(run, *query)
    assert shown(run, "mine", "-k", 2, "--offset", 3) == asked(run, *query)[3:]
    (indexed / "3.png").rename(indexed / "first.png")
    gone = run("album", "show", "mine")
    assert gone.code == 1 and "3.png" in gone.err


def test_new_pictures_come_in(
    indexed: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("album", "save", "like 3", "--image", "photos/3.png", "-k", 3).code == 0
    monkeypatch.chdir("/")
    before = shown(run, "like 3")
    assert before[0] == "3.png"
    (indexed / "copy").mkdir()
    (indexed / "2.png").rename(indexed / "copy" / "two.png")
    (indexed / f"{before[1]}").unlink()
    assert run("index", indexed).code == 0
    assert before[1] not in shown(run, "like 3")


def test_votes(indexed: Path, run: Run) -> None:
    assert run("album", "save", "red", "red", "-k", 4).code == 0
    hits = json.loads(run("album", "show", "red", "--json").out)["hits"]
    ids = [hit["image_id"] for hit in hits]
    last = Path(hits[3]["path"]).name
    found = run("album", "show", "red", "--like", ids[3], "--dislike", hits[0]["path"], "--json")
    voted = json.loads(found.out)
    assert (voted["liked"], voted["disliked"]) == ([ids[3]], [ids[0]])
    after = [hit["image_id"] for hit in voted["hits"]]
    assert ids[0] not in after and len(after) == 4
    assert after.index(ids[3]) < 3
    assert json.loads(run("album", "show", "red", "--json").out) == voted
    everything = shown(run, "red", "-k", 100)
    assert len(everything) == 7 and Path(hits[0]["path"]).name not in everything
    assert shown(run, "red", "-k", 3, "--offset", 2) == everything[2:5]
    listed = json.loads(run("album", "list", "--json").out)["albums"]
    assert [(a["name"], a["liked"], a["disliked"]) for a in listed] == [("red", [ids[3]], [ids[0]])]
    fresh = run("album", "show", "red", "--forget-votes", "--json")
    assert json.loads(fresh.out)["hits"] == hits
    others = [name for name in asked(run, "red", "-k", 5) if name != last]
    assert shown(run, "red", "--forget-votes", "--dislike", indexed / last) == others


def test_votes_that_cannot_be(indexed: Path, run: Run) -> None:
    assert run("album", "save", "red", "red").code == 0
    for arguments, reason in [
        (("--like", "nowhere.png"), "nowhere.png: no picture of the library"),
        (("--dislike", 99), "there is no image 99"),
        (("--like", "9" * 5000), "name a path or an image id"),
        (("--like", "9" * 19), "name a path or an image id"),
        (("--like", "~no-such-user/x.png"), "~no-such-user/x.png: no picture of the library"),
        (("--like", 1, "--dislike", indexed / "0.png", "--like", 2, "--dislike", 2), "at once"),
    ]:
        outcome = run("album", "show", "red", *arguments)
        assert (outcome.code, outcome.out) == (1, "") and reason in outcome.err
        assert outcome.err.count("\n") == 1
    assert json.loads(run("album", "list", "--json").out)["albums"][0]["liked"] == []


def test_list_rename_delete(indexed: Path, run: Run) -> None:
    empty = run("album", "list")
    assert (empty.code, empty.out) == (0, "") and "album save" in empty.err
    assert run("album", "save", "a", "red", "--plain").code == 0
    assert run("album", "save", "b", "red - blue", "--min-confidence", 0.2, "--diverse").code == 0
    taken = run("album", "save", "a", "green")
    assert taken.code == 1 and "--replace" in taken.err
    assert run("album", "save", "a", "green", "--replace").code == 0
    assert run("album", "list").out.splitlines() == [
        "liked  disliked  name  query",
        "    0         0  a     green",
        "    0         0  b     red - blue; confidence at least 0.2; diverse",
    ]
    assert run("album", "rename", "a", "b").code == 1
    assert run("album", "rename", "a", "seas").out == "renamed a to seas\n"
    assert run("album", "delete", "b").out == "deleted b\n"
    unknown = run("album", "show", "b")
    assert (
        unknown.code == 1 and unknown.err == "rwkvsearch: there is no album 'b': there are 'seas'\n"
    )


def test_a_damaged_query_is_listed(indexed: Path, run: Run) -> None:
    assert run("album", "save", "a", "red").code == 0
    with closing(sqlite3.connect(indexed.parent / "home" / "library.sqlite")) as catalog:
        catalog.execute("UPDATE albums SET query = '{broken'")
        catalog.commit()
    assert json.loads(run("album", "list", "--json").out)["albums"][0]["query"] == "{broken"
    assert "is damaged" in run("album", "list").out


def test_a_picture_from_standard_input(
    indexed: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stdin:
        buffer = io.BytesIO((indexed / "6.png").read_bytes())

    monkeypatch.setattr(sys, "stdin", Stdin())
    saved = run("album", "save", "six", "--image", "-")
    assert (saved.code, saved.out) == (0, "saved six: an embedding\n")
    assert shown(run, "six")[0] == "6.png"
    assert run("index", indexed, "--precision", "bf16").code == 0
    other = run("album", "show", "six", "--precision", "bf16")
    assert other.code == 1 and "save the query again" in other.err


@pytest.mark.parametrize(
    "arguments", [(), ("",), ("- red",), ("", "--plain"), ("red", "-k", 0), ("red", "--crop", "x")]
)
def test_what_makes_no_sense_is_not_kept(
    arguments: tuple[object, ...], indexed: Path, run: Run
) -> None:
    outcome = run("album", "save", "a", *arguments)
    assert outcome.code in (1, 2) and outcome.out == ""
    assert json.loads(run("album", "list", "--json").out) == {"albums": []}


def test_without_a_library(run: Run) -> None:
    for arguments in (("save", "a", "red"), ("show", "a"), ("list",), ("delete", "a")):
        outcome = run("album", *arguments)
        assert outcome.code == 1 and "rwkvsearch index" in outcome.err
