"""Measure the confidence: does it tell what is in a library from what is not?

Run as `python -m rwkvsearch.retrieval.calibration --data flickr8k --split test`: asks libraries
made of the photographs for what is in them and for what was removed, and prints the ROC-AUC of the
confidence of the best hit, and how often the picture was there for each confidence. `--queries`
asks a folder of pictures the queries of a file. `--fit` prints the constants of `confidence.py`.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.captions import load_captions
from rwkvsearch.data.descriptions.vocabulary import with_article
from rwkvsearch.data.images import read_image
from rwkvsearch.data.walk import find_images
from rwkvsearch.retrieval.benchmark import embed_images, embed_texts
from rwkvsearch.retrieval.confidence import (
    LIKELY,
    Confidence,
    Curve,
    Floats,
    neutral_captions,
    stretch,
)
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.near_duplicates import ALTERATIONS
from rwkvsearch.retrieval.trials import (
    Photographs,
    Trial,
    Vocabulary,
    all_words,
    copies,
    countable_words,
    few,
    halves,
    removed,
    unrelated,
    words,
)

Doubles = NDArray[np.float64]
WAYS = ("quality 60", "5 % cut off", "15 % brighter")
COPIED = 200
"""So many photographs are altered."""
BINS = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Judged:
    """One row per query: what the best hit got, and whether the picture was there and found."""

    lead: Doubles
    """How far the best score is above the usual one, in spreads."""
    confidence: Doubles
    there: NDArray[np.bool_]
    rank: NDArray[np.int64]
    """Of the right picture, from 1; 0 if it is not there."""
    group: NDArray[np.int64]


def judge(photographs: Photographs, neutral: Floats, trials: Iterable[Trial]) -> Judged:
    """Ask every query of every trial."""
    rows = []
    for trial in trials:
        library = photographs.images[trial.library]
        known = Confidence(library, neutral)
        scores = trial.queries @ library.T
        make = {"texts": 1 - trial.picture, "pictures": int(trial.picture)}
        norm = known.norm(len(library), **make)
        best = scores.max(axis=1)
        lead = (stretch(best) - norm.middle) / norm.spread
        own = np.where(trial.library == trial.right[:, None], scores, np.inf).min(axis=1)
        rank = np.where(trial.right < 0, 0, (scores >= own[:, None]).sum(axis=1))
        confidence = known.of(best, len(library), **make)
        rows.append((lead, confidence, trial.right >= 0, rank, trial.group))
    return Judged(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def roc_auc(present: Doubles, absent: Doubles) -> float:
    """How often a value of `present` is above one of `absent`; equal ones count half."""
    ordered = np.sort(absent)
    below = np.searchsorted(ordered, present, "left") + np.searchsorted(ordered, present, "right")
    return float(below.mean() / 2 / len(ordered))


def auc_interval(judged: Judged, rounds: int = 500) -> tuple[float, float, float]:
    """ROC-AUC of the confidence with a 95 % bootstrap interval over the groups."""
    random = np.random.default_rng(0)
    groups = np.unique(judged.group, return_inverse=True)[1]
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])

    def auc(rows: NDArray[np.int64]) -> float:
        there = judged.there[rows]
        return roc_auc(judged.confidence[rows][there], judged.confidence[rows][~there])

    drawn = [
        auc(np.concatenate([members[g] for g in random.integers(0, len(members), len(members))]))
        for _ in range(rounds)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return auc(np.arange(len(groups))), float(low), float(high)


def fit(judged: Sequence[Judged]) -> Curve:
    """The logistic curve from lead to confidence; present and absent of each weigh the same."""
    lead = np.concatenate([each.lead for each in judged])
    there = np.concatenate([each.there for each in judged]).astype(float)
    weight = np.concatenate(
        [np.where(e.there, 1 / e.there.sum(), 1 / (~e.there).sum()) for e in judged]
    )
    inputs = np.stack([lead, np.ones_like(lead)], axis=1)
    curve = np.zeros(2)
    for _ in range(50):  # Newton's method
        chance = 1 / (1 + np.exp(-inputs @ curve))
        slopes = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs
        curve = curve - np.linalg.solve(slopes, inputs.T @ (weight * (chance - there)))
    return Curve(*curve.tolist())


def read_photographs(encoder: Encoder, data: Path, split: str | None) -> tuple[Photographs, Floats]:
    """Embed a captioned set, and altered copies `[A, K, D]` of its first pictures."""
    items = load_captions(data, split).images
    captions = tuple(caption for item in items for caption in item.captions)
    owner = np.repeat(np.arange(len(items)), [len(item.captions) for item in items])
    images = embed_images(encoder, (item.source() for item in items), _quiet)
    originals = [read_image(item.source()) for item in items[:COPIED]]
    altered = [encoder.encode_images([ALTERATIONS[way](i) for i in originals]) for way in WAYS]
    texts = embed_texts(encoder, captions, _quiet)
    return Photographs(images, texts, owner, captions), np.stack(altered)


def read_vocabulary(encoder: Encoder) -> Vocabulary:
    """Embed the words for things, as the model's prompt has them, without and with article."""
    known = countable_words()
    prompt = encoder.card.prompt
    ways = ([word.name for word in known], [with_article(word.name) for word in known])
    return Vocabulary(
        known, *(embed_texts(encoder, [prompt + t for t in way], _quiet) for way in ways)
    )


