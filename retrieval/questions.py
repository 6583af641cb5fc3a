"""A benchmark of one's own: queries, and the pictures of the library that they should find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.files import expanded
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.places import images_at
from rwkvsearch.retrieval.confidence import LIKELY
from rwkvsearch.retrieval.grammar import parse
from rwkvsearch.retrieval.query import Hit, Query, Term

if TYPE_CHECKING:
    from rwkvsearch.retrieval.engine import SearchEngine

DEPTH = 1_000
"""A picture further down counts as not found."""


@dataclass(frozen=True)
class Question:
    """A query, `line` of its file, and what it should find; nothing, if it names no pictures."""

    text: str
    line: int
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The rank of the first expected hit, None if it is below `DEPTH`, and the best hit."""

    question: Question
    rank: int | None
    best: Hit | None


@dataclass(frozen=True)
class Summary:
    """The figures of one model.

    `recall` in percent by k; `mrr` is the mean of 1 / rank; `median_rank` is None below `DEPTH`.
    `silent` of the `absent` queries, which should find nothing, had no confident match.
    """

    queries: int
    recall: dict[int, float]
    mrr: float
    median_rank: float | None
    absent: int
    silent: int


def read_questions(file: Path) -> list[Question]:
    """Read lines of `query TAB expected path [TAB expected path...]`; # begins a comment.

    Raises:
        DataError: the file cannot be read, or no line names an expected path.
    """
    try:
        lines = file.read_text("utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from error
    questions = []
    for number, line in enumerate(lines, start=1):
        text, *expected = (part.strip() for part in line.split("\t"))
        if text and not text.startswith("#"):
            questions.append(Question(text, number, tuple(filter(None, expected))))
        elif expected and not text:
            raise DataError(f"{file}, line {number}: a path without a query before it")
    if not any(question.expected for question in questions):
        raise DataError(f"{file}: no line names an expected path: write query TAB path")
    return questions


def expected_images(
    library: Library, file: Path, questions: Sequence[Question]
) -> tuple[dict[str, int], list[str]]:
    """Return the image id of each expected path, and those that are not in the library.

    A relative path lies beside the file, or below an indexed folder.
    """
    names = list(dict.fromkeys(name for question in questions for name in question.expected))
    places = {name: expanded(name) for name in names}
    beside = {name: file.absolute().parent / place for name, place in places.items()}
    there = images_at(library, [*beside.values(), *places.values()])
    found = {name: there.get(beside[name], there.get(places[name])) for name in names}
    known = {name: image_id for name, image_id in found.items() if image_id is not None}
    return known, [name for name in names if name not in known]


def terms_of(question: Question, file: Path, *, plain: bool = False) -> tuple[Term, ...]:
    """Return the terms of a query; its pictures lie beside the file. Errors as `grammar.parse`."""
    if plain:
        return (Term(question.text),)
    here = file.absolute().parent
    return tuple(
        term if term.path is None else Term(path=here / term.path, weight=term.weight)
        for term in parse(question.text)
    )


def ask(
    engine: SearchEngine, question: Question, terms: tuple[Term, ...], right: set[int], first: int
) -> Answer:
    """Ask as a person would, for the `first` hits; only if none of them is right, for more."""
    hits = engine.run(Query(terms, k=first))
    best = hits[0] if hits else None
    if right and len(hits) == first and not any(hit.image_id in right for hit in hits):
        hits = engine.run(Query(terms, k=max(first, DEPTH)))
    rank = next((hit.rank for hit in hits if hit.image_id in right), None)
    return Answer(question, rank, best)


def summarise(answers: Sequence[Answer], ks: Sequence[int]) -> Summary:
    """Return the figures of some answers, at least one of which expects a picture."""
    asked = [answer for answer in answers if answer.question.expected]
    ranks = [answer.rank for answer in asked]
    middle = median(float("inf") if rank is None else rank for rank in ranks)
    absent = [answer.best for answer in answers if not answer.question.expected]
    return Summary(
        queries=len(asked),
        recall={k: 100 * sum(r is not None and r <= k for r in ranks) / len(ranks) for k in ks},
        mrr=sum(1 / rank for rank in ranks if rank) / len(ranks),
        median_rank=middle if middle <= DEPTH else None,
        absent=len(absent),
        silent=sum(best is None or best.confidence < LIKELY for best in absent),
    )
