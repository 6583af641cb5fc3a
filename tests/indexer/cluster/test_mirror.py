"""The mirror in Milvus: it proposes, the library stays the truth."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, update

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.ann.synthetic import (
    MODEL,
    PREPROCESSING,
    Synthetic,
    enter_images,
    fill,
    root_of,
)
from rwkvsearch.indexer.blocks import newest_embedding
from rwkvsearch.indexer.cluster import index as index_module
from rwkvsearch.indexer.cluster import kinds
from rwkvsearch.indexer.cluster import mirror as mirror_module
from rwkvsearch.indexer.cluster.index import MilvusIndex
from rwkvsearch.indexer.cluster.kinds import IN_LITE
from rwkvsearch.indexer.cluster.lock import alone
from rwkvsearch.indexer.cluster.mark import read_mark
from rwkvsearch.indexer.cluster.milvus import Collection, Listed
from rwkvsearch.indexer.cluster.mirror import differences, mirror, open_collection
from rwkvsearch.indexer.cluster.narrowing import expression
from rwkvsearch.indexer.doctor.run import Checkup, diagnose, repair
from rwkvsearch.indexer.filters import Box, Filters, images_passing
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.indexer.tables import EmbeddingRow, FileRow, ImageRow, ModelRow

pytestmark = pytest.mark.server
ROWS = 3_000

SetGone = Callable[..., None]


@contextmanager
def opened(library: Library, ann: str) -> Iterator[MilvusIndex]:
    index = MilvusIndex.open(library, MODEL, PREPROCESSING, ann)
    try:
        yield index
    finally:
        index.close()


def bring(library: Library, ann: str) -> tuple[int, int]:
    with library.writer():
        return mirror(library, library.models()[0], ann)


def held(library: Library, ann: str) -> set[int]:
    """The images in the mirror."""
    with open_collection(library, library.models()[0], ann) as collection:
        collection.load()
        return set(collection.listed(0, None).ids.tolist())


def add(library: Library, source: Synthetic, first: int, number: int) -> np.ndarray[Any, Any]:
    new = source.images(number, first)
    enter_images(library, root_of(library), library.models()[0].key, first, new)
    return new


def says(library: Library, ann: str) -> list[tuple[str, str]]:
    report = diagnose(library, Checkup(ann=ann))
    return [(one.state, one.text) for one in report.findings if one.check == "mirror"]


@pytest.mark.parametrize("kind", IN_LITE)
def test_every_kind_gives_the_scores_of_the_truth(
    kind: str, filled: Library, source: Synthetic, ann: str, set_gone: SetGone
) -> None:
    set_gone(filled, range(1, ROWS, 50))
    live = ROWS - len(range(1, ROWS, 50))
    assert bring(filled, f"{ann}?index={kind}") == (live, 0)
    exact = SearchIndex.open(filled, MODEL, PREPROCESSING)
    queries = np.concatenate([source.texts(10), source.images(10, 5)])
    allowed = np.arange(1, ROWS + 1, 3)
    with opened(filled, ann) as index:
        assert index.kind == f"Milvus {kind}" and index.rows == index.size == live
        assert index.ann_recall is not None and index.ann_recall >= 0.9
        for among, k in ((None, 10), (None, 1), (allowed, 10), (allowed[:50], 60), (None, 400)):
            scores, ids = index.search(queries, k, among)
            right_scores, right = exact.search(queries, k, among, exact=True)
            assert scores.shape == right_scores.shape
            same = np.mean([np.isin(a, b).mean() for a, b in zip(right, ids, strict=True)])
            if kind == "AUTOINDEX" and k == 400:
                continue  # in milvus-lite it cannot be asked to be more thorough
            assert same == 1 if index.exact else same >= 0.95
            for at in range(len(queries)):
                known = dict(zip(right[at].tolist(), right_scores[at].tolist(), strict=True))
                for image_id, score in zip(ids[at].tolist(), scores[at].tolist(), strict=True):
                    assert known.get(image_id, score) == score
        found = index.search(queries, 10, exact=True)
        for ours, theirs in zip(found, exact.search(queries, 10, exact=True), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert bring(filled, ann) == (0, 0)
    assert says(filled, ann)[0][0] == "ok"


def test_only_what_differs_is_written(
    filled: Library, source: Synthetic, ann: str, set_gone: SetGone
) -> None:
    assert bring(filled, ann) == (ROWS, 0)
    set_gone(filled, [1, 2])
    new = add(filled, source, ROWS + 1, 5)
    with filled.write() as session:
        session.execute(update(ImageRow).where(ImageRow.id == 7).values(taken_at="1999"))
        session.execute(delete(EmbeddingRow).where(EmbeddingRow.image_id == 8))
        session.execute(delete(EmbeddingRow).where(EmbeddingRow.image_id == 9))
        key = filled.models()[0].key
        data = new[0].astype("<f2").tobytes()
        session.add(EmbeddingRow(image_id=9, model=key, data=data))
    assert bring(filled, ann) == (5 + 2, 3)  # 7 and 9 replaced; 1, 2 and 8 deleted
    assert held(filled, ann) == set(range(1, ROWS + 6)) - {1, 2, 8}
    with opened(filled, ann) as index:
        assert index.search(new[:1], 2)[1].tolist() == [[9, ROWS + 1]]
    assert bring(filled, ann) == (0, 0)


def test_what_changes_after_the_mirror_is_known_at_once(
    filled: Library, source: Synthetic, ann: str, set_gone: SetGone
) -> None:
    set_gone(filled, [5])
    bring(filled, ann)
    five = filled.embeddings_of(filled.models()[0], [5])[1].astype(np.float32)
    new = add(filled, source, ROWS + 1, 1)
    set_gone(filled, [5], False)
    set_gone(filled, [6])
    six = filled.embeddings_of(filled.models()[0], [6])[1].astype(np.float32)
    with opened(filled, ann) as index:
        assert index.search(new, 1)[1][0, 0] == ROWS + 1
        assert index.search(five, 1)[1][0, 0] == 5
        assert 6 not in index.search(six, 100)[1]
        assert index.search(new, 10**6)[1].shape[1] == ROWS
        assert index.search(five, 3, np.array([5, 6, ROWS + 1]))[1].shape == (1, 2)
    told = dict(says(filled, ann))
    assert "2 new, 1 gone since" in told["note"]
    bring(filled, ann)
    assert held(filled, ann) == set(range(1, ROWS + 2)) - {6}


def test_filters_are_pushed_down_and_say_the_same(filled: Library, ann: str) -> None:
    bring(filled, f"{ann}?index=FLAT")
    asked = [
        Filters(after="2010"),
        Filters(before="2009-05"),
        Filters(after="2003", before="2021", min_width=1500),
        Filters(min_height=999, formats=("jpg", "webp")),
        Filters(min_megapixels=4.2, orientation="portrait"),
        Filters(orientation="landscape"),
        Filters(box=Box(-40.5, -100, 60, 100)),
        Filters(box=Box(-10, 100, 80, -100)),
        Filters(box=Box(-90, -180, 90, 180)),
    ]
    with open_collection(filled, filled.models()[0], ann) as collection:
        collection.load()
        for filters in asked:
            wanted, complete = expression(filters, settled=True)
            assert complete
            ((ids, _),) = collection.near(np.ones((1, 24), np.float32), ROWS, {}, wanted)
            with filled.read() as session:
                passing = images_passing(session, filters)
            assert 0 < len(passing) < ROWS
            assert np.sort(ids[ids > 0]).tolist() == passing.tolist()
    told, complete = expression(Filters(after="2010", min_width=7), settled=False)
    assert (told, complete) == ("width >= 7", False)
    assert not expression(Filters(tags=("dog",), min_width=7), settled=True)[1]


@pytest.mark.parametrize("listed", [10**6, 0])
@pytest.mark.parametrize("kind", ["HNSW", "FLAT"])
def test_filters_never_take_hits_away(
    kind: str,
    listed: int,
    filled: Library,
    source: Synthetic,
    ann: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_module, "BRUTE_FORCE", 0)
    monkeypatch.setattr(index_module, "LISTED", listed)
    monkeypatch.setattr(index_module, "THIN", 2 if listed else 0)
    bring(filled, f"{ann}?index={kind}")
    exact = SearchIndex.open(filled, MODEL, PREPROCESSING)
    queries = source.texts(5)
    far = np.sort(exact.search(queries[:1], ROWS, exact=True)[1][0, -40:])
    filters = Filters(after="2010", orientation="landscape")
    with filled.read() as session:
        passing = images_passing(session, filters)
    with opened(filled, ann) as index:
        for among, asked in ((far, None), (passing, filters), (passing, Filters(min_width=1))):
            scores, ids = index.search(queries, 30, among, filters=asked)
            right_scores, right = exact.search(queries, 30, among, exact=True)
            assert ids.shape == right.shape == (5, 30)
            assert np.isin(ids, among).all()
            if kind == "FLAT":
                np.testing.assert_array_equal(ids, right)
                np.testing.assert_array_equal(scores, right_scores)


def test_facts_of_a_later_sync_are_not_asked_of_the_mirror(
    filled: Library, source: Synthetic, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "BRUTE_FORCE", 0)
    monkeypatch.setattr(index_module, "LISTED", 0)
    bring(filled, f"{ann}?index=FLAT")
    with filled.write() as session:
        session.execute(update(ImageRow).values(taken_at="1980-01-01T00:00:00"))
        session.connection().exec_driver_sql("UPDATE roots SET synced_at = synced_at + 1")
    filters = Filters(before="1981")
    with filled.read() as session:
        passing = images_passing(session, filters)
    assert len(passing) == ROWS
    query = source.texts(1)
    right = SearchIndex.open(filled, MODEL, PREPROCESSING).search(query, 10, exact=True)[1]
    with opened(filled, ann) as index:
        np.testing.assert_array_equal(index.search(query, 10, passing, filters=filters)[1], right)


def test_the_kind_of_index(filled: Library, ann: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def kind() -> str | None:
        with opened(filled, ann) as index:
            assert index.ann_recall is not None and index.ann_recall > 0.9
            return index.kind

    bring(filled, ann)
    assert kind() == "Milvus FLAT"
    assert bring(filled, f"{ann}?index=IVF_SQ8") == (0, 0)
    assert kind() == "Milvus IVF_SQ8"
    bring(filled, ann)
    assert kind() == "Milvus IVF_SQ8"
    bring(filled, f"{ann}?index=flat")
    assert kind() == "Milvus FLAT"
    monkeypatch.setattr(kinds, "SMALL", ROWS)
    bring(filled, ann)  # it has outgrown an exact one
    assert kind() == "Milvus HNSW"


def test_many_rows_of_images_that_are_not_there(
    filled: Library, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(filled, ann)
    with filled.write() as session:
        session.execute(delete(EmbeddingRow).where(EmbeddingRow.image_id > 1000))
    monkeypatch.setattr(mirror_module, "MOST", 300)
    with open_collection(filled, filled.models()[0], ann) as collection:
        listed = collection.listed
        monkeypatch.setattr(Collection, "listed", lambda _, *given: _part(listed(*given)))
        nobody = np.empty(0, np.int64)
        collection.load()
        found = differences(filled, filled.models()[0], collection, 10**6, nobody)
        assert sum(len(part.stale) for part in found) == 500  # it ends where nothing is deleted
    monkeypatch.undo()
    assert bring(filled, ann) == (0, ROWS - 1000)


def _part(there: Listed) -> Listed:
    return Listed(there.ids[:300], there.generations[:300], there.stamps[:300])


def test_doctor_finds_and_mends(filled: Library, ann: str) -> None:
    assert says(filled, ann) == [("note", f"none at {ann} yet")]
    bring(filled, ann)
    model = filled.models()[0]

    def spoil(action: Callable[[Any], Any]) -> list[tuple[str, str]]:
        with open_collection(filled, model, ann) as collection:
            action(collection)
        found = says(filled, ann)
        assert found[0][0] == "fault"
        report = repair(filled, Checkup(ann=ann))
        assert not report.failed
        assert [one.state for one in report.findings if one.check == "mirror"] == ["ok"]
        assert held(filled, ann) == set(range(1, ROWS + 1))
        return found

    def entered(collection: Any, **others: Any) -> None:
        row = {"id": 3, "generation": 3, "stamp": 1, "width": 1, "height": 1, "pixels": 1}
        row |= {"turned": 0, "format": "", "taken_at": "", "latitude": 0.0, "longitude": 0.0}
        row |= {"embedding": np.ones(24, np.float32)}
        collection.upsert([row | others])

    lost = spoil(lambda collection: collection.delete(np.array([1, 2, 3])))
    assert "3 images not in it" in lost[0][1]
    assert "1 image in it not as" in spoil(entered)[0][1]

    def enter_some(collection: Any) -> None:
        for image_id in (10**6, ROWS + 1, 10**12):
            entered(collection, id=image_id)

    assert "3 images in it that" in spoil(enter_some)[0][1]
    assert "not there" in spoil(lambda collection: collection.drop())[0][1]

    def swap(collection: Any) -> None:
        collection.load()
        stamps = collection.listed(0, None)
        for at in range(0, ROWS, 3):
            stamp = int(stamps.stamps[at])
            entered(collection, id=at + 1, generation=at + 1, stamp=stamp)

    assert "not as in the library" in spoil(swap)[0][1]


def test_an_older_state_of_the_mirror_is_noticed(filled: Library, ann: str) -> None:
    from rwkvsearch.indexer.cluster.milvus import Signature

    bring(filled, ann)
    with open_collection(filled, filled.models()[0], ann) as collection:
        collection.load()
        there = collection.signature()
        assert there is not None
        collection.sign(Signature(there.owner, there.state - 1), 24)
    with pytest.raises(LibraryError, match="not the mirror that was made last: bring it up"):
        MilvusIndex.open(filled, MODEL, PREPROCESSING, ann)
    assert "not the mirror" in says(filled, ann)[0][1]
    assert bring(filled, ann) == (0, 0)
    with opened(filled, ann) as index:
        assert index.rows == ROWS


def test_collections_of_others_are_left_alone(
    filled: Library, source: Synthetic, serve: Callable[..., Any], tmp_path: Path
) -> None:
    from pymilvus import MilvusClient

    server = serve()
    bring(filled, f"{server.ann}/photos")
    with Library.create(tmp_path / "other") as other, Library.create(tmp_path / "small") as small:
        fill(other, source, 10)
        fill(small, Synthetic(8, clusters=3), 10)
        for library, why in ((other, "another library or model"), (small, "24 numbers")):
            for attempt in (
                bring,
                lambda *args: MilvusIndex.open(args[0], MODEL, PREPROCESSING, args[1]),
            ):
                with pytest.raises(LibraryError) as error:
                    attempt(library, f"{server.ann}/photos")
                assert "\n" not in str(error.value)
            with pytest.raises(LibraryError, match=why):
                bring(library, f"{server.ann}/photos?index=FLAT")
            bring(library, server.ann)  # each has one of its own
            assert held(library, server.ann) == set(range(1, 11))
    client = MilvusClient(f"http://127.0.0.1:{server.port}")
    client.create_collection("theirs", dimension=24)
    client.insert("theirs", {"id": 1, "vector": [0.0] * 24})
    with pytest.raises(LibraryError, match="rwkvsearch did not make"):
        bring(filled, f"{server.ann}/theirs")
    assert client.query("theirs", filter="", output_fields=["count(*)"])[0]["count(*)"] == 1
    client.close()
    with opened(filled, f"{server.ann}/photos") as index:
        assert index.kind == "Milvus FLAT" and index.rows == ROWS
    assert held(filled, f"{server.ann}/photos") == set(range(1, ROWS + 1))


def test_a_model_has_a_collection_of_its_own(filled: Library, source: Synthetic, ann: str) -> None:
    bring(filled, ann)
    with filled.write() as session:
        session.add(
            ModelRow(
                model_id="second", preprocessing_id="none", dim=24, weights_sha256="", created_at=0
            )
        )
        session.flush()
        for number, row in enumerate(source.images(10).astype("<f2"), 1):
            session.add(EmbeddingRow(image_id=number, model=2, data=row.tobytes()))
    second = filled.model("second", "none")
    with filled.writer():
        assert mirror(filled, second, ann) == (10, 0)
    assert held(filled, ann) == set(range(1, ROWS + 1))
    assert len(says(filled, ann)) == 2


def test_without_the_right_token(
    filled: Library, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve("root:right")
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    with pytest.raises(LibraryError, match="none is in") as error:
        bring(filled, server.ann)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("MILVUS_TOKEN", "root:wrong")
    with pytest.raises(LibraryError, match="does not accept the token") as error:
        bring(filled, server.ann)
    assert "wrong" not in str(error.value)
    monkeypatch.setenv("MILVUS_TOKEN", "root:right")
    assert bring(filled, server.ann) == (ROWS, 0)


def test_nobody_answers(filled: Library, serve: Callable[..., Any], source: Synthetic) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(LibraryError, match="no Milvus answers at milvus://127.0.0.1"):
            bring(filled, f"milvus://127.0.0.1:{taken.getsockname()[1]}")
    server = serve()
    bring(filled, server.ann)
    with opened(filled, server.ann) as index:
        before = index.search(source.texts(1), 10)[1]
        index._collection._client.release_collection(index._collection.collection)
        np.testing.assert_array_equal(index.search(source.texts(1), 10)[1], before)
        server.stop()
        with pytest.raises(LibraryError, match="no Milvus answers"):
            index.search(source.texts(1), 10)


def test_what_cannot_be_opened(filled: Library, tmp_path: Path, ann: str) -> None:
    with pytest.raises(LibraryError, match="there is no folder"):
        bring(filled, f"milvus://{tmp_path}/none/c.db")
    (tmp_path / "file.db").write_text("no database")
    with pytest.raises(LibraryError, match="no database"):
        bring(filled, f"milvus://{tmp_path}/file.db")
    with pytest.raises(LibraryError, match="milvus-lite has no DISKANN"):
        bring(filled, f"{ann}?index=DISKANN")
    with pytest.raises(LibraryError, match="no mirror of this library yet"):
        MilvusIndex.open(filled, MODEL, PREPROCESSING, ann)


_CHILD = """
import sys
from pathlib import Path
from rwkvsearch.indexer.cluster import mirror as module
from rwkvsearch.indexer.library import Library
module.BATCH = module.MOST = 100
with Library.open(Path(sys.argv[1])) as library, library.writer():
    module.mirror(library, library.models()[0], sys.argv[2], lambda *done: print(*done, flush=True))
