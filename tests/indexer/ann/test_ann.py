"""Every kind of ann: what it finds, when it is built again, and that nothing waits for it."""

import logging
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sqlalchemy import select, update

from rwkvsearch.data.errors import LibraryError, QueryError
from rwkvsearch.indexer.ann import gpu, kinds
from rwkvsearch.indexer.ann import publish as publishing
from rwkvsearch.indexer.ann.build import build, make_trial, thorough_enough
from rwkvsearch.indexer.ann.file import AnnFile
from rwkvsearch.indexer.ann.generation import open_generation
from rwkvsearch.indexer.ann.kinds import Kind, cells, choose_kind, default_kind, kind_for
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.ann.synthetic import (
    MODEL,
    PREPROCESSING,
    Synthetic,
    enter_images,
    fill,
    root_of,
)
from rwkvsearch.indexer.blocks import Ids, blocks
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.scoring import rescore
from rwkvsearch.indexer.search import BRUTE_FORCE, SearchIndex
from rwkvsearch.indexer.tables import FileRow, GenerationRow

DIM, ROWS = 32, 2000
SOURCE = Synthetic(DIM, clusters=60)
QUERIES = np.concatenate([SOURCE.images(10, 2**30), SOURCE.texts(10)])
KINDS = ["SQ8", "RaBitQ", "RaBitQ,Refine(SQfp16)", "HNSW32,SQ8", "IVF,SQ8", "IVF64,SQ8", "Flat"]


def new_library(path: Path, kind: str, rows: int = ROWS) -> tuple[Library, ModelInfo]:
    library = Library.create(path)
    model = fill(library, SOURCE, rows)
    with library.write() as session:
        choose_kind(session, model, Kind.parse(kind))
    publish(library, model)
    return library, model


def add_images(library: Library, model: ModelInfo, first: int, number: int) -> None:
    enter_images(library, root_of(library), model.key, first, SOURCE.images(number, first + 1))


def mark(library: Library, image_ids: Any, gone_at: float | None) -> None:
    with library.write() as session:
        for image_id in image_ids:
            session.execute(
                update(FileRow).where(FileRow.image_id == int(image_id)).values(gone_at=gone_at)
            )


def generation(library: Library) -> tuple[int, int, str, float | None]:
    with library.read() as session:
        row = session.scalars(select(GenerationRow)).one()
        return row.id, row.rows, row.kind, row.ann_recall


def open_index(library: Library) -> SearchIndex:
    return SearchIndex.open(library, MODEL, PREPROCESSING)


def brute_force(
    library: Library, query: NDArray[np.float32], k: int, among: Ids | None = None
) -> tuple[NDArray[np.float32], Ids]:
    return best_in(library.embeddings(MODEL, PREPROCESSING), query, k, among)


def best_in(
    truth: tuple[Ids, NDArray[np.float16]],
    query: NDArray[np.float32],
    k: int,
    among: Ids | None = None,
) -> tuple[NDArray[np.float32], Ids]:
    ids, embeddings = truth
    wanted = np.isin(ids, among) if among is not None else np.ones(len(ids), np.bool_)
    scores, ids = rescore(query, embeddings)[wanted], ids[wanted]
    best = np.lexsort((ids, -scores))[:k]
    return scores[best], ids[best]


