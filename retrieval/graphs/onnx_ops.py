# ruff: noqa: D102
"""`Ops` of ONNX, operator set 17."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from rwkvsearch.retrieval.graphs.ops import Array, Node

OPSET = 17


def _operation(kind: str) -> Callable[..., Node]:
    def add(self: "OnnxOps", *inputs: Node) -> Node:
        return self.node(kind, inputs)

    return add


class OnnxOps:
    """Collects nodes and constants; a value is its name."""

    add = _operation("Add")
    subtract = _operation("Sub")
    multiply = _operation("Mul")
    minimum = _operation("Min")
    maximum = _operation("Max")
    exp = _operation("Exp")
    tanh = _operation("Tanh")
    sigmoid = _operation("Sigmoid")
    relu = _operation("Relu")

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Node:
        """Add a node; return the name of its output, or the names of several."""
        names = [f"{kind}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, values: NDArray[Any]) -> Node:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def number(self, value: float) -> Node:
        """Add a constant of no axes."""
        return self.constant(np.array(value, np.float32))

    def silu(self, x: Node) -> Node:
        return self.multiply(x, self.sigmoid(x))

    def gelu(self, x: Node) -> Node:
        half, one, root = (self.number(c) for c in (0.5, 1, 0.5**0.5))
        erf = self.node("Erf", [self.multiply(x, root)])
        return self.multiply(self.multiply(x, half), self.add(erf, one))

    def matmul(self, a: Node, b: Node, *, transposed: bool = False) -> Node:
        return self.node("MatMul", [a, self.transpose(b, (0, 1, 3, 2)) if transposed else b])

    def linear(self, x: Node, weight: Array) -> Node:
        return self.node("MatMul", [x, self.constant(weight.T)])

    def attention(self, q: Node, k: Node, v: Node, *, tokens: int, size: int, causal: bool) -> Node:
        scores = self.matmul(self.multiply(q, self.number(size**-0.5)), k, transposed=True)
        if causal:
            later = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
            scores = self.add(scores, self.constant(later))
        return self.matmul(self.node("Softmax", [scores], axis=-1), v)

    def select(self, mask: NDArray[np.bool_], yes: Node, no: Node) -> Node:
        return self.node("Where", [self.constant(mask), yes, no])

    def layer_norm(self, x: Node, eps: float, weight: Array, bias: Array | None = None) -> Node:
        inputs = [x, self.constant(weight), *([] if bias is None else [self.constant(bias)])]
        return self.node("LayerNormalization", inputs, epsilon=eps)

    def unit_variance(self, x: Node, size: int, eps: float) -> Node:
        return self.layer_norm(x, eps, np.ones(size, np.float32))

    def unit_length(self, x: Node) -> Node:
        norm = self.node("ReduceL2", [x], axes=[-1])
        return self.node("Div", [x, self.maximum(norm, self.number(1e-12))])

    def mean(self, x: Node, axis: int) -> Node:
        return self.node("ReduceMean", [x], axes=[axis], keepdims=0)

    def sum_last(self, x: Node) -> Node:
        return self.node("ReduceSum", [x, self.constant(np.array([-1]))])

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        return self.node("Reshape", [x, self.constant(np.array(shape))])

    def transpose(self, x: Node, order: Sequence[int]) -> Node:
        return self.node("Transpose", [x], perm=list(order))

    def split(self, x: Node, parts: int, axis: int) -> list[Node]:
        names: list[Node] = self.node("Split", [x], parts, axis=axis)
        return names

    def slice(self, x: Node, start: int, end: int, axis: int) -> Node:
        places = [self.constant(np.array([value])) for value in (start, end, axis)]
        return self.node("Slice", [x, *places])

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        return self.node("Concat", parts, axis=axis)

    def gather(self, x: Node, places: Node, axis: int) -> Node:
        return self.node("Gather", [x, places], axis=axis)

    def patches(self, pixels: Node, kernel: Array) -> Node:
        return self.node("Conv", [pixels, self.constant(kernel)], strides=list(kernel.shape[2:]))


def as_model(
    ops: OnnxOps, name: str, entry: tuple[str, type[np.generic], Sequence[int]], output: str
) -> ModelProto:
    """Return the graph, from `entry` (name, type, shape; -1 is any size) to the last node.

    The result of the last node is called `output`.
    """
    ops.nodes[-1].output[0] = output
    label, dtype, shape = entry
    sizes = ["batch" if size < 0 else size for size in shape]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        ops.nodes,
        name,
        [helper.make_tensor_value_info(label, kind, sizes)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [sizes[0], None])],
        ops.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
