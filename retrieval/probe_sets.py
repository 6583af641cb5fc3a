"""The sets of a linear probe: their features, with one numbering of the classes for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.fingerprint import fingerprint
from rwkvsearch.data.labelled import LabelledSet
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.labelled_embeddings import (
    Cache,
    LabelledVectors,
    Progress,
    embed_labelled_set,
)
from rwkvsearch.retrieval.probe import Labelled, held_out


@dataclass(frozen=True)
class ProbeSets:
    """What to train on and what to test on; `names` are of the classes, in their order."""

    train: Labelled
    test: Labelled
    names: tuple[str, ...]
    unreadable: tuple[ImageError, ...]
    fingerprint: str


def check_labels(train: LabelledSet, test: LabelledSet) -> None:
    """Make sure, before features are computed, that every class of the test can be learnt.

    Raises:
        DataError: the test has labels that the training set lacks.
    """
    _refuse_unknown(train, test, set(train.labels), test.labels)


def embed_probe_sets(
    encoder: Encoder, train: LabelledSet, test: LabelledSet | None, cache: Cache, progress: Progress
) -> ProbeSets:
    """Compute the features of both sets, or of one that is split by content.

    Raises:
        DataError: no picture of a set can be read, fewer than two classes are left, or the test
            has classes that the training set lacks.
    """
    found = embed_labelled_set(train, encoder, encoder.encode_features, progress, cache)
    labels = sorted(set(found.labels))
    if len(labels) < 2:
        raise DataError(f"{train.name}: pictures of fewer than two classes can be read")
    names = tuple(train.spoken(label) for label in labels)
    known = _labelled(found, labels)
    if test is None:
        held = held_out(known.labels, known.contents)
        if not held.any():
            raise DataError(f"{train.name}: no class has two pictures to test on one of them")
        parts = known.part(~held), known.part(held)
        return ProbeSets(*parts, names, found.unreadable, found.fingerprint)
    other = embed_labelled_set(test, encoder, encoder.encode_features, progress, cache)
    _refuse_unknown(train, test, set(labels), sorted(set(other.labels)))
    unreadable = (*found.unreadable, *other.unreadable)
    both = fingerprint([("train", found.fingerprint), ("test", other.fingerprint)])
    return ProbeSets(known, _labelled(other, labels), names, unreadable, both)


def _labelled(found: LabelledVectors, labels: Sequence[str]) -> Labelled:
    numbers = {label: number for number, label in enumerate(labels)}
    return Labelled(
        found.vectors, np.array([numbers[label] for label in found.labels]), found.contents
    )


def _refuse_unknown(
    train: LabelledSet, test: LabelledSet, known: set[str], asked: Sequence[str]
) -> None:
    if unknown := [label for label in asked if label not in known]:
        raise DataError(
            f"{test.name}: {len(unknown)} of its {len(asked)} labels are not in {train.name}, "
            f"the first is {unknown[0]!r}"
        )
