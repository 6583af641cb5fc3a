"""The image tower: patches, position embeddings, blocks, LayerNorm, plain mean over patches."""

from functools import partial
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from rwkvsearch.kernels import q_shift
from rwkvsearch.retrieval.rwkv_clip.config import ImageTowerConfig
from rwkvsearch.retrieval.rwkv_clip.mixing import Block, ChannelMix, TimeMix

GROUP_NORM_EPS = 1e-5


class ImageTower(nn.Module):
    """Pixels `[B, 3, S, S]` to features `[B, D]`.

    The features are a mean over patch tokens with nothing after it, so the score of an image is
    exactly the mean of the scores of its patches.
    """

    def __init__(self, config: ImageTowerConfig) -> None:
        super().__init__()
        width, rows = config.width, config.rows
        shift = partial(q_shift, heads=config.heads)
        self.patch_embed = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size)
        self.position = nn.Parameter(torch.zeros(1, rows * rows, width))
        self.blocks = nn.Sequential(
            *(
                Block(
                    TimeMix(width, config.heads, GROUP_NORM_EPS, shift),
                    ChannelMix(width, config.hidden, shift, toward_neighbour=False),
                    first=index == 0,
                )
                for index in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(width)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Return the normalised patch tokens `[B, T, D]`, row by row."""
        x = self.patch_embed(pixels).flatten(2).transpose(1, 2)  # [B, T, C]
        return self.norm(self.blocks(x + self._positions(x.shape[1])))  # type: ignore[no-any-return]

    def _positions(self, tokens: int) -> Tensor:
        """Return the position embeddings `[1, T, C]`, resized for an image of unusual size."""
        if tokens == self.position.shape[1]:
            return self.position
        usual, wanted = isqrt(self.position.shape[1]), isqrt(tokens)
        grid = self.position.view(1, usual, usual, -1).movedim(-1, 1)  # [1, C, rows, columns]
        grid = functional.interpolate(grid.float(), (wanted, wanted), mode="bicubic")
        return grid.flatten(2).mT

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features `[B, D]`, not normalised."""
        return self.tokens(pixels).mean(1)
