"""`tune` measures what it says, keeps its choice, and waits for nobody."""

import fcntl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.ann.kinds import Kind
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import MODEL, PREPROCESSING, Synthetic, fill
from rwkvsearch.indexer.ann.tune import Measured, best_of_measured, choose_model, left_by_tune, tune
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.search import SearchIndex
from rwkvsearch.indexer.tables import GenerationRow

DIM, ROWS, TEXTS = 32, 1500, 20


@pytest.fixture
def model(library: Library) -> ModelInfo:
    return fill(library, Synthetic(DIM, clusters=30), ROWS, TEXTS)


def test_the_choice_is_measured_published_and_kept(library: Library, model: ModelInfo) -> None:
    said: list[str] = []
    kinds = [Kind("SQ8"), Kind("IVF,SQ8"), Kind("RaBitQ")]
    found = tune(library, model, queries=30, kinds=kinds, target=0.9, progress=said.append)
    assert said == ["the exact answers", "SQ8", "IVF155,SQ8", "RaBitQ"]
    assert [one.kind for one in found.measured] == ["SQ8", "IVF,SQ8", "RaBitQ"]
    assert (found.rows, found.queries, found.texts, found.k) == (ROWS, 30, TEXTS, 10)
    for one in found.measured:
        assert 0 <= one.images <= 1
        assert one.texts is not None
        assert 0 < one.p50 <= one.p99
        assert one.seconds > 0
    eight, ivf, one_bit = found.measured
    assert eight.recall > 0.99
    assert one_bit.bytes_per_vector < eight.bytes_per_vector < ivf.bytes_per_vector
    assert eight.bytes_per_vector == pytest.approx(DIM + 8, rel=0.05)
    chosen = next(one for one in found.measured if one.kind == found.chosen)
    assert chosen == min((one for one in found.measured if one.recall >= 0.9), key=lambda m: m.p50)

    index = SearchIndex.open(library, MODEL, PREPROCESSING)
    assert (index.kind, index.ann_recall) == (chosen.factory, chosen.recall)
    assert index._published is not None
    assert index._published.search == chosen.search
    publish(library, model, force=True)
    assert SearchIndex.open(library, MODEL, PREPROCESSING).kind == chosen.factory
    assert sorted(path.name for path in library.path.iterdir() if path.is_dir()) == ["ann"]
    with library.read() as session:
        assert len(session.scalars(select(GenerationRow)).all()) == 1


def test_small_libraries_stay_exact(library: Library, model: ModelInfo) -> None:
    found = tune(library, model, queries=10)
    assert len(found.measured) == 8
    assert found.chosen == "SQfp16"
    assert "exact" in found.why
    assert SearchIndex.open(library, MODEL, PREPROCESSING).exact


def test_the_rule() -> None:
    one = Measured("SQfp16", "SQfp16", {}, 1.0, 1.0, None, 5.0, 6.0, 1280)
    fast = replace(one, kind="IVF,SQ8", images=0.995, texts=0.98, p50=0.5)
    slow = replace(one, kind="RaBitQ", images=0.999, texts=0.995, p50=2.0)
    assert best_of_measured([one, fast, slow], 0.99)[0] is slow  # texts count too
    assert best_of_measured([one, fast, slow], 0.97)[0] is fast
    assert best_of_measured([one, fast, slow], 0.97, only_exact=True)[0] is one
    closest, why = best_of_measured([fast, slow], 0.999)
    assert closest is slow
    assert "none reaches" in why


def test_a_writer_and_another_tune_are_named(library: Library, model: ModelInfo) -> None:
    with library.writer(), pytest.raises(LibraryError, match="another rwkvsearch is indexing"):
        tune(library, model, queries=5, kinds=[Kind("SQ8")])
    assert not (library.path / "tune").exists()
    (library.path / "tune").mkdir()
    left = library.path / "tune" / "7.faiss"  # of a killed one
    empty = library.stats().bytes_on_disk
    left.write_bytes(b"x" * 1000)
    assert library.stats().bytes_on_disk == empty + 1000
    with (library.path / "tune" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert left_by_tune(library) == []
        with pytest.raises(LibraryError, match="another rwkvsearch tune is at work"):
            tune(library, model, queries=5, kinds=[Kind("SQ8")])
    assert left_by_tune(library) == [left]
    tune(library, model, queries=5, kinds=[Kind("SQ8")])
    assert not (library.path / "tune").exists()


def test_models_by_name(library: Library, model: ModelInfo, tmp_path: Path) -> None:
    assert choose_model(library, None) == choose_model(library, "synth") == model
    with pytest.raises(LibraryError, match="indexed with synthetic, not with other"):
        choose_model(library, "other")
    with Library.create(tmp_path / "empty") as empty:
        with pytest.raises(LibraryError, match="is empty; fill it with"):
            choose_model(empty, None)


def test_pictures(
    library: Library, encoder: Any, tmp_path: Path, paint: Callable[[Path, int], Path]
) -> None:
    from rwkvsearch.indexer.sync import sync

    for seed in range(3):
        paint(tmp_path / "photos" / f"{seed}.png", seed)
    sync(library, [tmp_path / "photos"], encoder)
    found = tune(library, choose_model(library, None))
    assert (found.rows, found.queries, found.texts) == (3, 3, 0)
    assert found.measured[0].texts is None
    assert found.chosen == "SQfp16"
    with pytest.raises(LibraryError, match="IVF64,SQ8 needs at least 64 pictures, not 3"):
        tune(library, choose_model(library, None), kinds=[Kind("IVF64,SQ8")])
