"""PostgreSQL answers what FAISS answers: the same scores and images, value by value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, text

from rwkvsearch.indexer.address import place_of
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import MODEL, PREPROCESSING, Synthetic, fill
from rwkvsearch.indexer.copying import copy_library
from rwkvsearch.indexer.edit import forget
from rwkvsearch.indexer.indexes import open_index
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import ImageIndex
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tables import FileRow, GenerationRow
from rwkvsearch.indexer.team import proposals, search
from rwkvsearch.indexer.team import publish as team_publish
from rwkvsearch.indexer.team.publish import index_name

pytestmark = pytest.mark.server
ROWS, DIM = 3000, 64


@pytest.fixture
def both(tmp_path: Path, team_address: str) -> Iterator[tuple[Library, Library]]:
    """The same 3,000 images in a folder and in PostgreSQL."""
    with Library.create(tmp_path / "ours") as ours:
        fill(ours, Synthetic(DIM, clusters=50), ROWS, texts=200)
        publish(ours, ours.models()[0])
        copy_library(ours, place_of(team_address))
        with Library.open(place_of(team_address)) as theirs:
            yield ours, theirs


def queries(number: int = 20) -> np.ndarray:
    return Synthetic(DIM, clusters=50).texts(number, 7)


def opened(library: Library) -> ImageIndex:
    return open_index(library, MODEL, PREPROCESSING)


def assert_same(one: ImageIndex, other: ImageIndex, among: np.ndarray | None = None) -> None:
    for k in (1, 10, 300):
        scores, ids = one.search(queries(), k, among)
        theirs, their_ids = other.search(queries(), k, among)
        np.testing.assert_array_equal(scores, theirs)
        np.testing.assert_array_equal(ids, their_ids)


def test_exact_where_nothing_was_built(both: tuple[Library, Library]) -> None:
    ours, theirs = map(opened, both)
    assert theirs.kind is None and theirs.exact and theirs.ann_recall == 1.0
    assert (theirs.size, theirs.rows) == (ours.size, ours.rows) == (ROWS, ROWS)
    assert_same(ours, theirs)


@pytest.mark.parametrize("number", [0, 3, 700, 2900])
def test_only_what_a_filter_leaves(both: tuple[Library, Library], number: int) -> None:
    among = np.random.default_rng(1).permutation(np.arange(1, ROWS + 1))[:number]
    assert_same(*map(opened, both), among)


def test_what_has_gone_is_not_found(both: tuple[Library, Library]) -> None:
    first = opened(both[0]).search(queries(1), 50)[1][0]
    for library in both:
        with library.write() as session:
            session.execute(delete(FileRow).where(FileRow.image_id.in_(first.tolist())))
    ours, theirs = map(opened, both)
    assert not set(theirs.search(queries(1), 50)[1][0]) & set(first)
    assert_same(ours, theirs)


def test_the_index_finds_nearly_all_and_scores_are_exact(
    both: tuple[Library, Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_FEW", 100)
    team = both[1]
    publish(team, team.models()[0], force=True)
    index = opened(team)
    assert index.kind == "HNSW16" and not index.exact
    assert index.ann_recall is not None and index.ann_recall >= 0.99
    assert [one.kind for one in team.stats().anns] == ["HNSW16"]
    right = opened(both[0])
    for among in (None, np.arange(1, ROWS + 1, 2), np.arange(1, ROWS + 1, 9)):
        scores, ids = right.search(queries(50), 10, among)
        theirs, their_ids = index.search(queries(50), 10, among)
        assert theirs.shape == (50, 10)
        found = [np.isin(a, b).mean() for a, b in zip(ids, their_ids, strict=True)]
        assert np.mean(found) >= 0.97
        known = np.isin(their_ids, ids)
        assert np.isin(theirs[known], scores).all()
        np.testing.assert_array_equal(index.search(queries(50), 10, among, exact=True)[0], scores)


def test_the_index_is_used(both: tuple[Library, Library]) -> None:
    team = both[1]
    model = team.models()[0]
    publish(team, model, force=True)
    with team.read() as session:
        proposals.by_index(session, model, queries(1)[0], 50, 100, np.arange(1, 900))
        proposals.by_looking(session, model, queries(1)[0], 50, None)
    with team.write() as session:
        session.execute(text("SELECT pg_stat_force_next_flush()"))
    with team.read() as session:
        asked = text("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = :name")
        assert session.scalar(asked, {"name": index_name(model)}) >= 1


def test_a_build_says_how_far_it_is(
    both: tuple[Library, Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(team_publish, "_LOOK_EVERY", 0.001)
    told: list[tuple[int, int]] = []
    team = both[1]
    publish(team, team.models()[0], force=True, progress=lambda *step: told.append(step))
    assert told and told == sorted(told) and {total for _, total in told} == {ROWS}


def test_an_index_that_was_not_finished_is_not_used(both: tuple[Library, Library]) -> None:
    team = both[1]
    model = team.models()[0]
    publish(team, model, force=True)
    with team.write() as session:
        session.execute(text(f"DROP INDEX {index_name(model)}"))
    assert opened(team).kind is None
    publish(team, model, force=True)
    with team.write() as session:
        session.execute(delete(GenerationRow))
    assert opened(team).exact


def test_many_equal_scores_are_all_compared(team_address: str, tmp_path: Path) -> None:
    class Alike(Synthetic):
        def images(self, number: int, part: int = 0) -> np.ndarray:
            return np.repeat(super().images(1), number, axis=0)

    with Library.create(place_of(team_address)) as team:
        fill(team, Alike(DIM), 500)
        scores, ids = opened(team).search(Synthetic(DIM).texts(1), 10)
        assert ids[0].tolist() == list(range(1, 11)) and len(set(scores[0].tolist())) == 1


def test_what_was_forgotten_leaves_the_index(team_address: str, photos: Path, encoder: Any) -> None:
    with Library.create(place_of(team_address)) as team:
        sync(team, [photos], encoder)
        publish(team, team.models()[0], force=True)
        forget(team, photos / "a")
        index = open_index(team, "fake", "fake-8")
        assert index.kind == "HNSW16"
        ids, embeddings = team.embeddings("fake", "fake-8")
        found = index.search(embeddings[:1].astype(np.float32), 10)[1][0]
        assert sorted(found.tolist()) == ids.tolist() and len(ids) == 5
