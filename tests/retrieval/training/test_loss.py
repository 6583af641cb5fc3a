"""The terms of the loss against loops in float64, and at their least."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rwkvsearch.retrieval.training.loss import (
    MAX_LOG_SCALE,
    RELATION_SCALE,
    class_loss,
    contrastive_loss,
    relation_loss,
    target_loss,
)


def naive_loss(
    images: NDArray[np.float64], texts: NDArray[np.float64], log_scale: float, groups: Sequence[int]
) -> float:
    """The definition, one image and one text at a time, in float64."""
    scale = math.exp(min(max(log_scale, 0), math.log(100)))
    count, total = len(images), 0.0
    for one, other in ((images, texts), (texts, images)):
        for i in range(count):
            cosines = [
                float(one[i] @ x / np.linalg.norm(one[i]) / np.linalg.norm(x)) for x in other
            ]
            log_sum = math.log(sum(math.exp(scale * c) for c in cosines))
            own = [j for j in range(count) if groups[j] == groups[i]]
            total += sum(log_sum - scale * cosines[j] for j in own) / len(own)
    return total / count / 2


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 1], [3, 3, 3, 3, 3]])
@pytest.mark.parametrize("log_scale", [-1.0, 0.0, 1.3, math.log(1 / 0.07), 9.0])
def test_loss_equals_the_loop(log_scale: float, groups: list[int]) -> None:
    images, texts = (torch.randn(5, 8) * 3 for _ in range(2))
    got = contrastive_loss(images, texts, torch.tensor(log_scale), torch.tensor(groups))
    wanted = naive_loss(images.double().numpy(), texts.double().numpy(), log_scale, groups)
    assert got.dtype == torch.float32 and got.shape == ()
    assert float(got) == pytest.approx(wanted, rel=2e-6)


def test_loss_by_hand() -> None:
    """Two pairs, cosines 1 and 0, scale e^0 = 1: log(e + 1) - 1 in every row and column."""
    eye, groups = torch.eye(2), torch.arange(2)
    got = contrastive_loss(eye, eye, torch.tensor(0.0), groups)
    assert float(got) == pytest.approx(math.log(math.e + 1) - 1)
    merged = contrastive_loss(eye, eye, torch.tensor(0.0), torch.zeros(2, dtype=torch.long))
    assert float(merged) == pytest.approx(math.log(math.e + 1) - 0.5)


def test_loss_ignores_how_long_features_are_and_how_groups_are_numbered() -> None:
    images, texts, scale = torch.randn(4, 8), torch.randn(4, 8), torch.tensor(1.0)
    one = contrastive_loss(images, texts, scale, torch.tensor([0, 1, 0, 2]))
    other = contrastive_loss(images * 7, texts * 0.1, scale, torch.tensor([5, 9, 5, 1]))
    torch.testing.assert_close(one, other)


def test_gradient_of_the_loss_reaches_everything() -> None:
    leaves = [torch.randn(4, 8), torch.randn(4, 8), torch.tensor(1.0)]
    leaves = [x.requires_grad_() for x in leaves]
    grads = torch.autograd.grad(contrastive_loss(*leaves, torch.tensor([0, 1, 0, 2])), leaves)
    assert all(g.isfinite().all() and g.any() for g in grads)
    beyond = torch.tensor(MAX_LOG_SCALE + 1, requires_grad=True)
    contrastive_loss(*leaves[:2], beyond, torch.arange(4)).backward()
    assert beyond.grad is not None and beyond.grad == 0


def test_target_loss() -> None:
    """0 for the target at any length, 1 for what is at right angles, 2 for its opposite."""
    goal = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    assert target_loss(goal * 5, goal).item() == pytest.approx(0, abs=1e-6)
    assert target_loss(goal.flip(1) * torch.tensor([1.0, -1.0]), goal).item() == pytest.approx(1)
    assert target_loss(-goal, goal).item() == pytest.approx(2)
    assert target_loss(goal[None].bfloat16(), goal[None]).dtype == torch.float32


class TestRelation:
    def test_equals_the_loop(self) -> None:
        images, texts, image_goals, text_goals = (np.random.randn(n, 6) for n in (3, 4, 3, 4))

        def similarities(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
            a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
            return np.exp(RELATION_SCALE * a @ b.T)

        total = 0.0
        for a, b, c, d in (
            (images, texts, image_goals, text_goals),
            (texts, images, text_goals, image_goals),
        ):
            student, teacher = similarities(a, b), similarities(c, d)
            student, teacher = (x / x.sum(1, keepdims=True) for x in (student, teacher))
            total += float((teacher * np.log(teacher / student)).sum(1).mean())
        arrays = (torch.from_numpy(x) for x in (images, texts, image_goals, text_goals))
        assert float(relation_loss(*arrays)) == pytest.approx(total / 2, rel=1e-5)

    def test_least_for_the_same_relations_in_another_space(self) -> None:
        images, texts = torch.randn(5, 6), torch.randn(5, 6)
        turn, _ = torch.linalg.qr(torch.randn(6, 6))
        assert relation_loss(images @ turn, texts @ turn, images, texts).item() < 1e-5
        assert relation_loss(images, texts.flip(0), images, texts).item() > 0.1


def test_class_loss_equals_the_loop_and_passes_over_what_has_no_class() -> None:
    features, targets = torch.randn(4, 8) * 3, torch.randn(3, 8)
    rows = [2, -1, 0, 2]
    got = class_loss(features, torch.tensor(rows), targets)
    wanted = 0.0
    for feature, row in zip(features.double().numpy(), rows, strict=True):
        cosines = [
            float(feature @ t / np.linalg.norm(feature) / np.linalg.norm(t))
            for t in targets.double().numpy()
        ]
        log_sum = math.log(sum(math.exp(RELATION_SCALE * c) for c in cosines))
        wanted += log_sum - RELATION_SCALE * cosines[row] if row >= 0 else 0
    assert float(got) == pytest.approx(wanted, rel=1e-5)
