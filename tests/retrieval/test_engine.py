"""Searching a library of the sample photographs, with a tiny model of random weights."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.errors import ImageError, LibraryError, ModelError, NotThere, QueryError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.retrieval.choose import choose_model
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.engine import SearchEngine
from rwkvsearch.retrieval.models import read_card
from rwkvsearch.retrieval.query import Hit, Query, Term

PHOTOS = sorted((Path(__file__).parents[2] / "data" / "samples" / "photos").glob("*.jpg"))
ROUNDING = 2e-3
"""Of a score: embeddings are stored in fp16."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    path = tmp_path_factory.mktemp("engine") / "library"
    with Library.create(path) as library:
        report = sync(library, [PHOTOS[0].parent], encoder)
    assert report.added == len(PHOTOS) and not report.errors
    return path


@pytest.fixture
def engine(library: Path, installed: str) -> Iterator[SearchEngine]:
    with SearchEngine.open(library) as engine:
        yield engine


def assert_well_formed(hits: list[Hit], count: int) -> None:
    assert [hit.rank for hit in hits] == list(range(1, count + 1))
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True) and all(-1 <= s <= 1 + 1e-6 for s in scores)
    assert len({hit.image_id for hit in hits}) == count
    assert all(type(hit.score) is float and hit.path.is_file() for hit in hits)


def test_query(engine: SearchEngine) -> None:
    hits = engine.query("a dog in the grass", k=7)
    assert_well_formed(hits, 7)
    assert len(engine.query("a dog")) == 10


def test_scores_are_the_cosines(engine: SearchEngine) -> None:
    text = engine.encoder.encode_texts([f"{engine.encoder.card.prompt}a red cup"])[0]
    hits = engine.query("a red cup", k=len(PHOTOS))
    images = [read_image(hit.path, min_side=engine.encoder.image_size) for hit in hits]
    wanted = engine.encoder.encode_images(images) @ text
    np.testing.assert_allclose([hit.score for hit in hits], wanted, atol=ROUNDING)
    assert {hit.path.name for hit in hits} == {path.name for path in PHOTOS}


@pytest.mark.parametrize("name", ["panda.jpg", "coffee.jpg", "saturn.jpg", "wren.jpg"])
def test_a_picture_of_the_library_finds_itself(name: str, engine: SearchEngine) -> None:
    path = PHOTOS[0].parent / name
    for query in (path, read_image(path, min_side=engine.encoder.image_size)):
        hits = engine.query_image(query, k=3)
        assert_well_formed(hits, 3)
        assert hits[0].path.name == name and hits[0].score == pytest.approx(1, abs=ROUNDING)
        assert hits[1].score < hits[0].score


def test_k(engine: SearchEngine) -> None:
    everything = engine.query("a dog", k=1000)
    assert_well_formed(everything, len(PHOTOS))
    for k in (1, 2, len(PHOTOS) - 1, len(PHOTOS)):
        assert engine.query("a dog", k=k) == everything[:k]
    for k in (0, -1):
        with pytest.raises(QueryError, match=f"k must be at least 1, not {k}"):
            engine.query("a dog", k=k)


def test_one_image_as_a_hit(engine: SearchEngine) -> None:
    terms = Term("a dog"), Term("the sea"), Term("snow", weight=-1)
    for query in (Query(terms[:1]), Query(terms), Query(terms, every=True), Query(terms, offset=4)):
        for hit in engine.run(replace(query, k=5)):
            assert engine.hit_of(query, hit.image_id) == replace(hit, rank=1)
    with pytest.raises(NotThere, match="there is no image 77777 in"):
        engine.hit_of(Query(terms), 77777)


def test_size(engine: SearchEngine) -> None:
    assert engine.size == len(PHOTOS)


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_empty_query(text: str, engine: SearchEngine) -> None:
    with pytest.raises(QueryError, match="the query is empty"):
        engine.query(text)


