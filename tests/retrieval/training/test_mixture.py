"""Batches: pure functions of (seed, step), dealt out to processes, with their targets."""

import numpy as np
import pytest
import torch
from PIL import Image

from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval.training.examples import Example, Picture, Source
from rwkvsearch.retrieval.training.mixture import (
    Batch,
    augment,
    make_batch,
    plan_batch,
    share_of,
)
from rwkvsearch.retrieval.training.targets import Targets


def batch_of(sources: list[Source], tokenize: Tokenizer, step: int = 0, size: int = 16) -> Batch:
    return make_batch(plan_batch(sources, seed=0, step=step), tokenize, size=size, patch=8, seed=0)


def example(picture: Image.Image, text: str, group: str) -> Example:
    return Example(Picture(None, picture), {"raw": (text,)}, group)


def test_shape(sources: list[Source], tokenize: Tokenizer) -> None:
    batch = batch_of(sources, tokenize, size=24)
    assert batch.pixels.shape == (7, 3, 24, 24) and batch.pixels.dtype == np.float32
    assert batch.ids.shape == (7, 12) and batch.groups.shape == (7,) and batch.pairs == 7


def test_a_pure_function_of_seed_and_step(sources: list[Source], tokenize: Tokenizer) -> None:
    def draw(seed: int, step: int) -> tuple[bytes, bytes, bytes]:
        np.random.seed(step)  # the state of the process is not part of it
        plan = plan_batch(sources, seed=seed, step=step)
        batch = make_batch(plan, tokenize, size=16, patch=8, seed=seed)
        return batch.pixels.tobytes(), batch.ids.tobytes(), batch.groups.tobytes()

    drawn = {(seed, step): draw(seed, step) for seed in (0, 1) for step in (0, 1, 2)}
    assert len(set(drawn.values())) == 6
    assert all(draw(*key) == drawn[key] for key in reversed(drawn))


def test_pairs_stay_together(tokenize: Tokenizer) -> None:
    """Pictures of one grey each, texts that name it: the text of a row fits its pixels."""
    examples = [
        example(Image.new("RGB", (20, 30), (n * 28,) * 3), f"grey {n}", str(n)) for n in range(9)
    ]
    batch = batch_of([Source(examples, 9)], tokenize, step=3, size=8)
    names = [ids.tobytes() for ids in tokenize([f"grey {n}" for n in range(9)])]
    numbers = [names.index(ids.tobytes()) for ids in batch.ids]
    assert sorted(numbers) == list(range(9))  # none twice
    light = batch.pixels.mean((1, 2, 3))
    assert np.corrcoef(numbers, light)[0, 1] > 0.9


def test_one_kind_of_text_at_a_time_each_as_often(tokenize: Tokenizer) -> None:
    texts = {"raw": ("a", "b", "c"), "synthetic": ("d",), "generated": ("e", "f")}
    source = Source([Example(Picture(None, Image.new("RGB", (4, 4))), texts, "x")], 1)
    drawn = [plan_batch([source], seed=0, step=step).texts[0] for step in range(600)]
    kinds = [sum(text in of_kind for text in drawn) for of_kind in texts.values()]
    assert all(150 < count < 250 for count in kinds) and set(drawn) == set("abcdef")


def test_positives_of_one_group_share_a_number(sources: list[Source], tokenize: Tokenizer) -> None:
    for step in range(5):
        batch = batch_of(sources, tokenize, step, size=8)
        assert len(set(batch.groups[:4])) == 4
        texts = [ids.tobytes() for ids in batch.ids[4:]]
        for i in range(3):
            for j in range(3):
                same = batch.groups[4 + i] == batch.groups[4 + j]
                assert same == (texts[i] == texts[j])


def test_equal_texts_merge_groups(tokenize: Tokenizer) -> None:
    picture = Image.new("RGB", (16, 16))
    texts = ["a dog", "a cat", "a dog", "a bird", "a cow"]
    examples = [example(picture, t, g) for t, g in zip(texts, "12325", strict=True)]
    batch = batch_of([Source(examples, 5)], tokenize)
    by_text = dict(zip(map(bytes, batch.ids), batch.groups.tolist(), strict=True))
    dog, cat, bird, cow = (
        by_text[bytes(ids)] for ids in tokenize(["a dog", *texts[1::2], "a cow"])
    )
    assert cat == bird and len({dog, cat, cow}) == 3
    assert sorted(np.unique(batch.groups, return_counts=True)[1].tolist()) == [1, 2, 2]


