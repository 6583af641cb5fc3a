"""Which nodes OpenVINO computes in bfloat16, and what that does to the features."""

import pytest
import torch

from rwkvsearch.retrieval import recipe
from rwkvsearch.retrieval.encoder import load_model
from rwkvsearch.retrieval.graphs.choice import _apart
from rwkvsearch.retrieval.graphs.files import input_shape, openvino_model

openvino = pytest.importorskip("openvino", reason="the extra `openvino` is not installed")

from rwkvsearch.retrieval.graphs.half import only_products_in_half  # noqa: E402
from rwkvsearch.retrieval.graphs.openvino_tower import OpenvinoTower, settings  # noqa: E402

PRODUCTS = {"FullyConnected", "MatMul"}

pytestmark = pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this processor has no bfloat16",
)


def precisions(compiled: openvino.CompiledModel) -> dict[str, set[str]]:
    """What the kinds of nodes are computed in."""
    found: dict[str, set[str]] = {}
    for node in compiled.get_runtime_model().get_ops():
        kind, precision = (
            node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision")
        )
        found.setdefault(kind, set()).add(precision)
    return found


def test_only_products_are_in_bfloat16(installed: str) -> None:
    model, _ = load_model(installed)
    pixels = recipe.images("A", 3, model.config.image.image_size)
    with torch.inference_mode():
        wanted = model.image(torch.from_numpy(pixels)).numpy()
    whole = openvino_model(model, "image", input_shape(model.config, "image"))
    apart = []
    for graph in (whole, only_products_in_half(whole)):
        compiled = openvino.Core().compile_model(graph, "CPU", settings(half=True))
        found = precisions(compiled)
        assert "bf16" in found["FullyConnected"]
        assert ("bf16" in found["MVN"]) == (graph is whole)
        assert ("bf16" in found["Convolution"]) == (graph is whole)
        apart.append(_apart(OpenvinoTower(compiled)(pixels), wanted))
    assert 0 < apart[1] < apart[0] / 2
