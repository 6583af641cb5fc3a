"""What an address says, there and back, also of those that nobody but an attacker writes."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rwkvsearch.data.errors import QueryError
from rwkvsearch.ui.web.asked import FILTERS, MOST_ID, Asked

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(CHARACTERS, max_size=20).filter(lambda text: text == "" or bool(text.strip()))
TEXTS = st.lists(TEXT.filter(bool), max_size=3).map(tuple)
IDS = st.lists(st.integers(1, MOST_ID), max_size=4, unique=True).map(tuple)
ASKED = st.builds(
    Asked,
    q=TEXT,
    like=st.none() | st.integers(1, MOST_ID),
    upload=TEXT,
    album=TEXT,
    liked=IDS,
    disliked=IDS,
    under=TEXTS,
    camera=TEXTS,
    format=TEXTS,
    tag=TEXTS,
    orientation=TEXT,
    after=TEXT,
    before=TEXT,
    min_confidence=st.floats(0, 1),
    diverse=st.booleans(),
)


@given(ASKED)
def test_there_and_back(asked: Asked) -> None:
    link = asked.to_link()
    assert link.isascii() and Asked.from_link(link) == asked
    assert Asked.from_link(f"?{link}&image=3&__theme=dark") == asked
    assert Asked.from_link(link).to_link() == link


def test_only_what_is_asked_for_is_said() -> None:
    assert Asked().to_link() == ""
    asked = Asked("a + b", liked=(3, 1), under=("/a b",), diverse=True)
    assert asked.to_link() == "q=a+%2B+b&liked=3&liked=1&under=%2Fa+b&diverse=1"
    assert asked.narrowed == 2 and Asked(min_confidence=0.5).narrowed == 1
    assert {*FILTERS} < {field.name for field in fields(Asked)}


@given(
    st.sampled_from([field.name for field in fields(Asked)]),
    st.text(max_size=30),
    st.text(max_size=30),
)
def test_anything_is_read_or_refused(name: str, value: str, rest: str) -> None:
    """Half characters, numbers that are none, parts of other languages: never another error."""
    for link in (f"{name}={value}&{rest}", rest):
        try:
            asked = Asked.from_link(link)
        except QueryError as error:
            assert str(error).startswith("this address cannot be read")
        else:
            assert Asked.from_link(asked.to_link()) == asked
            assert all(1 <= one <= MOST_ID for one in (*asked.liked, asked.like or 1))
            assert 0 <= asked.min_confidence <= 1


@pytest.mark.parametrize(
    "link",
    [
        "like=0",
        "like=-1",
        "like=1.5",
        f"like={2**63}",
        f"liked={'9' * 5000}",
        "disliked=x",
        "min_confidence=nan",
        "min_confidence=inf",
        "min_confidence=1.01",
        "min_confidence=-0.1",
    ],
)
def test_numbers_that_cannot_be(link: str) -> None:
    with pytest.raises(QueryError, match="this address cannot be read"):
        Asked.from_link(link)


def test_words() -> None:
    assert [term.name for term in Asked("a dog - snow").words()] == ["a dog", "snow"]
    assert Asked("  ").words() == ()
    for text in ("./a.jpg", "/etc/passwd", "~/a", "../a", "a dog + ./a.jpg", "2:/x"):
        with pytest.raises(QueryError, match="by the button"):
            Asked(text).words()


def test_filters() -> None:
    assert not Asked("a dog").filters
    for wrong in ({"orientation": "round"}, {"after": "soon"}, {"format": ("exe",)}):
        with pytest.raises(QueryError):
            _ = Asked(**wrong).filters  # type: ignore[arg-type]