def test_pictures_without_text_and_further_sentences(
    sources: list[Source], tokenize: Tokenizer
) -> None:
    alone = [Example(Picture(None, Image.new("RGB", (9, 9))), {}, str(n)) for n in range(3)]
    plan = plan_batch([Source(alone, 2), *sources], seed=0, step=0, sentences=["x", "y"], extra=3)
    batch = make_batch(plan, tokenize, size=16, patch=8, seed=0)
    assert batch.pairs == 7 and len(batch.pixels) == 9 and len(batch.ids) == 10
    assert batch.pixels[7:].std((2, 3)).max() < 1e-5  # the plain pictures come last


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_parts_make_up_the_whole(
    sources: list[Source], tokenize: Tokenizer, targets: Targets, parts: int
) -> None:
    plan = plan_batch(sources, seed=0, step=4, sentences=targets.texts, extra=4)

    def make(part: int, parts: int) -> Batch:
        return make_batch(
            plan, tokenize, size=16, patch=8, seed=0, targets=targets, part=part, parts=parts
        )

    whole, dealt = make(0, 1), [make(part, parts) for part in range(parts)]
    assert sum(b.pairs for b in dealt) == whole.pairs == 7
    assert np.array_equal(np.concatenate([b.pixels for b in dealt]), whole.pixels)
    assert np.array_equal(np.concatenate([b.ids[: b.pairs] for b in dealt]), whole.ids[:7])
    assert np.array_equal(np.concatenate([b.ids[b.pairs :] for b in dealt]), whole.ids[7:])
    assert whole.patch_targets is not None and whole.patch_targets.shape == (7, 4, 32)
    cut = [b.patch_targets for b in dealt if b.patch_targets is not None]
    assert torch.equal(torch.cat(cut), whole.patch_targets)
    assert {b.images_in_all for b in dealt} == {7} and {b.texts_in_all for b in dealt} == {11}


def test_shares_are_even() -> None:
    for count in range(10):
        for parts in range(1, 5):
            cuts = [share_of(count, part, parts) for part in range(parts)]
            assert cuts[0][0] == 0 and cuts[-1][1] == count
            assert all(a[1] == b[0] for a, b in zip(cuts, cuts[1:], strict=False))
            sizes = [end - start for start, end in cuts]
            assert max(sizes) - min(sizes) <= 1


class TestAugment:
    def test_pictures_stay_pictures(self, pictures: list[Image.Image]) -> None:
        random = np.random.default_rng(0)
        for picture in (*pictures, Image.new("RGB", (500, 3)), Image.new("RGB", (1, 1))):
            for _ in range(10):
                view = augment(picture, 16, random)
                assert view.pixels.shape == (3, 16, 16) and view.pixels.dtype == np.float32
                assert np.abs(view.pixels).max() < 4
                left, top, width, height = view.box
                assert (
                    0 <= left <= left + width <= 1 + 1e-9 and 0 <= top <= top + height <= 1 + 1e-9
                )

    def test_the_box_says_what_is_shown(self) -> None:
        """A picture whose red says how far right and whose green how far down a pixel is."""
        ramp = np.linspace(0, 255, 200).astype(np.uint8)
        red, green = np.meshgrid(ramp, ramp)
        picture = Image.fromarray(np.stack([red, green, np.full_like(red, 128)], -1))
        random = np.random.default_rng(0)
        for _ in range(20):
            view = augment(picture, 32, random, least_area=0.2)
            red, green, blue = view.pixels
            left, top, width, height = view.box
            step = -1 if view.mirrored else 1
            across = np.polyfit(range(32), red.mean(0)[::step], 1)[0]
            down = np.polyfit(range(32), green.mean(1), 1)[0]
            assert across > 0 and down > 0
            # Contrast is unknown, but the same for both, up to the spread of the channels.
            assert across / down == pytest.approx(width / height * 0.2613 / 0.26863, rel=0.03)
            assert blue.std() < 1e-3 and left + top >= 0

    def test_crops_have_the_area_that_is_allowed(self) -> None:
        random, picture = np.random.default_rng(0), Image.new("RGB", (60, 40))
        views = [augment(picture, 4, random, least_area=0.5) for _ in range(200)]
        areas = [view.box[2] * view.box[3] for view in views]
        assert 0.4 < min(areas) < 0.6 and max(areas) > 0.9
        assert 60 < sum(view.mirrored for view in views) < 140
