"""A query that is kept comes back as it was, and what cannot be kept is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.filters import Box, Filters
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.query import Crop, Query, Term
from rwkvsearch.retrieval.query_json import query_from_json, query_to_json, without_pictures

ANYTHING = st.text(st.characters(codec=None), min_size=1)  # surrogates too, as in file names
WEIGHTS = st.floats(-9, 9, allow_nan=False).filter(bool)
SHARES = st.floats(0, 1)
PATHS = ANYTHING.filter(lambda text: "\0" not in text).map(lambda text: Path("/") / text)
CROPS = st.none() | st.builds(Crop, SHARES, SHARES, SHARES, SHARES)
TERMS = st.one_of(
    st.builds(Term, ANYTHING, weight=WEIGHTS),
    st.builds(Term, path=PATHS, weight=WEIGHTS, crop=CROPS),
    st.builds(Term, image_id=st.integers(0, 2**62), weight=WEIGHTS),
)
FILTERS = st.builds(
    Filters,
    folders=st.lists(PATHS, max_size=2).map(tuple),
    globs=st.sampled_from([(), ("*.png",), ("2019/**", "a")]),
    after=st.sampled_from([None, "2019", "2019-06-30T12:00"]),
    before=st.sampled_from([None, "2020"]),
    min_width=st.integers(0, 9000),
    min_megapixels=st.floats(0, 100),
    orientation=st.sampled_from([None, "portrait"]),
    captioned=st.sampled_from([None, True, False]),
    box=st.sampled_from([None, Box(-10.0, 170.0, 10.0, -170.5)]),
    tags=st.sampled_from([(), ("a dog", "grass")]),
)
QUERIES = st.builds(
    Query,
    st.tuples(TERMS.map(lambda term: replace(term, weight=abs(term.weight))), TERMS, TERMS),
    every=st.booleans(),
    filters=FILTERS,
    k=st.integers(1, 10_000),
    min_confidence=SHARES,
    diverse=st.booleans(),
)


@given(QUERIES)
def test_round_trip(query: Query) -> None:
    text = query_to_json(query)
    assert query_from_json(text) == query
    assert query_to_json(query_from_json(text)) == text
    assert text.isascii() and "\n" not in text


def test_what_is_not_kept() -> None:
    query = Query((Term("a dog"),), offset=7, liked=(1,), disliked=(2,))
    assert query_from_json(query_to_json(query)) == Query((Term("a dog"),))


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = query_to_json(Query((Term(path=Path("a/b.png")),)))
    monkeypatch.chdir("/")
    assert query_from_json(kept).terms == (Term(path=tmp_path / "a" / "b.png"),)


def test_a_picture_that_is_no_file(encoder: Encoder, pictures: list[Image.Image]) -> None:
    crop = Crop(0.0, 0.0, 0.5, 0.5)
    query = Query((Term(image=pictures[5], weight=2.0, crop=crop), Term("sea")))
    with pytest.raises(QueryError, match="as its embedding only"):
        query_to_json(query)
    kept = query_to_json(without_pictures(query, encoder.encode_images), encoder.model_id)
    picture, words = query_from_json(kept, encoder.model_id).terms
    part = pictures[5].crop((0, 0, 100, 75))
    assert picture.embedding is not None
    np.testing.assert_array_equal(picture.embedding, encoder.encode_images([part])[0])
    assert (picture.weight, picture.crop, words) == (2, None, Term("sea"))
    assert query_to_json(query_from_json(kept), encoder.model_id) == kept
    with pytest.raises(QueryError, match=rf"as {encoder.model_id} sees it, and other-fp32 cannot"):
        query_from_json(kept, "other-fp32")


def test_a_newer_version() -> None:
    document = json.loads(query_to_json(Query((Term("a dog"),)))) | {"version": 2}
    with pytest.raises(QueryError, match="saved by a newer rwkvsearch .*version 2"):
        query_from_json(json.dumps(document))


@pytest.mark.parametrize(
    "change",
    [
        {"terms": []},
        {"terms": [{"weight": 1}]},
        {"terms": [{"weight": 0, "text": "x"}]},
        {"terms": [{"weight": "1", "text": 3}]},
        {"terms": [{"weight": 1, "text": "x", "crop": [0, 1]}]},
        {"terms": [{"weight": 1, "embedding": "?", "model": "m"}]},
        {"terms": [{"weight": 1, "embedding": "AAA=", "model": "m"}]},
        {"terms": {"text": "x"}},
        {"terms": None},
        {"filters": {"colour": "red"}},
        {"filters": []},
        {"k": 0},
        {"k": "ten"},
        {"every": 1},
        {"min_confidence": None},
    ],
)
def test_damage_is_a_clear_error(change: dict[str, object]) -> None:
    document = json.loads(query_to_json(Query((Term("a dog"),)))) | change
    for text in (json.dumps(document), json.dumps(document)[:-5], "[]", ""):
        with pytest.raises(QueryError):
            query_from_json(text)
