"""Measure how to leave out what is not wanted, and how to ask for two things at once.

Run as `python -m rwkvsearch.retrieval.algebra_bench --data flickr8k --split val`. Queries are pairs
of everyday words. For `X - Y` those pictures are right whose captions mention X and never Y; for
`X and Y` those that mention both. Prints for each way the average precision, and what is among the
first ten.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.captions import load_captions
from rwkvsearch.data.descriptions.vocabulary import Word, everyday_words, with_article
from rwkvsearch.retrieval.algebra import combine, standings
from rwkvsearch.retrieval.benchmark import embed_images, embed_texts
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.trials import SURE, Floats, Photographs, mentions

FEWEST = 8
"""A pair of words is asked if so many pictures are right, and so many would be wrong."""
FIRST = 10
Bools = NDArray[np.bool_]
Way = Callable[[Floats, Floats], Floats]
"""From the embeddings of two terms `[2, D]` and the images `[I, D]` to scores `[I]`."""


def _projected(terms: Floats, images: Floats) -> Floats:
    wanted, unwanted = terms
    scores: Floats = images @ (wanted - (wanted @ unwanted) * unwanted)
    return scores


def _penalised(weight: float) -> Way:
    """As a query does it, but with this weight in the end."""

    def way(terms: Floats, images: Floats) -> Floats:
        wanted, unwanted = _standings(terms, images)
        scores: Floats = wanted - np.float32(weight) * unwanted
        return scores

    return way


def _standings(terms: Floats, images: Floats) -> Floats:
    scores = terms @ images.T
    return standings(scores, scores)


NOT: dict[str, Way] = {
    "X alone": lambda terms, images: images @ terms[0],
    "orthogonal projection": _projected,
    **{f"penalty {weight}": _penalised(weight) for weight in (0.25, 0.5, 0.75, 1.0, 1.5)},
    "as shipped": lambda terms, images: (
        images @ combine(terms, np.array([1, -1], np.float32), images)
    ),
}
AND: dict[str, Way] = {
    "X alone": lambda terms, images: images @ terms[0],
    "sum of standings": lambda terms, images: _standings(terms, images).sum(axis=0),
    "least standing (--and)": lambda terms, images: _standings(terms, images).min(axis=0),
    "least cosine": lambda terms, images: (terms @ images.T).min(axis=0),
}


def average_precision(scores: Floats, right: Bools) -> float:
    """Mean over the right ones of the share of right ones among those not below them."""
    hits = right[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def excluding(
    ways: dict[str, Way], photographs: Photographs, words: Floats, said: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """For each way and pair: average precision; of the first ten the right, those with X and Y.

    `said` `[I, W]` counts the captions that mention each word, `words` are their embeddings.
    """
    rows: dict[str, list[list[float]]] = {way: [] for way in ways}
    for x, y in permutations(range(len(words)), 2):
        right = (said[:, x] >= SURE) & (said[:, y] == 0)
        wrong = (said[:, x] > 0) & (said[:, y] > 0)
        if min(right.sum(), wrong.sum()) < FEWEST:
            continue
        for name, way in ways.items():
            scores = way(words[[x, y]], photographs.images)
            first = np.argsort(-scores, kind="stable")[:FIRST]
            found = [right[first], said[first, x] > 0, said[first, y] > 0]
            shares = [float(each.mean()) for each in found]
            rows[name].append([average_precision(scores, right), *shares])
    return {name: np.array(figures) for name, figures in rows.items()}


def requiring(
    ways: dict[str, Way], photographs: Photographs, words: Floats, said: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """For each way and pair: average precision; of the first ten those with both, X, Y."""
    rows: dict[str, list[list[float]]] = {way: [] for way in ways}
    for x, y in combinations(range(len(words)), 2):
        right = (said[:, x] >= SURE) & (said[:, y] >= SURE)
        if right.sum() < FEWEST:
            continue
        for name, way in ways.items():
            scores = way(words[[x, y]], photographs.images)
            first = np.argsort(-scores, kind="stable")[:FIRST]
            one, other = said[first, x] > 0, said[first, y] > 0
            shares = [float(each.mean()) for each in (one & other, one, other)]
            rows[name].append([average_precision(scores, right), *shares])
    return {name: np.array(figures) for name, figures in rows.items()}


def _table(title: str, columns: str, found: dict[str, NDArray[np.float64]]) -> Iterable[str]:
    base = next(iter(found.values()))[:, 0]
    yield f"\n{title}: {len(base)} pairs, in percent"
    yield f"{'':<24}{'AP':>6}  gain on the first [95 %]{columns}"
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(base), (1000, len(base)))
    for name, figures in found.items():
        gain = figures[:, 0] - base
        low, high = np.quantile(gain[drawn].mean(axis=1), [0.025, 0.975])
        interval = f"{100 * gain.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        means = 100 * figures.mean(axis=0)
        shares = "".join(f"{share:>10.1f}" for share in means[1:])
        yield f"{name:<24}{means[0]:>6.1f}  {interval:<24}{shares}"


def asked_words(photographs: Photographs) -> tuple[Word, ...]:
    """Everyday words that name no group and are mentioned often enough."""
    groups = {word.parent for word in everyday_words().values()}
    known = [word for word in everyday_words().values() if word.name not in groups]
    said = mentions(photographs, known, narrower=True)
    often = (said >= SURE).sum(axis=0) >= FEWEST
    return tuple(word for word, enough in zip(known, often, strict=True) if enough)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Measure --not and --and.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    asked = parser.parse_args()
    encoder = Encoder.load(asked.model, precision=asked.precision)
    items = load_captions(asked.data, asked.split).images
    images = embed_images(encoder, (item.source() for item in items), lambda more: None)
    for line in report(encoder, images, [item.captions for item in items]):
        sys.stdout.write(f"{line}\n")


def report(encoder: Encoder, images: Floats, captions: list[tuple[str, ...]]) -> Iterable[str]:
    """Both tables for images `[I, D]` and what is said about each."""
    owner = np.repeat(np.arange(len(captions)), [len(each) for each in captions])
    everything = tuple(caption for each in captions for caption in each)
    photographs = Photographs(images, np.empty((0, 0), np.float32), owner, everything)
    words = asked_words(photographs)
    texts = [with_article(w.name) if w.kind == "thing" else w.name for w in words]
    embeddings = embed_texts(encoder, [encoder.card.prompt + t for t in texts], lambda more: None)
    said = mentions(photographs, words, narrower=True)
    yield f"{encoder.model_id}: {len(images)} pictures, {len(words)} words"
    yield from _table(
        "X - Y",
        f"{'right':>12}{'X':>10}{'Y':>10}   of the first ten",
        excluding(NOT, photographs, embeddings, said),
    )
    yield from _table(
        "X and Y",
        f"{'both':>12}{'X':>10}{'Y':>10}   of the first ten",
        requiring(AND, photographs, embeddings, said),
    )


if __name__ == "__main__":
    main()
