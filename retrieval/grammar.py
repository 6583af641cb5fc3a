"""The compact grammar of a query: `2:dog + ./beach.jpg - snow`.

Terms are joined by ` + ` and ` - `, with spaces on both sides, so that "black-and-white" stays one
word. A weight stands before a term, `2:dog` or `0.5:sea`, but not before a digit or a space: "3:10
to Yuma" stays a film. A term that begins with `./`, `../`, `/` or `~/` is a picture.
"""

from __future__ import annotations

import re

from rwkvsearch.data.errors import QueryError
from rwkvsearch.data.files import expanded
from rwkvsearch.retrieval.query import Term

_OPERATOR = re.compile(r"(?:^|\s+)([+-])\s+")
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?|\.\d+):(?=[^\s\d])")
_PICTURE = re.compile(r"(~|\.{1,2})?/")


def parse(text: str) -> tuple[Term, ...]:
    """The terms of a query, at least one of them positive.

    Raises:
        QueryError: a term or everything is missing, a weight is 0, or nothing is asked for.
    """
    pieces = _OPERATOR.split(text.strip())
    terms = [] if not pieces[0].strip() else [parse_term(pieces[0], "+")]
    if not terms and len(pieces) == 1:
        raise QueryError("the query is empty: describe what the picture shows")
    for sign, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        if _OPERATOR.match(piece):
            raise QueryError(f"{text!r}: nothing stands behind a {sign}")
        terms.append(parse_term(piece, sign))
    if all(term.weight < 0 for term in terms):
        raise QueryError(f"{text!r} says only what is not wanted: add what is")
    return tuple(terms)


def unparse(terms: tuple[Term, ...]) -> str:
    """A query that `parse` reads as these terms."""
    parts = [f"{'-' if term.weight < 0 else '+'} {term}" for term in terms]
    return " ".join(parts).removeprefix("+ ")


def parse_term(piece: str, sign: str = "+") -> Term:
    """One term, with its weight if it has one; `QueryError` for a weight of 0."""
    piece = piece.strip()
    weight = 1.0
    if match := _WEIGHT.match(piece):
        weight, piece = float(match[1]), piece[match.end() :]
        if weight == 0:
            raise QueryError(f"{match[0]}{piece}: a weight of 0 asks for nothing")
    weight = -weight if sign == "-" else weight
    if _PICTURE.match(piece):
        return Term(path=expanded(piece), weight=weight)
    return Term(piece, weight=weight)
