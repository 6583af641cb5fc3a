"""What is compared for speed runs, has the shape of CLIP's, and is measured as it says."""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import pytest
import torch

from rwkvsearch.retrieval import speed, speed_encoder
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
from rwkvsearch.retrieval.speed_ann import measure_ann
from rwkvsearch.retrieval.speed_encoder import EncoderOptions, measure_model, measure_shapes
from rwkvsearch.retrieval.speed_times import Effort, Times, latencies, percentiles, race, ratio

CPU = torch.device("cpu")
LITTLE = Effort(seconds=0, least=2)
# What a machine with a GPU may lack.
ABSENT = (
    "faiss openvino onnx onnxruntime numba gradio sqlalchemy platformdirs typer tqdm PIL ftfy regex"
)


def silent(_: str) -> None:
    pass


@pytest.fixture
def small(tiny_towers: Callable[[ModelConfig], None], tiny_config: ModelConfig) -> ModelConfig:
    """Tiny models in the place of ours and CLIP's."""
    tiny_towers(tiny_config)
    return tiny_config


def test_transformers_have_the_size_of_clip() -> None:
    """ViT-B/32: 87.8M parameters for images, 63.4M for texts (open_clip)."""
    with torch.device("meta"):
        towers = speed.ClipImage(32), speed.ClipText()
    counts = [sum(p.numel() for p in tower.parameters()) / 1e6 for tower in towers]
    assert counts == pytest.approx([87.8, 63.4], abs=0.1)


def test_a_text_does_not_see_what_comes_after_its_end() -> None:
    tower = speed.ClipText().eval()
    ids = torch.randint(1, 400, (2, 77), generator=torch.Generator().manual_seed(0))
    ids[:, 5] = 49407
    changed = ids.clone()
    changed[:, 6:] = 1
    with torch.inference_mode():
        torch.testing.assert_close(tower(ids), tower(changed))


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_packed_transformers_compute_the_same(dtype: torch.dtype, apart: float) -> None:
    torch.manual_seed(0)
    tower = speed.ClipText().eval().requires_grad_(False)
    tower.blocks = tower.blocks[:2]
    ids = torch.randint(1, 400, (2, 77))
    with torch.inference_mode():
        wanted, got = tower(ids), speed.packed_clip(tower, dtype)(ids)
    assert 0 < float((got - wanted).abs().max()) < apart * float(wanted.abs().max())


def test_contenders_take_turns_and_the_first_round_warms_up() -> None:
    calls: list[str] = []
    waits: list[int] = []
    runs = [lambda: calls.append("a"), lambda: calls.append("b")]
    a, b = race(runs, LITTLE, lambda: waits.append(len(calls)))
    assert "".join(calls) == "abbaab"
    assert len(a.wall) == len(b.processor) == 2
    assert waits == [n for call in range(6) for n in (call, call + 1)]  # before and after each
    assert len(race([lambda: None], Effort(seconds=60, least=1, most=4))[0].wall) == 4


def test_figures_are_those_of_the_calls() -> None:
    found = ratio([1.0, 2.0, 4.0], [2.0, 2.0, 2.0])
    assert found == {"median": 1.0, "low": 0.5, "high": 2.0, "rounds": 3}
    slow = latencies([lambda: time.sleep(0.02)] * 4, rounds=2)
    assert slow["queries"] == 4 and slow["p50_ms"]["rounds"] == 2
    assert 20 <= slow["p50_ms"]["low"] <= slow["p99_ms"]["high"]
    assert slow["processor_ms"]["median"] < 15
    few = percentiles(Times([0.1, 0.3, 0.2], [0.1, 0.1, 0.1]))
    assert (few["p50_ms"], few["p99_ms"], few["highest_ms"]) == (200, None, 300)
    assert percentiles(Times([0.1] * 50, [0.1] * 50))["p99_ms"] == 100


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_shapes_in_an_engine(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    monkeypatch.setenv("RWKVSEARCH_ENGINE", engine)
    options = EncoderOptions(
        CPU, precisions=["fp32"], batches=[1, 3], shapes=speed_encoder.FULL[1:], effort=LITTLE
    )
    found = measure_shapes(options, silent)
    assert [*found] == ["b32_text", "b16_image"]
    for name, one in found.items():
        assert one["engine"] == f"{engine} fp32"
        vit = f"vit_{name[:3]}"
        for batch in ("1", "3"):
            assert one["ours"][batch]["rounds"] == 2
            low, high = (one[f"ratio_to_{vit}_spread"][batch][end] for end in ("low", "high"))
            assert 0 < low <= one[f"ratio_to_{vit}"][batch] <= high
            assert one[f"processor_ratio_to_{vit}"][batch] > 0


@pytest.mark.usefixtures("small")
def test_other_precisions_have_keys_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVSEARCH_ENGINE", "torch")
    options = EncoderOptions(CPU, ["bf16", "int8"], [2], [("b32", "text")], LITTLE)
    found = measure_shapes(options, silent)
    assert [*found] == ["b32_text_bf16"]
    assert found["b32_text_bf16"]["engine"] == "torch bf16"
    gpu = EncoderOptions(torch.device("cuda"))
    assert ([*gpu.all_precisions()], [*gpu.all_batches()]) == (["fp32", "bf16"], [1, 16, 64, 256])


def test_images_and_texts_of_a_model(encoder: Encoder) -> None:
    found = measure_model(encoder, EncoderOptions(CPU, batches=[1, 4], effort=LITTLE), silent)
    assert found["id"] == encoder.model_id
    assert found["images"].keys() == found["texts"].keys() == {"1", "4"}
    assert found["images"]["4"]["median"] > 0


def test_an_ann_of_made_up_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rwkvsearch.retrieval.speed_ann.DIM", 16)
    found = measure_ann(300, queries=5, rounds=2, tell=silent)
    assert (found["rows"], found["dim"], found["kind"]) == (300, 16, "SQfp16")
    assert found["ann_recall@10"] == {"images": 1.0, "texts": 1.0}
    assert 40 <= found["bytes_per_image"] < found["library_bytes_per_image"]
    assert found["build_seconds"]["rounds"] == found["publish_seconds"]["rounds"] == 2
    for name in ("index", "query", "query_of_1_percent_by_date", "query_of_1_percent_by_name"):
        assert 0 < found[name]["p50_ms"]["median"] <= found[name]["p99_ms"]["median"]


def test_needs_little_more_than_torch(tiny_config: ModelConfig) -> None:
    """The module runs where nothing else of ours is installed, on another device than the CPU."""
    probe = f"""
        import json, sys
        sys.modules |= dict.fromkeys({ABSENT.split()})
        import numpy, torch
        from rwkvsearch.retrieval import speed_encoder, speed_engines
        from rwkvsearch.retrieval.rwkv_clip.config import ModelConfig
        config = ModelConfig.from_dict(json.loads(sys.argv[1]))
        model, clip = speed_encoder.random_model(config), speed_encoder.clip_tower("b32", "text")
        clip.blocks = clip.blocks[:1]
        pair = speed_engines._on_device(model.text, clip, "bf16", torch.device("cpu"))
        ours, _ = pair(numpy.ones((2, 12), numpy.int64))
        _, theirs = pair(numpy.ones((2, 77), numpy.int64))
        print(*ours().shape, *theirs().shape)
        print(speed_encoder.describe_device(torch.device("cpu"))["threads"])
    """
    done = _python("-c", textwrap.dedent(probe), json.dumps(tiny_config.to_dict()))
    assert (done.returncode, done.stdout.splitlines()[:1]) == (0, ["2 32 2 512"]), done.stderr


def _python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