def text_trials(photographs: Photographs, vocabulary: Vocabulary) -> dict[str, list[Trial]]:
    """All trials with texts, by what the table calls them; `FITTED` are for fitting."""
    sizes = (10, 30, 100, 250)
    return (
        {"captions, half removed": list(halves(photographs))}
        | {f"captions, {n} pictures": list(few(photographs, n, 2000 // n)) for n in (10, 100)}
        | {f"captions, {n}, unrelated": list(unrelated(photographs, n, 150)) for n in sizes}
        | {"words, 100 pictures": list(words(photographs, vocabulary, 100))}
        | {"words, all pictures": list(all_words(photographs, vocabulary))}
        | {"words, all of them removed": list(removed(photographs, vocabulary))}
    )


FITTED = ("unrelated", "words, 100 ", "words, all pictures")


def _reliability(judged: Judged) -> Iterable[str]:
    """For each confidence how many queries, and which share has its picture there, and found."""
    yield f"{'confidence':<12}{'queries':>8}{'there':>8}{'first':>8}{'in 10':>8}   in percent"
    for low, high in zip(BINS[:-1], BINS[1:], strict=True):
        rows = (judged.confidence >= low) & (judged.confidence < high + (high == 1))
        if rows.any():
            found = [
                judged.there[rows],
                judged.rank[rows] == 1,
                (judged.rank[rows] > 0) & (judged.rank[rows] <= 10),
            ]
            shares = "".join(f"{100 * share.mean():>8.1f}" for share in found)
            yield f"{low:.1f} to {high:.1f}  {rows.sum():>8}{shares}"


def _measured(name: str, judged: Judged) -> str:
    auc, low, high = auc_interval(judged)
    likely = judged.confidence >= LIKELY
    yes, no = 100 * likely[judged.there].mean(), 100 * (~likely[~judged.there]).mean()
    return (
        f"{name:<34}{judged.there.sum():>7}{(~judged.there).sum():>8}"
        f"   {auc:.3f} [{low:.3f}, {high:.3f}]{yes:>8.0f}{no:>8.0f}"
    )


def _report(encoder: Encoder, data: Path, split: str | None, fitting: bool) -> Iterable[str]:
    photographs, altered = read_photographs(encoder, data, split)
    neutral = embed_texts(encoder, [encoder.card.prompt + t for t in neutral_captions()], _quiet)
    vocabulary = read_vocabulary(encoder)
    trials = text_trials(photographs, vocabulary)
    asked = {name: judge(photographs, neutral, each) for name, each in trials.items()}
    shown = {
        f"pictures, {n}, altered copies": judge(
            photographs, neutral, copies(photographs, altered, n, COPIED)
        )
        for n in (10, 100, 250)
    }
    for_fit = [each for name, each in asked.items() if any(part in name for part in FITTED)]
    yield f"{encoder.model_id}, {data.name} {split or ''}: {len(photographs.images)} pictures"
    yield f"{'':<34}{'there':>7}{'absent':>8}   ROC-AUC [95 %]{'there':>15}{'absent':>8}"
    yield f"{'':<65}{'confident':>8}{'not, %':>8}"
    yield from (_measured(name, each) for name, each in (asked | shown).items())
    for title, parts in {
        "captions, half removed": [asked["captions, half removed"]],
        "texts, what is absent is certainly absent": for_fit,
        "pictures": list(shown.values()),
    }.items():
        yield f"\n{title}"
        yield from _reliability(_together(parts))
    if fitting:
        yield f"\nTEXT = {fit(for_fit)}\nPICTURE = {fit(list(shown.values()))}"


def _together(parts: Sequence[Judged]) -> Judged:
    columns = ("lead", "confidence", "there", "rank", "group")
    return Judged(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _answers(encoder: Encoder, photos: Path, file: Path) -> Iterable[str]:
    """Ask the pictures of a folder the queries of a file of `query TAB right picture ...`."""
    paths = sorted(find_images(photos))
    images = embed_images(encoder, paths, _quiet)
    prompt = encoder.card.prompt
    neutral = embed_texts(encoder, [prompt + text for text in neutral_captions()], _quiet)
    confidence = Confidence(images, neutral)
    right = {True: 0, False: 0}
    lines = [line.split("\t") for line in file.read_text("utf-8").splitlines()]
    for query, *expected in lines:
        scores = images @ encoder.encode_texts([prompt + query])[0]
        best = int(scores.argmax())
        found = float(confidence.of(scores[[best]], len(images))[0])
        correct = (found >= LIKELY) == bool(expected)
        correct &= not expected or paths[best].name in expected
        right[bool(expected)] += correct
        verdict = "right" if correct else "WRONG"
        there = "there" if expected else "absent"
        yield f"{there:<7}{verdict:<6}{found:.2f}  {query:<34}{paths[best].name}"
    named = sum(len(line) > 1 for line in lines)
    yield f"there: {right[True]} of {named} right picture first and confident"
    yield f"absent: {right[False]} of {len(lines) - named} without a confident match"


def _quiet(_more: int) -> None:
    """Nobody watches."""


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description="Measure the confidence.")
    parser.add_argument(
        "--data", type=Path, required=True, help="captions, or with --queries photos"
    )
    parser.add_argument("--split")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--fit", action="store_true", help="print the constants")
    parser.add_argument("--queries", type=Path, help="lines of query TAB right picture ...")
    asked = parser.parse_args()
    encoder = Encoder.load(asked.model, precision=asked.precision)
    if asked.queries:
        lines = _answers(encoder, asked.data, asked.queries)
    else:
        lines = _report(encoder, asked.data, asked.split, asked.fit)
    for line in lines:
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
