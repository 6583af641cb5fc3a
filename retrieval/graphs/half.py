"""Which nodes of a graph stay in float32 when OpenVINO is told to compute in bfloat16.

The CPU leaves a node alone whose conversion to 16 bits is ruled out. That attribute cannot be set
from Python, but it is read from OpenVINO's files.

Source: `EnforceInferencePrecision` and `DisablePrecisionConversion` of OpenVINO 2026.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from rwkvsearch.retrieval.graphs.quiet import openvino

_PRODUCTS = {"MatMul", "ScaledDotProductAttention"}
_MARK = {"name": "DisablePrecisionConversion", "version": "0", "value": "dynamic:f16"}
"""In the file `f16` stands for every kind of 16 bits."""


def only_products_in_half(model: openvino.Model) -> openvino.Model:
    """Return the same graph in which only matrix products may be computed in bfloat16.

    A convolution stays in float32: rounded pixels cost more than all other products.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.xml")
        openvino.save_model(model, path, compress_to_fp16=False)
        tree = ElementTree.fromstring(path.read_bytes())
        weights = path.with_suffix(".bin").read_bytes()
    for layer in tree.iter("layer"):
        if layer.get("type") not in _PRODUCTS | {"Const", "Parameter", "Result"}:
            facts = layer.find("rt_info")
            if facts is None:
                facts = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, facts)
            ElementTree.SubElement(facts, "attribute", _MARK)
    return openvino.Core().read_model(ElementTree.tostring(tree), weights)
