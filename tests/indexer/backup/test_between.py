"""A backup of a library in PostgreSQL, and one that becomes such a library."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer import edit
from rwkvsearch.indexer.address import Place, place_of
from rwkvsearch.indexer.albums import album_names, save_album
from rwkvsearch.indexer.backup import restore as restoring
from rwkvsearch.indexer.backup.make import back_up
from rwkvsearch.indexer.backup.restore import publish_all, restore
from rwkvsearch.indexer.doctor.run import Checkup, diagnose
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import AlbumRow, EmbeddingRow, ImageRow, ModelRow, Table

pytestmark = pytest.mark.server


def quiet(what: str, done: int, total: int) -> None:
    """Nobody is told."""


def fill(place: Place, photos: Path, encoder: Any) -> None:
    (photos / "a" / "0.txt").write_text("a picture of four squares")
    (photos / "bad.png").write_bytes(b"no picture")
    with Library.create(place) as library:
        sync(library, [photos], encoder)
        save_album(library, "squares", "{}")


def content(place: Place) -> dict[str, list[Any]]:
    """Every row of every table that says what was indexed."""
    with Library.open(place) as library, library.read() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Table.metadata.sorted_tables
            if table.name not in ("generations", "settings")
        }


@pytest.mark.parametrize("way", ["out of the database", "into the database"])
def test_there_and_back(
    way: str, team_address: str, tmp_path: Path, photos: Path, encoder: Any
) -> None:
    places: list[Place] = [place_of(team_address), tmp_path / "folder"]
    source, target = places if way.startswith("out") else places[::-1]
    fill(source, photos, encoder)
    with Library.open(source) as library:
        made = back_up(library, tmp_path / "x.tar", quiet)
    assert made.library == str(source) and made.rows["images"] == 10
    restore(tmp_path / "x.tar", target, quiet)
    assert content(target) == content(source)
    with Library.open(target) as library:
        publish_all(library, lambda model: None)
        assert not [f.text for f in diagnose(library, Checkup()).findings if f.state == "fault"]
        again = sync(library, None, encoder)
        assert (again.unchanged, again.added) == (10, 0)
        new = sync(library, [photos.parent / "more"], encoder) if _more(photos) else None
        assert new and new.added == 1
    with pytest.raises(LibraryError, match="there: move all|holds a library already"):
        restore(tmp_path / "x.tar", target, quiet)


def _more(photos: Path) -> bool:
    from tests.indexer.conftest import make_image

    return make_image(photos.parent / "more" / "new.png", 99).exists()


def test_ids_go_on(team_address: str, tmp_path: Path, photos: Path, encoder: Any) -> None:
    place = place_of(team_address)
    fill(place, photos, encoder)
    with Library.open(place) as library:
        edit.forget(library, photos)
        made = back_up(library, tmp_path / "x.tar", quiet)
    assert made.rows["embeddings"] == 0 and made.last_ids["embeddings"] >= 10
    restore(tmp_path / "x.tar", tmp_path / "new", quiet)
    with Library.open(tmp_path / "new") as library:
        sync(library, [photos], encoder)
        with library.read() as session:
            first = session.scalar(select(func.min(EmbeddingRow.id)))
    assert first == made.last_ids["embeddings"] + 1


def test_one_state_while_others_write(team_address: str, tmp_path: Path) -> None:
    """Each transaction adds three images with embeddings and one album, or changes nothing."""
    place, stop, written = place_of(team_address), threading.Event(), [0, 0]
    with Library.create(place) as library, library.write() as session:
        session.add(
            ModelRow(
                model_id="m", preprocessing_id="p", dim=2, weights_sha256="0" * 64, created_at=0.0
            )
        )
    data = np.array([1, 0], "<f2").tobytes()

    def write(who: int) -> None:
        with Library.open(place) as own:
            while not stop.is_set():
                step = f"{who}-{written[who]}"
                with own.write() as session:
                    rows = [
                        ImageRow(content_hash=f"{step}-{n}", width=1, height=1, format="PNG")
                        for n in range(3)
                    ]
                    session.add_all(rows)
                    session.flush()
                    session.add_all(
                        EmbeddingRow(image_id=row.id, model=1, data=data) for row in rows
                    )
                    session.add(AlbumRow(name=step, query="{}", created_at=0.0))
                written[who] += 1

    writers = [threading.Thread(target=write, args=(who,)) for who in range(2)]
    for writer in writers:
        writer.start()
    try:
        for number in range(3):
            while min(written) < 3 * number + 1:
                assert all(writer.is_alive() for writer in writers)
            low = sum(written)
            with Library.open(place) as library:
                back_up(library, tmp_path / "x.tar", quiet)
            high = sum(written) + 2
            new = tmp_path / f"{number}"
            restore(tmp_path / "x.tar", new, quiet)
            rows = {name: len(found) for name, found in content(new).items()}
            assert rows["images"] == rows["embeddings"] == 3 * rows["albums"]
            assert low <= rows["albums"] <= high
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_a_database_that_cannot_be_used_is_told_first(
    team_address: str, tmp_path: Path, photos: Path, encoder: Any
) -> None:
    fill(place_of(team_address), photos, encoder)
    missing = tmp_path / "none.tar"
    with pytest.raises(LibraryError, match="holds a library already"):
        restore(missing, place_of(team_address), quiet)
    with pytest.raises(LibraryError, match="does not exist"):
        restore(missing, place_of(f"{team_address}_none"), quiet)
    with pytest.raises(LibraryError, match="cannot be reached"):
        restore(missing, place_of("postgresql://postgres@127.0.0.1:9/none"), quiet)


def test_whole_or_not_at_all(
    team_address: str,
    tmp_path: Path,
    photos: Path,
    encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(tmp_path / "folder", photos, encoder)
    with Library.open(tmp_path / "folder") as library:
        back_up(library, tmp_path / "x.tar", quiet)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "go_on_from", stopped)
        with pytest.raises(KeyboardInterrupt):
            restore(tmp_path / "x.tar", place_of(team_address), quiet)
    assert not any(content(place_of(team_address)).values())
    restore(tmp_path / "x.tar", place_of(team_address), quiet)
    with Library.open(place_of(team_address)) as library:
        assert album_names(library) == ["squares"]
