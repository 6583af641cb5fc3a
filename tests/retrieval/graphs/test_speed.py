"""The comparison runs, and CLIP's graphs compute what its towers do."""

import sys

import numpy as np
import pytest
import torch

from rwkvsearch.retrieval.graphs import speed
from rwkvsearch.retrieval.graphs.clip import clip_image_graph
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig

pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_graphs_of_clip_equal_its_towers(engine: str) -> None:
    clip = speed.ClipImage(112).eval().requires_grad_(False)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)
    make = speed._onnx_run if engine == "onnx" else speed._openvino_run
    run = make(lambda ops, entry: clip_image_graph(ops, clip, entry, 2), pixels, False)
    got = np.asarray(run(pixels)[0])  # type: ignore[index]
    wanted = clip(torch.from_numpy(pixels)).numpy()
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_config: ModelConfig
) -> None:
    threads = str(torch.get_num_threads())
    monkeypatch.setitem(speed.MODELS, "b32", tiny_config)
    monkeypatch.setattr(speed, "_clip", lambda model, tower: small_clip())
    options = ["--towers", "text", "--batch", "2", "--rounds", "1", "--threads", threads]
    monkeypatch.setattr(sys, "argv", ["speed", *options])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "input_shape", lambda config, tower, batch: (batch, 12))
        speed.main()
    lines = capsys.readouterr().out.splitlines()[2:]
    assert len(lines) == len(speed.ENGINES)
    assert all(float(line.split()[-1]) > 0 for line in lines)


def small_clip() -> speed.ClipText:
    clip = speed.ClipText()
    clip.position.data = clip.position.data[:, :12]
    clip.blocks = clip.blocks[:1]
    return clip.eval().requires_grad_(False)
