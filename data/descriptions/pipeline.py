"""From pictures to described pictures, in batches, whatever happens to one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TypeVar

from rwkvsearch.data.descriptions import compose
from rwkvsearch.data.descriptions.asking import ask_about
from rwkvsearch.data.descriptions.cache import Cache
from rwkvsearch.data.descriptions.looking import Draft, look_at_all
from rwkvsearch.data.descriptions.protocols import LanguageModel
from rwkvsearch.data.descriptions.recipe import PICTURES_AT_ONCE, Recipe
from rwkvsearch.data.descriptions.texts import Described, Item, Text

T = TypeVar("T")


def describe(items: Iterable[Item], recipe: Recipe, cache: Cache) -> Iterator[Described]:
    """Describe every picture, in order; what the cache holds is not computed again.

    A picture that cannot be read has no texts and its reason in `error`; one without tags, caption
    or answer has the texts there are, and the reason too.

    Raises:
        ModelError: a model cannot go on at all.
    """
    for drafts in _looked_at(items, recipe, cache):
        if recipe.language_model is None:
            yield from (_composed(draft, recipe) for draft in drafts)
        else:
            half = [draft.done(_without_answer(draft, recipe)) for draft in drafts]
            yield from _answered(half, recipe, recipe.language_model, cache)


def prepare(items: Iterable[Item], recipe: Recipe, cache: Cache) -> Iterator[Described]:
    """The same without the generated texts: what a language model would be asked about."""
    for drafts in _looked_at(items, recipe, cache):
        yield from (draft.done(_without_answer(draft, recipe)) for draft in drafts)


def _looked_at(items: Iterable[Item], recipe: Recipe, cache: Cache) -> Iterator[list[Draft]]:
    with ThreadPoolExecutor() as pool:
        for batch in _batches(items, max(PICTURES_AT_ONCE, recipe.asked_at_once)):
            parts = _batches(batch, PICTURES_AT_ONCE)
            yield [d for part in parts for d in look_at_all(part, recipe, cache, pool)]


def _without_answer(draft: Draft, recipe: Recipe) -> list[Text]:
    """The raw texts and the synthetic one."""
    raw = [Text("raw", text, "set") for text in draft.item.raw]
    if recipe.captioner is None:
        made = compose.sentence(draft.tags, draft.look, draft.sha256)
        return [*raw, Text("synthetic", made.text, "offline", compose.MODEL_ID, made.confidence)]
    if draft.caption is None:
        return raw
    provider, model = recipe.captioner.provider, recipe.captioner.model_id
    return [*raw, Text("synthetic", draft.caption, provider, model)]


def _composed(draft: Draft, recipe: Recipe) -> Described:
    """All three kinds, the generated one composed offline."""
    sources = _without_answer(draft, recipe)
    told = [saying.text for saying in sources if saying.provider != "offline"]
    made = compose.fused(told, draft.tags, draft.look, draft.sha256)
    text = Text("generated", made.text, "offline", compose.MODEL_ID, made.confidence)
    return draft.done([*sources, text])


def _answered(
    items: Sequence[Described], recipe: Recipe, model: LanguageModel, cache: Cache
) -> Iterator[Described]:
    """All three kinds, the generated one by a language model."""
    usable = [item for item in items if item.sayings]
    answers = iter(ask_about(usable, recipe, model, cache))
    for item in items:
        answer = next(answers) if item.sayings else None
        if isinstance(answer, Text):
            yield replace(item, sayings=(*item.sayings, answer))
        else:
            reasons = [item.error, f"generated: {answer.reason}" if answer else None]
            yield replace(item, error="; ".join(filter(None, reasons)) or None)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
