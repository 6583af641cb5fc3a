"""The transformers of `retrieval.speed` as graphs, to be compared with ours in the same engine."""

import numpy as np
from torch import nn

from rwkvsearch.retrieval.graphs.ops import Node, Ops
from rwkvsearch.retrieval.graphs.towers import array
from rwkvsearch.retrieval.speed import ClipImage, ClipText, TransformerBlock


def clip_image_graph(ops: Ops, tower: ClipImage, pixels: Node, batch: int) -> Node:
    """Return the features `[B, 512]` of `pixels` `[B, 3, 224, 224]`."""
    tokens, width = tower.position.shape[1:]
    x = ops.patches(pixels, array(tower.patches.weight))
    x = ops.transpose(ops.reshape(x, (-1, width, tokens - 1)), (0, 2, 1))
    first = np.broadcast_to(array(tower.first), (batch, 1, width))
    x = ops.concat((ops.constant(first), x), 1)
    x = _norm(ops, ops.add(x, ops.constant(array(tower.position))), tower.norm0)
    x = _blocks(ops, x, tower.blocks, tokens)
    x = ops.reshape(ops.slice(x, 0, 1, 1), (-1, width))
    return ops.linear(_norm(ops, x, tower.norm), array(tower.project.weight))


def clip_text_graph(ops: Ops, tower: ClipText, ids: Node) -> Node:
    """Return the features `[B, 512]` of the last token of `ids` `[B, 77]`."""
    tokens, width = tower.position.shape[1:]
    x = ops.gather(ops.constant(array(tower.embed.weight)), ids, 0)
    x = _blocks(ops, ops.add(x, ops.constant(array(tower.position))), tower.blocks, tokens)
    x = ops.reshape(ops.slice(x, tokens - 1, tokens, 1), (-1, width))
    return ops.linear(_norm(ops, x, tower.norm), array(tower.project.weight))


def _blocks(ops: Ops, x: Node, blocks: nn.Sequential, tokens: int) -> Node:
    for block in blocks:
        assert isinstance(block, TransformerBlock)
        width, size = (
            block.norm1.normalized_shape[0],
            block.norm1.normalized_shape[0] // block.heads,
        )
        q, k, v = (
            ops.transpose(ops.reshape(part, (-1, tokens, block.heads, size)), (0, 2, 1, 3))
            for part in ops.split(_linear(ops, _norm(ops, x, block.norm1), block.qkv), 3, 2)
        )
        y = ops.attention(q, k, v, tokens=tokens, size=size, causal=block.causal)
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, tokens, width))
        x = ops.add(x, _linear(ops, y, block.output))
        y = ops.gelu(_linear(ops, _norm(ops, x, block.norm2), block.up))
        x = ops.add(x, _linear(ops, y, block.down))
    return x


def _norm(ops: Ops, x: Node, norm: nn.LayerNorm) -> Node:
    return ops.layer_norm(x, norm.eps, array(norm.weight), array(norm.bias))


def _linear(ops: Ops, x: Node, layer: nn.Linear) -> Node:
    return ops.add(ops.linear(x, array(layer.weight)), ops.constant(array(layer.bias)))
