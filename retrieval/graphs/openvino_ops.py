# ruff: noqa: D102
"""`Ops` of OpenVINO."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.retrieval.graphs.ops import Array, Node
from rwkvsearch.retrieval.graphs.quiet import openvino, opset


class OpenvinoOps:
    """Builds nodes of `opset13`."""

    add = staticmethod(opset.add)
    subtract = staticmethod(opset.subtract)
    multiply = staticmethod(opset.multiply)
    minimum = staticmethod(opset.minimum)
    maximum = staticmethod(opset.maximum)
    exp = staticmethod(opset.exp)
    tanh = staticmethod(opset.tanh)
    sigmoid = staticmethod(opset.sigmoid)
    relu = staticmethod(opset.relu)
    silu = staticmethod(opset.swish)

    def constant(self, values: NDArray[Any]) -> Node:
        return opset.constant(np.ascontiguousarray(values))

    def gelu(self, x: Node) -> Node:
        return opset.gelu(x, "erf")

    def matmul(self, a: Node, b: Node, *, transposed: bool = False) -> Node:
        return opset.matmul(a, b, False, transposed)

    def linear(self, x: Node, weight: Array) -> Node:
        return opset.matmul(x, self.constant(weight), False, True)

    def attention(self, q: Node, k: Node, v: Node, *, tokens: int, size: int, causal: bool) -> Node:
        return opset.scaled_dot_product_attention(q, k, v, causal=causal)

    def select(self, mask: NDArray[np.bool_], yes: Node, no: Node) -> Node:
        return opset.select(self.constant(mask), yes, no)

    def layer_norm(self, x: Node, eps: float, weight: Array, bias: Array | None = None) -> Node:
        y = opset.mvn(x, self._whole(-1), True, eps, "inside_sqrt")
        y = y if (weight == 1).all() else opset.multiply(y, self.constant(weight))
        return y if bias is None else opset.add(y, self.constant(bias))

    def unit_variance(self, x: Node, size: int, eps: float) -> Node:
        mean = opset.reduce_mean(opset.multiply(x, x), self._whole(-1), True)
        root = opset.sqrt(opset.add(mean, self.constant(np.array([eps], np.float32))))
        return opset.multiply(x, opset.divide(self.constant(np.ones(1, np.float32)), root))

    def unit_length(self, x: Node) -> Node:
        return opset.normalize_l2(x, self._whole(2), 1e-24, "max")

    def mean(self, x: Node, axis: int) -> Node:
        return opset.reduce_mean(x, self._whole(axis), False)

    def sum_last(self, x: Node) -> Node:
        return opset.reduce_sum(x, self._whole(-1), True)

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        return opset.reshape(x, self._whole(*shape), False)

    def transpose(self, x: Node, order: Sequence[int]) -> Node:
        return opset.transpose(x, self._whole(*order))

    def split(self, x: Node, parts: int, axis: int) -> list[Node]:
        return list(opset.split(x, opset.constant(np.int64(axis)), parts).outputs())

    def slice(self, x: Node, start: int, end: int, axis: int) -> Node:
        whole = self._whole
        return opset.slice(x, whole(start), whole(end), whole(1), whole(axis))

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        return opset.concat(list(parts), axis)

    def gather(self, x: Node, places: Node, axis: int) -> Node:
        return opset.gather(x, places, opset.constant(np.int64(axis)))

    def patches(self, pixels: Node, kernel: Array) -> Node:
        stride, none = list(kernel.shape[2:]), [0, 0]
        return opset.convolution(pixels, self.constant(kernel), stride, none, none, [1, 1])

    def _whole(self, *values: int) -> Node:
        return opset.constant(np.array(values, np.int64))


def parameter(shape: Sequence[int], dtype: type[np.generic]) -> openvino.Node:
    """Return the input of a graph; -1 in `shape` is any size."""
    return opset.parameter(openvino.PartialShape(list(shape)), dtype)
