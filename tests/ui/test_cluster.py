"""`--ann milvus://` as a person gives it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import Run, make_picture

pytestmark = pytest.mark.server


@pytest.fixture
def ann(tmp_path: Path) -> str:
    pytest.importorskip("pymilvus", reason="pymilvus and milvus-lite are not installed")
    pytest.importorskip("milvus_lite", reason="pymilvus and milvus-lite are not installed")
    return f"milvus://{tmp_path}/cluster.db"


def test_index_query_doctor_and_forget(
    photos: Path, home: Path, run: Run, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run("index", photos, "--ann", ann)
    assert (outcome.code, outcome.err) == (0, "")
    assert not (home / "ann").exists()  # Milvus has it
    plain = json.loads(run("query", "red", "--json").out)
    mirrored = run("query", "red", "--json", "--explain", "--ann", ann)
    assert json.loads(mirrored.out) == plain
    assert "\nsearch  exact\n" in mirrored.err
    assert "8 rows, those of the library" in run("doctor", "--ann", ann).out
    monkeypatch.setenv("RWKVSEARCH_ANN", f"{ann}?index=HNSW")
    (photos / "3.png").unlink()
    make_picture(photos / "9.png", 9)
    assert "1 embedded" in run("index").out
    found = run("query", "--image", photos / "9.png", "-k", 1, "--json", "--explain")
    assert json.loads(found.out)["hits"][0]["path"] == str(photos / "9.png")
    assert "search  Milvus HNSW" in found.err
    assert run("forget", photos / "9.png").code == 0
    assert "7 rows, those of the library" in run("doctor").out
    from pymilvus import MilvusClient

    client = MilvusClient(str(home.parent / "cluster.db"))
    (name,) = client.list_collections()
    client.load_collection(name)
    assert len(client.query(name, filter="id > 0", output_fields=["id"])) == 7  # nothing is left
    client.close()


def test_doctor_mends(photos: Path, home: Path, run: Run, ann: str) -> None:
    run("index", photos)
    assert "none at" in run("doctor", "--ann", ann).out
    run("index", "--ann", ann)
    with closing(sqlite3.connect(home / "library.sqlite")) as connection:
        connection.execute("DELETE FROM embeddings WHERE id = 2")
        connection.commit()
    broken = run("doctor", "--ann", ann)
    assert broken.code == 1
    assert "1 image in it that the library lacks" in broken.out
    assert "--fix: what is missing or changed is entered, what is stale deleted" in broken.out
    assert run("doctor", "--ann", ann, "--fix").code == 0
    assert json.loads(run("doctor", "--ann", ann, "--json").out)["clean"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("host:19530", "no address of a cluster"),
        ("milvus://u:p@host", "may hold no password"),
        ("milvus://127.0.0.1:1", "no Milvus answers at milvus://127.0.0.1:1"),
        ("DISKANN", "milvus-lite has no DISKANN"),
    ],
)
def test_one_line_for_what_cannot_be(
    indexed: Path, run: Run, ann: str, given: str, why: str
) -> None:
    address = f"{ann}?index=DISKANN" if given == "DISKANN" else given
    outcome = run("index", "--ann", address)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("rwkvsearch: ") and why in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_query_makes_nothing(indexed: Path, run: Run, ann: str, tmp_path: Path) -> None:
    outcome = run("query", "red", "--ann", ann)
    assert outcome.code == 1
    assert "is no mirror of this library yet: bring it up to date with" in outcome.err
    assert not (tmp_path / "cluster.db").exists()
