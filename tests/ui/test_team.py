"""Every command over one library in PostgreSQL, as those of a team would use it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from rwkvsearch.data.errors import ServerGone
from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.doctor.run import Checkup, diagnose
from rwkvsearch.indexer.library import Library
from rwkvsearch.ui.api import sync_routes
from rwkvsearch.ui.api.problems import add_problems
from rwkvsearch.ui.api.settings import Settings
from rwkvsearch.ui.api.syncing import Syncs

from .conftest import Run, make_picture

pytestmark = pytest.mark.server

PROGRAM = Path(sys.executable).with_name("rwkvsearch")


@pytest.fixture
def team(team_address: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty database, which every command takes for its library."""
    monkeypatch.setenv("RWKVSEARCH_LIBRARY", team_address)
    return team_address


@pytest.fixture
def said(run: Run, team: str, home: Path) -> Iterator[list[str]]:
    """What was printed; it never names the folder of what is derived from the library."""
    lines: list[str] = []
    yield lines
    assert str(home / "teams") not in "\n".join(lines)


def test_every_command(
    run: Run, team: str, home: Path, photos: Path, tmp_path: Path, said: list[str]
) -> None:
    def done(*arguments: object) -> str:
        outcome = run(*arguments)
        assert outcome.code == 0, (arguments, outcome.err)
        said.extend([outcome.out, outcome.err])
        return outcome.out

    def hits(*arguments: object) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(done("query", *arguments, "--json"))["hits"]
        return found

    def refused(*arguments: object) -> str:
        outcome = run(*arguments)
        assert outcome.code == 1 and not outcome.out and outcome.err.count("\n") == 1, outcome
        said.append(outcome.err)
        return outcome.err

    assert f"index PATH --library {team}" in refused("stats")
    (photos / "3.txt").write_text("a blue square\n")
    (photos / "bad.png").write_text("no picture")
    (photos / "copy.png").write_bytes((photos / "5.png").read_bytes())
    assert f"library: {team}" in done("index", photos)
    stats = json.loads(done("stats", "--json"))
    assert (stats["library"], stats["images"], stats["files"]) == (team, 8, 9)

    first = hits("--image", photos / "5.png", "--k", 1)[0]
    same = [str(photos / "5.png"), str(photos / "copy.png")]
    assert first["paths"] == same and first["score"] == pytest.approx(1, abs=1e-3)
    assert len(hits("a square", "--and", "blue", "--min-width", 8, "--path", "*.png")) == 8
    assert [hit["path"] for hit in hits("a square", "--captioned")] == [str(photos / "3.png")]
    assert hits("a square", "--min-width", 1000) == []
    assert "a blue square" in done("query", "a blue square", "--to", "text")
    done("query", "a square", "--k", 2, "--why", tmp_path / "why", "--explain")
    assert len(list((tmp_path / "why").iterdir())) == 2
    done("export", tmp_path / "out", "a square", "--k", 2)
    assert len(list((tmp_path / "out").iterdir())) == 2

    assert "1 group" in done("dupes") and "same bytes" in done("dupes", "--exact-only")
    done("tag", "--labels", "red,blue,dog,cat", "--min-confidence", 0)
    listed = json.loads(done("tag", "--list", "--json"))["tags"]
    assert listed
    for row in listed:
        assert len(hits("a square", "--tag", row["label"])) == row["images"] > 0
    done("classify", photos / "1.png", "--labels", "red,blue")
    done("describe", "--to", tmp_path / "texts.parquet", "--limit", 2)

    done("album", "save", "squares", "a square")
    done("album", "show", "squares", "--like", photos / "7.png", "--k", 1)
    assert done("album", "list").splitlines()[1].split()[:3] == ["1", "0", "squares"]
    done("album", "rename", "squares", "all")
    done("album", "delete", "all")
    assert "no album" in refused("album", "show", "all")

    (tmp_path / "queries.tsv").write_text(f"a square\t{photos / '1.png'}\n")
    assert "recall@1" in done("eval", tmp_path / "queries.tsv")
    kept = run("eval", tmp_path / "queries.tsv", "--save")
    assert kept.code == 0 and str(home / "teams") in kept.err  # where the file lies

    assert "pgvector" in refused("tune")
    assert f"{team}: clean" in done("doctor")
    assert f"{team}: clean" in done("doctor", "--full", "--fix", "--embed", 2)

    done("backup", tmp_path / "kept.backup")
    done("restore", tmp_path / "kept.backup", "--library", tmp_path / "restored")
    done("copy", tmp_path / "copied")
    for place in (tmp_path / "restored", tmp_path / "copied"):
        assert hits("a square", "--library", place) == hits("a square")

    photos.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    done("relocate", photos, moved)
    assert str(moved) in str(hits("--image", moved / "5.png", "--k", 1)[0]["path"])
    assert team in refused("forget", photos)
    done("export", tmp_path / "numbers", "--to", "embeddings")
    done("forget", moved)
    assert f"the library at {team} is empty" in refused("query", "a square")
    done("import", tmp_path / "numbers", moved)
    assert len(hits("a square")) == 8