def test_embeddings_that_cannot_be_compared(engine: SearchEngine) -> None:
    for odd in (np.ones(7, np.float32), np.zeros(32, np.float32), np.full(32, np.nan, np.float32)):
        with pytest.raises(QueryError):
            engine.search(odd)


def test_length_of_the_embedding_does_not_matter(engine: SearchEngine) -> None:
    embedding = engine.encoder.encode_texts(["a dog"])[0]
    assert engine.search(embedding * 16) == engine.search(embedding)


def test_a_query_picture_that_is_none(engine: SearchEngine, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("text")
    for path in (tmp_path / "text.jpg", tmp_path / "nowhere.jpg"):
        with pytest.raises(ImageError, match=path.name):
            engine.query_image(path)


def test_copies_are_one_hit_with_all_paths(
    encoder: Encoder, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        pictures[3].save(folder / name)
    pictures[4].save(folder / "c.png")
    with Library.create(tmp_path / "library") as library:
        sync(library, [folder], encoder)
        first, second = SearchEngine(library, encoder).query_image(pictures[3])
    assert sorted(path.name for path in first.paths) == ["a.png", "b.png"]
    assert [path.name for path in second.paths] == ["c.png"]


def test_open_takes_the_model_that_made_the_library(
    library: Path, installed: str, tmp_path: Path
) -> None:
    with Library.open(library) as opened:
        assert choose_model(opened) == (installed, "fp32")
        assert choose_model(opened, precision="bf16") == (installed, "bf16")
        assert choose_model(opened, installed, "bf16") == (installed, "bf16")
        assert choose_model(opened, "starter") == ("starter", "fp32")
    with Library.create(tmp_path / "empty") as empty:
        assert choose_model(empty) == ("starter", "fp32")
    with SearchEngine.open(library, model=installed, device="cpu") as engine:
        assert engine.encoder.card.name == installed


def test_models_of_others_are_no_candidates(tmp_path: Path) -> None:
    for ids in (["fake-1"], ["fake"], ["starter"], ["starter-1-fp16", "b64-1-bf16"], []):
        present = SimpleNamespace(models=lambda ids=ids: [SimpleNamespace(model_id=i) for i in ids])
        assert choose_model(present) == ("starter", "fp32")


def test_present_weights_before_former_ones(installed: str) -> None:
    present = [f"{installed}-00000000-fp32", read_card(installed).id_of("bf16")]
    library = SimpleNamespace(models=lambda: [SimpleNamespace(model_id=i) for i in present])
    assert choose_model(library) == (installed, "bf16")
    del present[1]
    assert choose_model(library) == (installed, "fp32")


def test_precisions_live_side_by_side(
    library: Path, installed: str, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures[3].save(folder / "a.png")
    half = Encoder.load(installed, precision="bf16")
    with Library.create(tmp_path / "library") as both:
        sync(both, [folder], half)
        assert choose_model(both) == (installed, "bf16")
        assert choose_model(both, installed) == (installed, "bf16")
        sync(both, [folder], Encoder.load(installed))
        assert choose_model(both, precision="bf16") == (installed, "bf16")
        assert choose_model(both) == (installed, "fp32")
    for precision in ("bf16", "fp32"):
        with SearchEngine.open(
            tmp_path / "library", model=installed, precision=precision
        ) as engine:
            assert engine.encoder.model_id.endswith(precision)
            assert engine.query_image(pictures[3])[0].score > 0.999
    with pytest.raises(LibraryError, match="not with .*-int8"):
        SearchEngine.open(tmp_path / "library", model=installed, precision="int8")


def test_open_fails_in_one_line(library: Path, installed: str, tmp_path: Path) -> None:
    with pytest.raises(LibraryError):
        SearchEngine.open(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="no model is called 'b64'"):
        SearchEngine.open(library, model="b64")
    with Library.create(tmp_path / "empty"):
        pass
    with pytest.raises(LibraryError):
        SearchEngine.open(tmp_path / "empty", model=installed)
