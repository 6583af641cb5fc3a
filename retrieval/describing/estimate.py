"""What describing a set would take, from a sample of it: seconds, tokens, money."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rwkvsearch.data.descriptions.asking import ask_about, question_of
from rwkvsearch.data.descriptions.cache import Cache
from rwkvsearch.data.descriptions.pipeline import prepare
from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.recipe import Recipe
from rwkvsearch.data.descriptions.texts import Described, Item
from rwkvsearch.data.errors import DataError
from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.describing.endpoint import Endpoint

SAMPLE = 32
ASSUMED_ANSWER = 45
"""Tokens of an answer where none was measured: the longest sentence the instruction asks for."""
_ROLES = 12
"""Tokens of a chat template around two messages."""


@dataclass(frozen=True)
class Estimate:
    """For the whole set. Money and asking are None where no price or no probe was given.

    `probes` were really asked, and cost what they cost; with them tokens are the server's counts,
    else those of CLIP's tokenizer, which other tokenizers differ from by some ten percent.
    """

    pictures: int
    sampled: int
    looking_seconds: float
    tokens_in: int = 0
    tokens_out: int = 0
    probes: int = 0
    seconds_per_request: float | None = None
    asking_seconds: float | None = None
    cost: float | None = None


def estimate(
    items: Sequence[Item],
    recipe: Recipe,
    cache: Cache,
    *,
    probes: int = 3,
    price_in: float | None = None,
    price_out: float | None = None,
) -> Estimate:
    """Look at up to `SAMPLE` pictures, spread evenly, and ask `probes` of them.

    Prices are for a million tokens. Answers to probes are kept in `cache` like all others.

    Raises:
        DataError: none of the sampled pictures can be used, or every probe failed.
        ModelError: as in `describe`.
    """
    chosen = items[:: max(1, -(-len(items) // SAMPLE))]
    began = time.monotonic()
    with Cache(Path(":memory:")) as fresh:  # what is known already would look too fast
        sample = [item for item in prepare(chosen, recipe, fresh) if item.sayings]
    looking = (time.monotonic() - began) / len(chosen) * len(items)
    if not sample:
        raise DataError("none of the pictures looked at can be used, so nothing can be estimated")
    model = recipe.language_model
    if not isinstance(model, Endpoint):
        return Estimate(len(items), len(chosen), looking)
    asked = _ask(sample, recipe, model, cache, probes)
    tokens_in = _tokens(sample, recipe) if not asked else model.usage.tokens_in / asked
    tokens_out = model.usage.tokens_out / asked if asked else ASSUMED_ANSWER
    pace = model.usage.seconds / asked if asked else None
    total_in, total_out = round(tokens_in * len(items)), round(tokens_out * len(items))
    priced = price_in is not None or price_out is not None
    cost = (total_in * (price_in or 0) + total_out * (price_out or 0)) / 1e6
    return Estimate(
        pictures=len(items),
        sampled=len(chosen),
        looking_seconds=looking,
        tokens_in=total_in,
        tokens_out=total_out,
        probes=asked,
        seconds_per_request=pace,
        asking_seconds=None if pace is None else pace * len(items) / model.concurrency,
        cost=cost if priced else None,
    )


def _ask(
    sample: Sequence[Described], recipe: Recipe, model: Endpoint, cache: Cache, probes: int
) -> int:
    """How many requests were made; 0 where the cache had every answer."""
    if not probes:
        return 0
    answers = ask_about(sample[:probes], recipe, model, cache)
    failed = [answer.reason for answer in answers if isinstance(answer, Failed)]
    if len(failed) == len(answers):
        raise DataError(f"{model.url}: every probe failed, the last with {failed[-1]!r}")
    return model.usage.requests


def _tokens(sample: Sequence[Described], recipe: Recipe) -> float:
    """Tokens of a request, the mean over the sample, by CLIP's tokenizer."""
    tokenizer = Tokenizer(context=2048)
    texts = [recipe.instruction, *(question_of(item).as_text() for item in sample)]
    ends = (tokenizer(texts) == tokenizer.end).argmax(axis=1) - 1
    return float(ends[0] + ends[1:].mean() + _ROLES)
