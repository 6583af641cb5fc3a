"""Whole queries against brute force: terms, weights, all of them, filters, pages."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.filters import Filters
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.scoring import rescore
from rwkvsearch.indexer.sync import sync
from rwkvsearch.retrieval.algebra import standings
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.engine import ROUNDING, SearchEngine
from rwkvsearch.retrieval.query import Query, Term
from rwkvsearch.retrieval.ranking import Ranking, query_vectors

PHOTOS = sorted((Path(__file__).parents[2] / "data" / "samples" / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, installed_home: tuple[Path, str]
) -> Iterator[SearchEngine]:
    path = tmp_path_factory.mktemp("queries") / "library"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RWKVSEARCH_HOME", str(path.parent))
        with Library.create(path) as library:
            sync(library, [PHOTOS[0].parent], encoder)
            yield SearchEngine(library, encoder)


TERMS = st.one_of(
    st.sampled_from(["a dog", "snow", "a red cup", "people", "the night"]).map(Term),
    st.integers(1, 20).map(lambda n: Term(image_id=n)),
)
WEIGHTED = st.builds(
    lambda term, weight: Term(term.text, image_id=term.image_id, weight=weight),
    TERMS,
    st.sampled_from([1.0, 2.0, 0.5, -1.0]),
)
FILTERS = st.sampled_from(
    [Filters(), Filters(orientation="portrait"), Filters(min_width=500), Filters(globs=("p*",))]
)


def ordered(engine: SearchEngine, query: Query) -> list[tuple[int, float]]:
    """The whole answer by brute force: image ids and scores."""
    ids, embeddings = engine.library.embeddings(
        engine.model.model_id, engine.model.preprocessing_id
    )
    terms = engine._embed(query.terms)
    vectors = query_vectors(query, terms, engine._background.embeddings)
    scores = np.stack([rescore(vector, embeddings) for vector in vectors])
    usual = vectors @ engine._background.embeddings.T
    standing = standings(scores, usual) if len(vectors) > 1 else scores
    weakest = standing.argmin(axis=0)
    passing = {
        hit.image_id
        for hit in engine.run(Query((Term("anything"),), filters=query.filters, k=1000))
    }
    rows = np.lexsort((ids, -standing.min(axis=0)))
    return [
        (int(ids[row]), float(scores[weakest[row], row]))
        for row in rows
        if int(ids[row]) in passing
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(WEIGHTED, min_size=1, max_size=4),
    st.booleans(),
    FILTERS,
    st.integers(1, 20),
    st.integers(0, 30),
)
def test_as_brute_force(
    engine: SearchEngine,
    terms: list[Term],
    every: bool,
    filters: Filters,
    k: int,
    offset: int,
) -> None:
    try:
        query = Query(tuple(terms), every=every, filters=filters, k=k, offset=offset)
        wanted = ordered(engine, query)
        hits = engine.run(query)
    except QueryError:
        return
    expected = wanted[offset : offset + k]
    assert [hit.image_id for hit in hits] == [image_id for image_id, _ in expected]
    assert [hit.rank for hit in hits] == list(range(offset + 1, offset + 1 + len(expected)))
    np.testing.assert_allclose(
        [hit.score for hit in hits], [score for _, score in expected], atol=1e-6
    )


def test_the_score_of_each_term_is_told(engine: SearchEngine) -> None:
    terms = (Term("a dog"), Term("snow", weight=2), Term("the night", weight=-1))
    alone = {
        term.text: {hit.image_id: hit.score for hit in engine.run(Query((Term(term.text),), k=99))}
        for term in terms
    }
    for hit in engine.run(Query(terms, k=99)):
        wanted = [alone[term.text][hit.image_id] for term in terms]
        np.testing.assert_allclose(hit.terms, wanted, atol=1e-6)


def test_confidence_falls_with_the_score(engine: SearchEngine) -> None:
    hits = engine.run(Query((Term("a dog"),), k=99))
    assert all(0 <= hit.confidence <= 1 for hit in hits)
    assert all(a.confidence >= b.confidence for a, b in pairwise(hits))
    limit = hits[4].confidence
    some = engine.run(Query((Term("a dog"),), k=99, min_confidence=limit))
    assert some == [hit for hit in hits if hit.confidence >= limit]
    assert engine.run(Query((Term("a dog"),), k=3, min_confidence=limit)) == hits[:3]


@pytest.mark.parametrize("diverse", [False, True])
def test_the_least_confidence_is_asked_of_every_image(engine: SearchEngine, diverse: bool) -> None:
    """With `every` the confidence does not fall with the rank: what is below is passed over."""
    terms = (Term("a dog"), Term(image_id=3))
    hits = engine.run(Query(terms, every=True, k=99))
    assert any(a.confidence < b.confidence for a, b in pairwise(hits))
    for limit in sorted(hit.confidence for hit in hits)[::7]:
        enough = [hit.image_id for hit in hits if hit.confidence >= limit]
        pages = [
            engine.run(
                Query(terms, every=True, k=4, offset=at, min_confidence=limit, diverse=diverse)
            )
            for at in range(0, 64, 4)
        ]
        found = [hit for page in pages for hit in page]
        assert [hit.image_id for hit in found] == enough
        assert [hit.rank for hit in found] == [*range(1, len(enough) + 1)]


def test_nothing_better_lies_behind(engine: SearchEngine) -> None:
    """The bound by which a search for confident images ends is one."""
    query = Query((Term("a dog"), Term(image_id=3), Term("snow", weight=-1)), every=True)
    embeddings, vectors = engine._vectors(query)
    ranking = Ranking(
        engine.library, engine.model, engine._index, engine._background, vectors, None
    )
    _, scores = ranking.top(60)
    confidences = engine._confidences(query, scores)
    for at in range(59):
        ceiling = ranking.ceiling(scores[:, at : at + 1])
        weakest = ranking.standings(scores[:, at : at + 1]).min()
        np.testing.assert_allclose(ranking.standings(ceiling), [[weakest]] * 2, atol=1e-3)
        bound = engine._confidences(query, ceiling).max()
        assert confidences[:, at + 1 :].min(axis=0).max() <= bound + ROUNDING


@pytest.mark.parametrize("weight", [1e300, 1e39, 1e9, 1e-9, 1e-60])
def test_weights_of_any_size(engine: SearchEngine, weight: float) -> None:
    plain = engine.run(Query((Term("a dog"),), k=5))
    assert engine.run(Query((Term("a dog", weight=weight),), k=5)) == plain
    terms = (Term("a dog", weight=weight), Term("snow"))
    assert len(engine.run(Query(terms, every=True, k=5))) == 5
    first = engine.run(Query((Term("a dog", weight=weight), Term("snow")), k=1))[0]
    ruling = "a dog" if weight > 1 else "snow"
    assert first.image_id == engine.query(ruling, k=1)[0].image_id


def test_an_image_that_has_gone_meanwhile_has_no_cosine(engine: SearchEngine) -> None:
    embeddings = engine._embed([Term("a dog"), Term("snow")])
    parts = engine._parts(embeddings, np.array([7, 10**6, 2]))
    assert np.isnan(parts[:, 1]).all()
    np.testing.assert_array_equal(parts[:, [0, 2]], engine._parts(embeddings, np.array([7, 2])))


def test_what_was_disliked_is_left_out(engine: SearchEngine) -> None:
    every = engine.run(Query((Term("a dog"),), k=99))
    wrong = tuple(hit.image_id for hit in every[:3])
    pages = [
        engine.run(Query((Term("a dog"),), k=10, offset=offset, disliked=wrong))
        for offset in range(0, 70, 10)
    ]
    seen = [hit.image_id for page in pages for hit in page]
    assert len(seen) == len(set(seen)) == len(every) - 3
    assert not set(seen) & set(wrong)


@pytest.mark.parametrize(
    "fields",
    [
        {"k": 0},
        {"offset": -1},
        {"terms": ()},
        {"terms": (Term("x", weight=-1),)},
        {"terms": (Term("x"), Term("y", weight=0))},
        {"terms": (Term("x"), Term("y", weight=float("nan")))},
        {"terms": (Term("x", weight=float("inf")),)},
    ],
)
def test_no_such_query(fields: dict[str, object]) -> None:
    with pytest.raises(QueryError):
        Query(**({"terms": (Term("a dog"),)} | fields))  # type: ignore[arg-type]


def test_why(engine: SearchEngine) -> None:
    query = Query((Term("a dog"), Term("snow", weight=-1)), k=2)
    hit = engine.run(query)[0]
    picture, words = engine.why(query, hit)
    assert picture.mode == "RGB" and min(picture.size) > 32
    assert words.startswith(f"score {hit.score:.3f}: a dog") and "- snow" in words


def test_why_with_votes(engine: SearchEngine) -> None:
    query = Query((Term("a dog"),), k=1, liked=(5, 6), disliked=(7,))
    hit = engine.run(query)[0]
    _, words = engine.why(query, hit)
    assert words.startswith(f"score {hit.score:.3f}: a dog")
    assert "what is liked" in words and "- what is disliked" in words
    shares = [int(share) for share in re.findall(r"\(([+-]\d+) %\)", words)]
    assert len(shares) == 3 and abs(sum(shares) - 100) <= 2


def test_texts(engine: SearchEngine) -> None:
    corpus = ["a dog", "snow on a hill", "a red cup"]
    hits = engine.texts(Query((Term("a red cup"),), k=2), corpus)
    assert [hit.rank for hit in hits] == [1, 2]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True) and hits[0].text in corpus
    second = engine.texts(Query((Term("a red cup"),), k=2, offset=1), corpus)
    assert [hit.rank for hit in second] == [2, 3] and second[0] == hits[1]
    with pytest.raises(QueryError, match="this library has no texts"):
        engine.texts(Query((Term("a red cup"),)))
    with pytest.raises(QueryError, match="filters are for images"):
        engine.texts(Query((Term("a dog"),), filters=Filters(min_width=5)), corpus)
    with pytest.raises(QueryError, match="by the sum of the terms"):
        engine.texts(Query((Term("a dog"), Term("snow")), every=True), corpus)
    assert engine.texts(Query((Term("a red cup"),), every=True, k=2), corpus) == hits
    with pytest.raises(QueryError, match="no texts to compare with"):
        engine.texts(Query((Term("a dog"),)), [])


def test_a_text_that_is_no_text(engine: SearchEngine) -> None:
    for odd in ("caf\udce9", "\ud800 dog"):
        assert len(engine.query(odd)) == 10


def test_asking_again_needs_no_torch(
    tmp_path: Path, encoder: Encoder, installed: str, installed_home: tuple[Path, str]
) -> None:
    with Library.create(tmp_path / "library") as library:
        sync(library, PHOTOS[:5], encoder)
    program = (
        "import sys; from pathlib import Path\n"
        "from rwkvsearch.retrieval.engine import SearchEngine\n"
        "with SearchEngine.open(Path(sys.argv[1])) as engine:\n"
        "    hits = engine.query('a dog never asked for before')\n"
        "print('torch' in sys.modules, [(hit.image_id, hit.score) for hit in hits])"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / "library"],
            env=os.environ | {"RWKVSEARCH_HOME": str(installed_home[0])},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert said[0].startswith("True") and said[1].startswith("False")
    assert said[0].removeprefix("True") == said[1].removeprefix("False")
