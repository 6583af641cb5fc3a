"""Names, shapes and types of checkpoints, and every way in which a file can be wrong."""

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.rwkv_clip.checkpoint import (
    build,
    from_official,
    load_tensors,
    official_name,
    save_half,
    to_official,
)
from rwkvsearch.retrieval.rwkv_clip.config import B16, B32, STARTER, ModelConfig
from rwkvsearch.retrieval.rwkv_clip.model import RwkvClip

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "tiny.json").read_text())
GOLDEN_CONFIG = ModelConfig.from_official(GOLDEN["config"])

# The official parts of one block, once for both towers, and what stands around the blocks.
NORMS = [f"ln{n}.{leaf}" for n in (1, 2) for leaf in ("weight", "bias")]
TIME_MIX = [f"att.time_maa_{letter}" for letter in ("x", *"wkvrg", "w1", "w2")]
TIME_MIX += [f"att.time_{leaf}" for leaf in ("decay", "decay_w1", "decay_w2", "faaaa")]
TIME_MIX += [f"att.{leaf}.weight" for leaf in ("receptance", "key", "value", "gate", "output")]
TIME_MIX += ["att.ln_x.weight", "att.ln_x.bias"]
MATRICES = [f"ffn.{leaf}.weight" for leaf in ("key", "receptance", "value")]
IMAGE_BLOCK = [*NORMS, *TIME_MIX, *MATRICES, "ffn.spatial_mix_k", "ffn.spatial_mix_r"]
TEXT_BLOCK = [*NORMS, *TIME_MIX, *MATRICES, "ffn.time_maa_k", "ffn.time_maa_r"]
AROUND = [f"image_model.{x}" for x in ("pos_embed", "ln1.weight", "ln1.bias")]
AROUND += [f"image_model.patch_embed.projection.{x}" for x in ("weight", "bias")]
AROUND += [f"text_model.{x}" for x in ("emb.weight", "ln_out.weight", "ln_out.bias")]
AROUND += [
    f"{x}.0.ln0.{y}"
    for x in ("image_model.layers", "text_model.blocks")
    for y in ("weight", "bias")
]

Official = Callable[[ModelConfig, str], dict[str, Tensor]]