def test_a_server_that_stops(run: Run, team: str, photos: Path, postgres: Any) -> None:
    """Each command says so in one line; once the server is back everything goes on."""
    assert run("index", photos).code == 0
    postgres.stop()
    try:
        for asked in (["query", "x"], ["index"], ["stats"], ["dupes"], ["doctor"], ["tag"]):
            outcome = run(*asked)
            assert outcome.code == 1 and outcome.err.count("\n") == 1, outcome
            assert outcome.err.startswith(f"rwkvsearch: {team}: the server cannot be reached")
    finally:
        postgres.start()
    assert run("query", "x").code == 0 and "clean" in run("doctor").out


def served(syncs: Syncs) -> TestClient:
    """The routes of a sync alone."""
    app = FastAPI()
    app.state.service = SimpleNamespace(syncs=syncs)
    app.include_router(sync_routes.router, prefix="/api/v1")
    add_problems(app)
    return TestClient(app)


def test_the_doctor_and_a_sync_of_a_server_whose_database_stops(
    run: Run, team: str, photos: Path, postgres: Any
) -> None:
    assert run("index", photos).code == 0
    settings = Settings(place_of(team))
    with Library.open(settings.library) as library, closing(Syncs(settings)) as syncs:
        client = served(syncs)
        postgres.stop()
        try:
            with pytest.raises(ServerGone):  # not a list of checks that could not be made
                diagnose(library, Checkup())
            answer = client.post("/api/v1/sync")
            assert answer.status_code == 503 and team in answer.json()["detail"]
        finally:
            postgres.start()
        assert diagnose(library, Checkup()).clean


def test_a_role_that_only_reads_cannot_sync(
    run: Run, team: str, photos: Path, postgres: Any
) -> None:
    assert run("index", photos).code == 0
    database = team.rpartition("/")[2]
    postgres.say("CREATE ROLE visitor LOGIN PASSWORD 'postgres'")
    postgres.say("GRANT SELECT ON ALL TABLES IN SCHEMA public TO visitor", database)
    visitor = team.replace("postgres@", "visitor@")
    with closing(Syncs(Settings(place_of(visitor)))) as syncs:
        answer = served(syncs).post("/api/v1/sync")
    assert answer.status_code == 403
    assert f"may not write to {visitor}" in answer.json()["detail"]
    assert run("query", "x", "--library", visitor).code == 0
    assert "ask the owner" in run("forget", photos, "--library", visitor).err


def test_other_folders_are_indexed_at_the_same_time(
    team: str, library: Path, run: Run, photos: Path, tmp_path: Path
) -> None:
    """Two programs, each with a folder of its own; a part of the pictures is the same."""
    others = tmp_path / "others"
    for seed in range(4, 40):
        make_picture(others / f"{seed}.png", seed)
    assert run("forget", photos).code == 0
    both = [
        subprocess.Popen([PROGRAM, "index", one, "--model", "tiny"], stderr=subprocess.PIPE)
        for one in (photos, others)
    ]
    for one in both:
        error = one.communicate(timeout=120)[1].decode()
        assert one.returncode == 0, error
    stats = json.loads(run("stats", "--json").out)
    assert (stats["images"], stats["files"], stats["models"][0]["embeddings"]) == (40, 44, 40)
    assert "clean" in run("doctor", "--full").out
