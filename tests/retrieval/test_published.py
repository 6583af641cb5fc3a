"""Published rows: complete, in percent, and beside results of the same data only."""

import pytest

from rwkvsearch.retrieval.models import MODELS
from rwkvsearch.retrieval.published import (
    KS,
    comparable,
    published_accuracy,
    published_recall,
)


def test_rows_are_complete() -> None:
    assert [(one.name, one.images) for one in published_recall()] == [
        ("Flickr30k", 1000),
        ("MSCOCO", 5000),
    ]
    for one in published_recall():
        assert len({row.model for row in one.rows}) == len(one.rows) == 5
        for row in one.rows:
            assert row.source and row.trained_on
            assert row.ours is None or row.ours in MODELS
            for values in (row.text_to_image, row.image_to_text):
                assert tuple(values) == KS
                assert 0 < values["R@1"] < values["R@5"] < values["R@10"] < 100


def test_the_average_is_that_of_the_sets() -> None:
    (row,) = published_accuracy()
    assert len(row.top1) == 11
    assert sum(row.top1.values()) / 11 == pytest.approx(row.average, abs=0.05)


@pytest.mark.parametrize(
    ("name", "split", "images", "expected"),
    [
        ("flickr30k", "test", 1000, "Flickr30k"),
        ("flickr30k_test", None, 1000, "Flickr30k"),
        ("Flickr30K_test_karpathy", "test", 1000, "Flickr30k"),
        ("coco", "test", 5000, "MSCOCO"),
        ("coco_karpathy_test", None, 5000, "MSCOCO"),
        ("MS-COCO", "test", 5000, "MSCOCO"),
        ("flickr30k", "val", 1014, None),
        ("coco", "test", 1000, None),
        ("flickr8k", "test", 1000, None),
        ("my photographs", None, 5000, None),
    ],
)
def test_what_can_be_compared(
    name: str, split: str | None, images: int, expected: str | None
) -> None:
    found, why = comparable(name, split, images)
    assert (found.name if found else None) == expected
    assert bool(why) == (found is None)


def test_why_not() -> None:
    assert comparable("flickr8k", "test", 1000)[1] == (
        "no published row for flickr8k: those known here are of Flickr30k and MSCOCO"
    )
    assert comparable("coco", None, 40_504)[1] == (
        "the published rows of MSCOCO are of test with 5,000 images, not of 40,504 images"
    )