def check_scores(library: Library, index: SearchIndex, k: int, among: Ids | None = None) -> float:
    """Compare with brute force: all but the choice must be right. Return the share found."""
    truth, shares = library.embeddings(MODEL, PREPROCESSING), []
    scores, ids = index.search(QUERIES, k, among)
    for query, found, given_scores in zip(QUERIES, ids, scores, strict=True):
        all_scores, all_ids = best_in(truth, query, 10**9, among)
        assert len(set(found)) == len(found) == min(k, len(all_ids))
        right = dict(zip(all_ids, all_scores, strict=True))
        assert [right[image_id] for image_id in found] == given_scores.tolist()
        order = list(zip(-given_scores, found, strict=True))
        assert order == sorted(order)
        shares.append(np.isin(all_ids[:k], found).mean())
    return float(np.mean(shares))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind(kind: str, tmp_path: Path) -> None:
    library, _ = new_library(tmp_path / "library", kind)
    with library:
        mark(library, range(1, ROWS, 7), 1.0)
        add_images(library, library.models()[0], ROWS + 1, 50)
        index = open_index(library)
        assert index.kind == kind.replace("IVF,", f"IVF{cells(ROWS)},")
        assert not index.exact
        assert index.ann_recall == generation(library)[3]
        assert index.rows == ROWS + 50 - len(range(1, ROWS, 7))
        for k in (1, 10, 100):
            assert check_scores(library, index, k) >= 0.9
        assert check_scores(library, index, ROWS + 100) == 1.0
        some = np.arange(ROWS // 3, ROWS)
        assert len(some) > BRUTE_FORCE
        assert check_scores(library, index, 10, some) >= 0.9
        assert check_scores(library, index, 10, some[:500]) == 1.0
        scores, ids = index.search(QUERIES, 10, exact=True)
        for row, query in enumerate(QUERIES):
            right_scores, right_ids = brute_force(library, query, 10)
            np.testing.assert_array_equal(scores[row], right_scores)
            np.testing.assert_array_equal(ids[row], right_ids)


@pytest.mark.parametrize("texts", [0, 50])
def test_without_texts_to_measure_with_it_is_more_thorough(tmp_path: Path, texts: int) -> None:
    kind = Kind("RaBitQ,Refine(SQfp16)")
    with Library.create(tmp_path) as library:
        model = fill(library, SOURCE, ROWS, texts)
        trial = make_trial(library, model, ROWS, 30, 10)
        assert trial.texts == min(texts, 30)
        file = AnnFile(build(library, model, kind.name, ROWS, live=True), kind.name)
        found = thorough_enough(file, trial, kind, target=0.0)
    assert found.search == kind.searches()[0 if texts else -1]


@pytest.fixture(scope="module", params=["SQfp16", "IVF,SQ8", "HNSW32,SQ8"])
def worn(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A library with images that have gone, one whole cluster too, and some that are new."""
    library, model = new_library(tmp_path_factory.mktemp("worn") / "library", request.param)
    with library:
        best = open_index(library).search(QUERIES[:1], 60)[1][0]
        mark(library, {*best.tolist(), *range(1, ROWS, 9)}, 1.0)
        add_images(library, model, ROWS + 1, 40)
        yield library


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(0, ROWS + 40),
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(0, 60),
    query=st.integers(0, len(QUERIES) - 1),
)
def test_filters_against_brute_force(
    worn: Library, size: int, seed: int, k: int, query: int
) -> None:
    index = open_index(worn)
    among = np.random.default_rng(seed).permutation(ROWS + 100)[:size]
    one = QUERIES[query]
    exact_scores, exact_ids = brute_force(worn, one, k, among)
    for exact in (False, True):
        scores, ids = index.search(one[None], k, among, exact=exact)
        assert ids.shape == (1, len(exact_ids))  # k results whenever k exist
        if exact or index.exact or size <= BRUTE_FORCE:
            np.testing.assert_array_equal(ids[0], exact_ids)
            np.testing.assert_array_equal(scores[0], exact_scores)
        else:
            truth = dict(zip(*brute_force(worn, one, 10**9, among)[::-1], strict=True))
            assert [truth[image_id] for image_id in ids[0]] == scores[0].tolist()


def test_a_filter_far_from_the_query(tmp_path: Path) -> None:
    """Where the nearest cells hold nothing that is allowed, the others are searched."""
    library, _ = new_library(tmp_path / "library", "IVF,SQ8")
    with library:
        index = open_index(library)
        far = brute_force(library, QUERIES[0], ROWS)[1][-1100:]
        scores, ids = index.search(QUERIES[:1], 10, far)
        assert np.isin(ids[0], brute_force(library, QUERIES[0], 10, far)[1]).mean() >= 0.8
        assert scores[0, -1] > -1


def test_queries_of_no_kind() -> None:
    for wrong in ("PQ16", "IVF,PQ8", "RaBitQfs", "", "IVF,SQ8,Refine(PQ4)"):
        with pytest.raises(QueryError, match="no kind of ann that rwkvsearch knows; it knows SQf"):
            Kind.parse(wrong)


def test_defaults_by_size() -> None:
    sizes = (1, 19_999, 20_000, 999_999, 1_000_000)
    assert [default_kind(rows).factory(rows) for rows in sizes] == [
        "SQfp16",
        "SQfp16",
        "RaBitQ,Refine(SQfp16)",
        "RaBitQ,Refine(SQfp16)",
        "IVF4000,SQ8",
    ]
    assert Kind("IVF,SQ8").made("IVF4000,SQ8", 1_400_000)
    assert not Kind("IVF,SQ8").made("IVF4000,SQ8", 4_000_000)
    assert not Kind("IVF,SQ8").made("IVF4000,RaBitQ", 1_000_000)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as few is 100 rows, what counts as small 1000."""
    monkeypatch.setattr(kinds, "_FEW", 100)
    monkeypatch.setattr(kinds, "SMALL", 1000)


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("kind", ["IVF,SQ8", "RaBitQ,Refine(SQfp16)"])
def test_few_new_images_wait_and_many_are_taken_in(kind: str, tmp_path: Path) -> None:
    library, model = new_library(tmp_path / "library", kind)
    with library:
        first = generation(library)
        assert first[:2] == (1, ROWS)
        add_images(library, model, ROWS + 1, 100)
        publish(library, model)
        assert generation(library) == first
        assert check_scores(library, open_index(library), 10) >= 0.9
        add_images(library, model, ROWS + 101, 1)
        publish(library, model)
        number, rows, factory, recall = generation(library)
        assert (number, rows, factory) == (2, ROWS + 101, first[2])
        if kind.startswith("IVF"):  # grown, not built again
            assert recall == first[3]
        index = open_index(library)
        assert len(index._fresh) == 0
        assert check_scores(library, index, 10) >= 0.9
        last = SOURCE.images(1, ROWS + 102)
        assert index.search(last, 1)[1].tolist() == [[ROWS + 101]]


@pytest.mark.usefixtures("small_limits")
def test_many_dead_are_left_out_and_found_when_they_return(tmp_path: Path) -> None:
    library, model = new_library(tmp_path / "library", "IVF,SQ8")
    with library:
        dead = np.arange(1, ROWS // 5 + 1)
        mark(library, dead, 1.0)
        publish(library, model)
        assert generation(library)[:2] == (1, ROWS)  # 20 %, not more
        mark(library, [ROWS // 5 + 1], 1.0)
        publish(library, model)
        assert generation(library)[:2] == (2, ROWS - 401)
        assert check_scores(library, open_index(library), 10) >= 0.9
        mark(library, dead[:50], None)
        publish(library, model)
        assert generation(library)[:2] == (2, ROWS - 401)
        index = open_index(library)
        assert index.rows == ROWS - 351
        assert check_scores(library, index, 10) >= 0.9
        ids, embeddings = library.embeddings_of(model, [7])
        assert index.search(embeddings.astype(np.float32), 1)[1].tolist() == [[7]]
        mark(library, dead[50:300], None)
        publish(library, model)
        assert generation(library)[:2] == (3, ROWS - 101)  # grown by those that are back
        found = open_generation(library, model)
        assert found is not None
        assert found.left_out.tolist() == list(range(301, 402))
        assert check_scores(library, open_index(library), 10) >= 0.9


def test_a_default_that_misses_its_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "SMALL", 1000)
    monkeypatch.setattr(publishing, "TARGET", 1.01)
    with Library.create(tmp_path / "library") as library:
        model = fill(library, SOURCE, ROWS)
        publish(library, model)
        assert generation(library) == (1, ROWS, "SQfp16", 1.0)
        publish(library, model)
        assert generation(library)[0] == 1
        with library.read() as session:
            assert kind_for(session, model, ROWS) == Kind("SQfp16")
            assert kind_for(session, model, 2_000_000) == Kind("IVF,SQ8")


def test_another_kind_or_force_builds_again(tmp_path: Path) -> None:
    library, model = new_library(tmp_path / "library", "SQ8")
    with library:
        publish(library, model)
        assert generation(library)[0] == 1
        publish(library, model, force=True)
        assert generation(library)[0] == 2
        with library.write() as session:
            choose_kind(session, model, Kind("SQfp16"))
        publish(library, model)
        assert generation(library) == (3, ROWS, "SQfp16", 1.0)
        assert open_index(library).exact


def test_publishing_in_a_thread_while_others_write_and_read(tmp_path: Path) -> None:
    library, model = new_library(tmp_path / "library", "IVF,SQ8")
    with library:
        add_images(library, model, ROWS + 1, 10)
        thread = threading.Thread(target=publish, args=(library, model), kwargs={"force": True})
        thread.start()
        written = 0
        while thread.is_alive():
            add_images(library, model, ROWS + 11 + written, 1)
            written += 1
            assert open_index(library).search(QUERIES, 5)[1].shape == (len(QUERIES), 5)
        thread.join()
        assert written > 0
        assert generation(library)[0] == 2
        index = open_index(library)
        assert index.rows == ROWS + 10 + written
        assert check_scores(library, index, 10) >= 0.9


CHILD = """
import sys
from pathlib import Path
from rwkvsearch.indexer.ann.publish import publish
from rwkvsearch.indexer.library import Library

with Library.open(Path(sys.argv[1])) as library, library.writer():
    print("ready", flush=True)
    while True:
        publish(library, library.models()[0], force=True)
"""


def test_killed_while_publishing(tmp_path: Path) -> None:
    library, model = new_library(tmp_path / "library", "IVF,SQ8")
    rng = np.random.default_rng(0)
    with library:
        for _ in range(3):
            before = generation(library)[0]
            child = subprocess.Popen(
                [sys.executable, "-c", CHILD, library.path], stdout=subprocess.PIPE, text=True
            )
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(rng.uniform(0.05, 0.5))
            child.send_signal(signal.SIGKILL)
            child.communicate()
            assert generation(library)[0] >= before
            index = open_index(library)
            assert index._published is not None
            assert len(index._fresh) == 0
            assert check_scores(library, index, 10) >= 0.9
        with library.writer():  # the lock went with the process
            publish(library, model, force=True)
        assert len(list((library.path / "ann").iterdir())) == 1


def test_no_space_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, model = new_library(tmp_path / "library", "IVF,SQ8")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with library:
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", refuse)
            with pytest.raises(LibraryError, match="No space left on device; everything indexed"):
                publish(library, model, force=True)
        assert generation(library)[0] == 1
        assert len(list((library.path / "ann").iterdir())) == 1
        assert open_index(library)._published is not None


def test_reading_takes_a_block_of_memory(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwkvsearch.indexer.blocks.BLOCK", 500)
    model = fill(library, SOURCE, 10_000)
    for _ in blocks(library, model, upto=1, live=True):
        pass
    tracemalloc.start()
    try:
        rows = sum(len(ids) for ids, _ in blocks(library, model, live=True))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 10_000
    assert peak < 1500 * (2 * DIM + 400)  # bytes: three blocks, as rows of Python


class FakeGpu:
    """A faiss that says it has a GPU."""

    def __init__(self, real: Any, fails: bool) -> None:
        self.real, self.fails, self.copied = real, fails, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_num_gpus(self) -> int:
        return 1

    def index_cpu_to_all_gpus(self, index: Any) -> Any:
        self.copied += 1
        if self.fails:
            raise RuntimeError("no kernel image is available\n for execution on the device")
        return self.real.clone_index(index)


@pytest.mark.parametrize("fails", [False, True])
def test_a_gpu_is_tried_once(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeGpu(__import__("faiss"), fails)
    monkeypatch.setattr(gpu, "import_faiss", lambda: fake)
    gpu._say_once.cache_clear()
    caplog.set_level(logging.INFO)
    library, _ = new_library(tmp_path / "library", "SQ8")
    with library:
        index = open_index(library)
        for _ in range(1 + gpu.AFTER // len(QUERIES)):
            index.search(QUERIES, 10)
        assert fake.copied == 1
        assert index._published is not None
        assert (index._published.gpu is None) == fails
        assert check_scores(library, index, 10) >= 0.9
        assert check_scores(library, index, 10, np.arange(ROWS)) >= 0.9
    said = [record.message for record in caplog.records if "GPU" in record.message]
    assert said == (
        [
            "searching on the CPU, the GPU cannot be used for SQ8: "
            "no kernel image is available for execution on the device"
        ]
        if fails
        else []
    )
