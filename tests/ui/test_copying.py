"""`rwkvsearch copy`, and what is said of places that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.cli import app


def test_copies_and_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Library.create(tmp_path / "one").close()
    monkeypatch.setenv("RWKVSEARCH_LIBRARY", str(tmp_path / "one"))
    done = CliRunner().invoke(app, ["copy", str(tmp_path / "two")])
    assert done.exit_code == 0 and done.stdout.startswith("0 images copied\nlibrary: ")
    assert (tmp_path / "two" / "library.sqlite").is_file()


@pytest.mark.parametrize(
    "place, said",
    [
        ("mysql://host/db", "a library cannot lie at mysql://"),
        ("postgresql://me:secret@host/db", "may hold no password"),
        ("postgresql://me@127.0.0.1:1/db", "the server cannot be reached"),
    ],
)
@pytest.mark.parametrize("command", ["stats", "query", "dupes", "doctor", "tune"])
def test_a_place_that_is_none(command: str, place: str, said: str) -> None:
    words = ["a dog"] if command == "query" else []
    done = CliRunner().invoke(app, [command, *words, "--library", place])
    assert isinstance(done.exception, LibraryError)
    assert said in str(done.exception) and "secret" not in str(done.exception)
