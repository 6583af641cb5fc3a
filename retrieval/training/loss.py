"""The symmetric contrastive loss."""

import math

import torch
from torch import Tensor
from torch.nn import functional

MAX_LOG_SCALE = math.log(100)
"""The learned scale is clamped here."""


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
