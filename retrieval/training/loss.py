"""The terms of the loss: symmetric contrast, and targets of frozen teachers."""

import math

import torch
from torch import Tensor
from torch.nn import functional

MAX_LOG_SCALE = math.log(100)
"""The learned scale is clamped here."""
RELATION_SCALE = 20.0
"""Inverse temperature of the similarities that `class_loss` and `relation_loss` compare."""


def contrastive_loss(images: Tensor, texts: Tensor, log_scale: Tensor, groups: Tensor) -> Tensor:
    """Cross-entropy of images against texts and texts against images, averaged.

    Args:
        images: features `[B, D]`, not normalised.
        texts: features `[B, D]`, row i belongs to image i.
        log_scale: scalar parameter, the logarithm of the inverse temperature.
        groups: `[B]`; rows of one group are positives of each other, each with equal weight.

    Returns:
        Scalar in float32. Source: RWKV-CLIP (arXiv 2406.06973), section 3.3.
    """
    scale = log_scale.clamp(0, MAX_LOG_SCALE).exp()
    images, texts = (functional.normalize(x.float(), dim=-1) for x in (images, texts))
    logits = scale * images @ texts.T  # [B, B]
    same = (groups[:, None] == groups[None]).float()
    targets = same / same.sum(1, keepdim=True)
    by_image = functional.cross_entropy(logits, targets)
    by_text = functional.cross_entropy(logits.T, targets)
    result: Tensor = (by_image + by_text) / 2
    return torch.as_tensor(result)


def target_loss(features: Tensor, targets: Tensor) -> Tensor:
    """One minus the cosine of `[..., D]` features and targets, averaged; a scalar in float32."""
    return 1 - functional.cosine_similarity(features.float(), targets.float(), dim=-1).mean()


def class_loss(features: Tensor, classes: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of features among the targets of all classes, summed; a scalar in float32.

    Args:
        features: `[B, D]`, not normalised.
        classes: `[B]`, the row of each in `targets`, or -1 for one that has no class.
        targets: `[K, D]`, not normalised.
    """
    features, targets = (functional.normalize(x.float(), dim=-1) for x in (features, targets))
    logits = RELATION_SCALE * features @ targets.T
    return functional.cross_entropy(logits, classes, ignore_index=-1, reduction="sum")


def relation_loss(
    images: Tensor, texts: Tensor, image_targets: Tensor, text_targets: Tensor
) -> Tensor:
    """How far the similarities in a batch are from those of the teachers: soft targets.

    For each image the cross-entropy of its similarities to all `[M, D]` texts, under those of the
    `[B, D]` image targets to the text targets, less the entropy of the latter, so that 0 is
    reached; the same for each text; averaged. Scalar in float32.
    """
    images, texts, image_targets, text_targets = (
        functional.normalize(x.float(), dim=-1)
        for x in (images, texts, image_targets, text_targets)
    )
    student, teacher = (
        RELATION_SCALE * a @ b.T for a, b in ((images, texts), (image_targets, text_targets))
    )
    terms = [
        functional.kl_div(
            s.log_softmax(1), t.log_softmax(1), reduction="batchmean", log_target=True
        )
        for s, t in ((student, teacher), (student.T, teacher.T))
    ]
    return torch.as_tensor((terms[0] + terms[1]) / 2)
