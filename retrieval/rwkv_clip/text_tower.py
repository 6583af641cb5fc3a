"""The text tower: token embeddings, blocks, LayerNorm, mean over unit-length tokens."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from rwkvsearch.kernels import bidirectional_shift
from rwkvsearch.retrieval.rwkv_clip.config import TextTowerConfig
from rwkvsearch.retrieval.rwkv_clip.mixing import Block, ChannelMix, TimeMix


class TextTower(nn.Module):
    """Token ids `[B, T]`, padded with 0 to the full context, to features `[B, D]`.

    Padding is ordinary input here: it is embedded, scanned and averaged, so T matters. There is no
    position embedding; the recurrence knows the order.
    """

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        norm_eps = 1e-5 * config.head_size_divisor**2
        shift = partial(bidirectional_shift, heads=heads)
        # nn.Embedding(...) would draw numbers, which on the meta device imports torch._dynamo.
        table = torch.empty(config.vocabulary, width)
        self.embed = nn.Embedding.from_pretrained(table, freeze=False)  # type: ignore[no-untyped-call]
        self.blocks = nn.Sequential(
            *(
                Block(
                    TimeMix(width, heads, norm_eps, shift),
                    ChannelMix(width, config.hidden, shift, toward_neighbour=True),
                    first=index == 0,
                )
                for index in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(width)

    def tokens(self, ids: Tensor) -> Tensor:
        """Return the tokens after the last LayerNorm, `[B, T, D]`."""
        return self.norm(self.blocks(self.embed(ids)))  # type: ignore[no-any-return]

    def forward(self, ids: Tensor) -> Tensor:
        """Return the features `[B, D]`: shorter than 1 where the tokens disagree."""
        return functional.normalize(self.tokens(ids), dim=-1).mean(1)