"""


def test_killed_in_the_middle_it_goes_on(
    filled: Library, source: Synthetic, ann: str, set_gone: SetGone
) -> None:
    bring(filled, ann)
    set_gone(filled, range(1, 200))
    add(filled, source, ROWS + 1, 1500)
    command = [sys.executable, "-c", _CHILD, str(filled.path), ann]
    for lines in (1, 20, 34):  # within what goes, before and within what is new
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(lines):
                assert child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
        queries = source.images(20, 3)
        right = SearchIndex.open(filled, MODEL, PREPROCESSING).search(queries, 10, exact=True)[1]
        with opened(filled, ann) as index:  # as it was left
            found = index.search(queries, 10)[1]
            assert np.mean([np.isin(a, b).mean() for a, b in zip(right, found, strict=True)]) > 0.9
        set_gone(filled, [1 + lines], False)  # one that was deleted comes back
        back = filled.embeddings_of(filled.models()[0], [1 + lines])[1].astype(np.float32)
        with opened(filled, ann) as index:
            assert index.search(back, 1)[1][0, 0] == 1 + lines
        set_gone(filled, [1 + lines])
    written, _ = bring(filled, ann)
    assert 0 < written < 1500
    assert held(filled, ann) == set(range(200, ROWS + 1501))
    model = filled.models()[0]
    with filled.read() as session, open_collection(filled, model, ann) as collection:
        collection.load()
        mark = read_mark(session, model, collection.target)
        newest = newest_embedding(session, model)
        assert (mark.upto, mark.rows) == (newest, ROWS + 1500 - 199)
        for part in differences(filled, model, collection, newest, mark.left_out_ids):
            assert not len(part.wanted) and not len(part.stale)


def test_a_file_is_of_one_process(filled: Library, ann: str) -> None:
    bring(filled, ann)
    with opened(filled, ann), opened(filled, ann):  # of this one
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, str(filled.path), ann], capture_output=True, text=True
        )
    assert "another process has it open" in child.stderr.splitlines()[-1]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(filled.path), ann], capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr


def test_files_that_are_forgotten(filled: Library, ann: str, source: Synthetic) -> None:
    """The number of an image may be given to another one."""
    bring(filled, ann)
    with filled.write() as session:
        for row in (FileRow, EmbeddingRow):
            session.execute(delete(row).where(row.image_id == ROWS))
        session.execute(delete(ImageRow).where(ImageRow.id == ROWS))
    new = add(filled, source, ROWS, 1)
    with opened(filled, ann) as index:
        assert index.search(new, 1)[1][0, 0] == ROWS
    assert bring(filled, ann) == (1, 0)
    with opened(filled, ann) as index:
        assert index.search(new, 1)[1][0, 0] == ROWS


def test_a_team_library(team_address: str, source: Synthetic, ann: str, set_gone: SetGone) -> None:
    with Library.create(place_of(team_address)) as team:
        fill(team, source, 500, 10)
        set_gone(team, [1, 2])
        assert bring(team, ann) == (498, 0)
        exact = SearchIndex.open(team, MODEL, PREPROCESSING)
        queries = source.texts(5)
        with opened(team, ann) as index:
            for among in (None, np.arange(1, 400)):
                right = exact.search(queries, 10, among, exact=True)
                for ours, theirs in zip(index.search(queries, 10, among), right, strict=True):
                    np.testing.assert_array_equal(ours, theirs)
        with team.writer([Path("/somewhere")]):  # another folder is being synced
            assert mirror(team, team.models()[0], ann) == (0, 0)
        new = add(team, source, 501, 1)
        with opened(team, ann) as index:
            assert index.search(new, 1)[1][0, 0] == 501
        with alone(team), Library.open(place_of(team_address)) as again:
            with pytest.raises(LibraryBusy, match="up to date already"):
                mirror(again, again.models()[0], ann)
        assert bring(team, ann) == (1, 0)
