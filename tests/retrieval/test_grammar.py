"""What is an operator, a weight, a picture, and what are just words."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwkvsearch.data.errors import QueryError
from rwkvsearch.retrieval.grammar import parse, unparse
from rwkvsearch.retrieval.query import Term


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a dog", [Term("a dog")]),
        ("a dog  ", [Term("a dog")]),
        ("dog + ", [Term("dog +")]),
        ("black-and-white", [Term("black-and-white")]),
        ("black -and- white", [Term("black -and- white")]),
        ("3:10 to Yuma", [Term("3:10 to Yuma")]),
        ("2: dogs", [Term("2: dogs")]),
        ("C++ book", [Term("C++ book")]),
        ("16:9 + 0.5:sea", [Term("16:9"), Term("sea", weight=0.5)]),
        ("a and/or b", [Term("a and/or b")]),
        ("- snow + dog", [Term("snow", weight=-1), Term("dog")]),
        ("dog - .5:cat", [Term("dog"), Term("cat", weight=-0.5)]),
        (
            "2:dog + ./beach.jpg - snow",
            [Term("dog", weight=2), Term(path=Path("beach.jpg")), Term("snow", weight=-1)],
        ),
        ("3:/a b/c.png", [Term(path=Path("/a b/c.png"), weight=3)]),
        ("~no-such-user/x.jpg", [Term("~no-such-user/x.jpg")]),
        ("~/x.jpg", [Term(path=Path("~/x.jpg").expanduser())]),
        ("../x.jpg - ./y.jpg", [Term(path=Path("../x.jpg")), Term(path=Path("y.jpg"), weight=-1)]),
        ("a\n+\tb", [Term("a"), Term("b")]),
    ],
)
def test_parse(text: str, terms: list[Term]) -> None:
    assert list(parse(text)) == terms


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("- snow", "only what is not wanted"),
        ("dog -  + cat", "nothing stands behind"),
        ("0:dog", "asks for nothing"),
        ("dog - 0.0:cat", "asks for nothing"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        parse(text)


def test_pictures_stay_pictures() -> None:
    terms = parse("2:dog + ./beach.jpg - /a/b.png - 0.5:../c.jpg")
    assert unparse(terms) == "2:dog + ./beach.jpg - /a/b.png - 0.5:./../c.jpg"
    assert parse(unparse(terms)) == terms


@pytest.mark.parametrize("weight", [1e9, 1e-5, 1234567.5, 0.1, 1 / 3, 1e300])
def test_weights_are_written_without_exponents(weight: float) -> None:
    terms = (Term("dog", weight=weight), Term("cat", weight=-weight))
    assert parse(unparse(terms)) == terms


WORDS = st.text("abcxyz-:+/ 0123456789", min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 0.5, -1.0, -3.0]), WORDS), min_size=1))
def test_what_is_written_down_is_read_again(parts: list[tuple[float, str]]) -> None:
    terms = tuple(Term(text, weight=weight) for weight, text in parts)
    try:
        again = parse(unparse(terms))
    except QueryError:
        return
    assert parse(unparse(again)) == again
