"""RWKV-CLIP: two towers and one learned scale."""

import math

import torch
from torch import Tensor, nn

from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.rwkv_clip.image_tower import ImageTower
from rwkvsearch.retrieval.rwkv_clip.text_tower import TextTower


class RwkvClip(nn.Module):
    """Both towers, whose features meet in one space without projection heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ImageTower(config.image)
        self.text = TextTower(config.text)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image features `[B, D]`, text features `[B, D]` and the scale, none normalised."""
        return self.image(pixels), self.text(ids), self.logit_scale.exp()
