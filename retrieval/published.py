"""Published figures of RWKV-CLIP and its peers, in percent, each row with its source.

Retrieval is zero-shot on Karpathy's test split, classification zero-shot top-1.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

KS = ("R@1", "R@5", "R@10")


@dataclass(frozen=True)
class PublishedRecall:
    """One row; `ours` is the name that its weights have here, if they can be had."""

    model: str
    trained_on: str
    ours: str | None
    source: str
    text_to_image: dict[str, float]
    image_to_text: dict[str, float]


@dataclass(frozen=True)
class PublishedSet:
    """The rows of one set, which has so many images."""

    name: str
    names: frozenset[str]
    split: str
    images: int
    rows: tuple[PublishedRecall, ...]


@dataclass(frozen=True)
class PublishedAccuracy:
    """Top-1 accuracy of one model by set, and its average over them."""

    model: str
    trained_on: str
    source: str
    top1: dict[str, float]
    average: float


@cache
def published_recall() -> tuple[PublishedSet, ...]:
    """Every set that has published rows here."""
    return tuple(
        PublishedSet(
            one["set"],
            frozenset(one["names"]),
            one["split"],
            one["images"],
            tuple(_row(row) for row in one["rows"]),
        )
        for one in _document()["retrieval"]
    )


@cache
def published_accuracy() -> tuple[PublishedAccuracy, ...]:
    """Every model that has published accuracies here."""
    return tuple(PublishedAccuracy(**one) for one in _document()["classification"])


def comparable(name: str, split: str | None, images: int) -> tuple[PublishedSet | None, str]:
    """The published rows that a result on such a set may stand beside; None, and why not.

    `name` as the file of captions has it; without a split the number of images decides.
    """
    known = published_recall()
    plain = re.sub(r"[^a-z0-9]|(_|-)?(karpathy|test)", "", name.lower())
    found = next((one for one in known if plain in one.names), None)
    if found is None:
        sets = " and ".join(one.name for one in known)
        return None, f"no published row for {name}: those known here are of {sets}"
    if split not in (None, found.split) or images != found.images:
        asked = f"{images:,} images" if split is None else f"{split} with {images:,} images"
        own = f"{found.split} with {found.images:,} images"
        return None, f"the published rows of {found.name} are of {own}, not of {asked}"
    return found, ""


def _row(row: dict[str, Any]) -> PublishedRecall:
    values = {d: dict(zip(KS, row[d], strict=True)) for d in ("text_to_image", "image_to_text")}
    return PublishedRecall(**{**row, **values})


def _document() -> dict[str, Any]:
    text = (files("rwkvsearch.retrieval") / "published.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