def shapes_of(config: ModelConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(RwkvClip(config).state_dict())


@pytest.fixture
def state(official_state: Official, tiny_config: ModelConfig) -> dict[str, Tensor]:
    return official_state(tiny_config, "tiny")


class TestNames:
    @pytest.mark.parametrize("config", [B32, B16, STARTER], ids=["B32", "B16", "starter"])
    def test_every_official_name(self, config: ModelConfig) -> None:
        wanted = {"logit_scale", *AROUND}
        for n in range(config.image.depth):
            wanted |= {f"image_model.layers.{n}.{part}" for part in IMAGE_BLOCK}
        for n in range(config.text.depth):
            wanted |= {f"text_model.blocks.{n}.{part}" for part in TEXT_BLOCK}
        ours = list(shapes_of(config))
        names = [official_name(name) for name in ours]
        assert set(names) == wanted and len(set(names)) == len(ours)
        if config is not STARTER:
            assert len(names) == 517

    def test_both_ways(self) -> None:
        ours = shapes_of(B32)
        official = to_official(ours)
        back = from_official(official, ours)
        assert list(back) == list(ours) and all(back[k] is v for k, v in ours.items())

    def test_golden_state(self) -> None:
        got = {k: list(v.shape) for k, v in to_official(shapes_of(GOLDEN_CONFIG)).items()}
        assert got == {key: shape for key, (shape, _) in GOLDEN["state_dict"].items()}

    def test_official_sizes(self) -> None:
        counts = {
            name: round(sum(x.numel() for x in shapes_of(c).values()) / 1e5) / 10
            for name, c in (("B32", B32), ("B16", B16))
        }
        assert counts == {"B32": 149.6, "B16": 148.2}

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", ""])
    def test_wrappers_are_stripped(
        self, prefix: str, state: dict[str, Tensor], tiny_config: ModelConfig
    ) -> None:
        wrapped = {prefix + key: x for key, x in state.items()}
        model = build(tiny_config, wrapped, "wrapped")
        assert torch.equal(model.text.embed.weight, state["text_model.emb.weight"])

    def test_unknown_keys_stay(self) -> None:
        assert list(from_official({"module.odd": torch.ones(1)}, ["logit_scale"])) == ["odd"]


class TestBuild:
    def test_types(self, state: dict[str, Tensor], tiny_config: ModelConfig) -> None:
        model = build(tiny_config, state, "tiny")
        bfloat16 = {k for k, p in model.named_parameters() if p.dtype == torch.bfloat16}
        assert bfloat16 == {
            f"text.blocks.{n}.time_mix.{leaf}" for n in (0, 1) for leaf in ("decay", "bonus")
        }
        assert not model.training and not any(p.requires_grad for p in model.parameters())
        again = to_official(model.state_dict())
        assert all(torch.equal(again[k], x) and again[k].dtype == x.dtype for k, x in state.items())

    def test_our_own_names_fit_too(
        self, state: dict[str, Tensor], tiny_config: ModelConfig
    ) -> None:
        ours = build(tiny_config, state, "official").state_dict()
        again = build(tiny_config, ours, "ours").state_dict()
        assert all(torch.equal(again[k], x) for k, x in ours.items())

    @pytest.mark.parametrize(
        "key", ["logit_scale", "text_model.emb.weight", "image_model.ln1.bias"]
    )
    def test_missing(self, key: str, state: dict[str, Tensor], tiny_config: ModelConfig) -> None:
        del state[key]
        assert complaint(tiny_config, state) == f"{key} missing"

    def test_missing_among_our_names(
        self, state: dict[str, Tensor], tiny_config: ModelConfig
    ) -> None:
        ours = build(tiny_config, state, "official").state_dict()
        del ours["text.embed.weight"]
        assert complaint(tiny_config, ours) == "text_model.emb.weight missing"

    def test_extra(self, state: dict[str, Tensor], tiny_config: ModelConfig) -> None:
        state["image_model.cls_token"] = torch.zeros(1, 1, 32)
        assert complaint(tiny_config, state) == "image_model.cls_token not part of this model"

    @pytest.mark.parametrize(
        ("key", "shape"),
        [
            ("text_model.emb.weight", [999, 32]),
            ("image_model.pos_embed", [1, 49, 32]),
            ("image_model.layers.1.att.time_faaaa", [4, 8]),
            ("logit_scale", [1]),
        ],
    )
    def test_misshaped(
        self, key: str, shape: list[int], state: dict[str, Tensor], tiny_config: ModelConfig
    ) -> None:
        wanted = list(state[key].shape)
        state[key] = torch.zeros(shape)
        assert complaint(tiny_config, state) == f"{key} has shape {shape} instead of {wanted}"

    def test_another_model_is_one_short_line(
        self, official_state: Official, tiny_config: ModelConfig
    ) -> None:
        text = complaint(tiny_config, official_state(GOLDEN_CONFIG, "A"))
        assert "not part of this model" in text and "has shape" in text and len(text) < 600

    def test_nothing_at_all(self, tiny_config: ModelConfig) -> None:
        assert " and " in complaint(tiny_config, {})


def complaint(config: ModelConfig, state: dict[str, Tensor]) -> str:
    with pytest.raises(ModelError) as caught:
        build(config, state, "some.pt")
    text = str(caught.value)
    start = "some.pt: weights do not fit the model: "
    assert text.startswith(start) and "\n" not in text
    return text.removeprefix(start)


class TestFiles:
    def test_half_precision_and_back(
        self, state: dict[str, Tensor], tiny_config: ModelConfig, tmp_path: Path
    ) -> None:
        model = build(tiny_config, state, "tiny")
        path = tmp_path / "model.safetensors"
        save_half(model, path, {"made": "here"})
        stored = load_tensors(path)
        assert {x.dtype for x in stored.values()} == {torch.float16}
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"made": "here"}
        again = build(tiny_config, stored, str(path)).state_dict()
        assert {x.dtype for x in again.values()} == {torch.float32}
        for key, x in model.state_dict().items():
            assert torch.equal(again[key], x.half().float())

    def test_an_official_file(self, checkpoint: Path, state: dict[str, Tensor]) -> None:
        loaded = load_tensors(checkpoint)
        assert all(torch.equal(loaded[f"module.{k}"], x) for k, x in state.items())

    def test_no_file(self, tmp_path: Path) -> None:
        for name in ("no.pt", "no.safetensors"):
            with pytest.raises(ModelError, match=rf"{name}: no such weights file"):
                load_tensors(tmp_path / name)

    def test_a_folder(self, tmp_path: Path) -> None:
        assert_refused(tmp_path)

    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    @pytest.mark.parametrize("content", [b"", b"hello world\n", b"<html>404</html>", b"\0" * 99])
    def test_not_weights(self, content: bytes, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(content)
        assert_refused(path)

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
    def test_truncated(
        self,
        share: float,
        checkpoint: Path,
        state: dict[str, Tensor],
        tmp_path: Path,
        tiny_config: ModelConfig,
    ) -> None:
        whole = tmp_path / "whole.safetensors"
        save_half(build(tiny_config, state, "tiny"), whole, {})
        for source in (checkpoint, whole):
            path = tmp_path / f"cut{source.suffix}"
            content = source.read_bytes()
            path.write_bytes(content[: int(len(content) * share)])
            assert_refused(path)

    def test_code_is_not_run(self, tmp_path: Path) -> None:
        class Attack:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "owned"),)

        path = tmp_path / "evil.pt"
        path.write_bytes(pickle.dumps({"logit_scale": Attack()}))
        assert_refused(path)
        torch.save({"logit_scale": Attack()}, path)
        assert_refused(path)
        assert not (tmp_path / "owned").exists()

    @pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"a": 1}}, {"epoch": 3}, 5])
    def test_not_a_flat_dictionary_of_tensors(self, content: object, tmp_path: Path) -> None:
        path = tmp_path / "other.pt"
        torch.save(content, path)
        with pytest.raises(ModelError, match="expected a flat dictionary of tensors"):
            load_tensors(path)

    def test_random_damage_is_never_a_traceback(self, tmp_path: Path) -> None:
        """Also in the old format, whose bytes go straight to the unpickler."""
        path = tmp_path / "x.pt"
        sources = []
        for zipped in (True, False):
            torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)
            sources.append(path.read_bytes())
        rng = random.Random(0)
        for _ in range(300):
            content = bytearray(rng.choice([*sources, rng.randbytes(60)]))
            content[rng.randrange(len(content))] = rng.randrange(256)
            path.write_bytes(content[: rng.randrange(1, len(content) + 1)])
            try:
                load_tensors(path)
            except ModelError as error:
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def assert_refused(path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_tensors(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: damaged or not a weights file (") and "\n" not in text
