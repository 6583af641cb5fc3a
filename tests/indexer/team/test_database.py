"""A library in a real PostgreSQL holds what one in a folder holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.address import Address, place_of
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync

pytestmark = pytest.mark.server


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_it_holds_what_a_folder_holds(
    team_address: str, photos: Path, encoder: Any, library: Library
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    ours = sync(library, [photos], encoder)
    with Library.create(place_of(team_address)) as team:
        theirs = sync(team, [photos], encoder)
        assert _counts(theirs) == _counts(ours)
        again = sync(team, None, encoder)
        assert (again.added, again.unchanged) == (0, 10)
    with Library.open(place_of(team_address)) as team:
        assert _told(team) == _told(library)


def _counts(report: Any) -> dict[str, Any]:
    left_out = ("seconds", "profile")
    return {k: v for k, v in dataclasses.asdict(report).items() if k not in left_out}


def _told(library: Library) -> tuple[Any, ...]:
    ids, embeddings = library.embeddings("fake", "fake-8")
    paths = library.paths_of(ids.tolist())
    by_path = {tuple(paths[key]): row.tobytes() for key, row in zip(ids, embeddings, strict=True)}
    stats = library.stats()
    return by_path, stats.images, stats.files, stats.errors_by_reason, stats.roots


def test_the_second_writer_of_a_folder_is_told(team_address: str, tmp_path: Path) -> None:
    with Library.create(place_of(team_address)) as library:
        with library.writer([tmp_path / "a"]):
            with library.writer([tmp_path / "b"]):
                pass
            for taken in ([tmp_path / "a"], [tmp_path / "a" / "c"], [tmp_path], None):
                with pytest.raises(LibraryBusy, match="another rwkvsearch is indexing"):
                    with library.writer(taken):
                        pass
        with library.writer():
            pass


@pytest.mark.parametrize("port, said", [(1, "the server cannot be reached")])
def test_no_server_is_one_line(port: int, said: str) -> None:
    with pytest.raises(LibraryError, match=said) as raised:
        Library.open(Address(f"postgresql://nobody@127.0.0.1:{port}/none"))
    assert "\n" not in str(raised.value)


def test_wrong_password_and_missing_database(
    team_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LibraryError, match='database "none" does not exist; make it with'):
        Library.open(Address(team_address.rpartition("/")[0] + "/none"))
    with pytest.raises(LibraryError, match="no library at postgresql://"):
        Library.open(Address(team_address))
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(LibraryError, match=r"password authentication failed .*~/\.pgpass"):
        Library.open(Address(team_address))


def test_a_password_in_the_address_is_refused() -> None:
    for url in ("postgresql://me:secret@host/db", "postgresql://host/db?password=secret"):
        with pytest.raises(LibraryError, match="may hold no password") as raised:
            place_of(url)
        assert "secret" not in str(raised.value)


def test_embeddings_keep_every_bit(team_address: str, photos: Path, encoder: Any) -> None:
    with Library.create(place_of(team_address)) as library:
        sync(library, [photos], encoder)
        _, embeddings = library.embeddings("fake", "fake-8")
    assert embeddings.dtype == np.float16 and np.isfinite(embeddings).all()
    np.testing.assert_allclose(np.linalg.norm(embeddings.astype(np.float32), axis=1), 1, atol=2e-3)
