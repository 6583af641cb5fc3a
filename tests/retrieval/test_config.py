import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from rwkvsearch.data.errors import ModelError
from rwkvsearch.retrieval.rwkv_clip.config import B16, B32, STARTER, ModelConfig

OFFICIAL = {
    "input_size": 224, "image_depth": 12, "image_embed_dims": 640, "image_patch_size": 32,
    "image_hidden_rate": 5, "image_num_heads": 8, "image_with_cls_token": False,
    "ctx_len": 77, "vocab_size": 49408, "head_size": 64, "head_size_divisor": 8,
    "n_layer": 6, "n_embd": 640, "dim_att": 640, "dim_ffn": 2240, "dropout": 0.0,
}  # fmt: skip


def changed(tower: str, **fields: Any) -> dict[str, Any]:
    values: dict[str, Any] = STARTER.to_dict()
    return values | {tower: values[tower] | fields}


def test_official_configs() -> None:
    assert ModelConfig.from_official(OFFICIAL) == B32
    assert ModelConfig.from_official(OFFICIAL | {"image_patch_size": 16}) == B16
    assert (B32.image.rows, B16.image.rows, B32.image.hidden) == (7, 14, 3200)
    assert (B32.dim, B32.text.heads) == (640, 10)


@pytest.mark.parametrize("config", [B32, B16, STARTER])
def test_there_and_back(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", sorted(set(OFFICIAL) - {"dropout"}))
def test_official_fields_are_all_needed(name: str) -> None:
    values = {key: value for key, value in OFFICIAL.items() if key != name}
    with pytest.raises(ModelError, match=f"official model config: {name} is missing"):
        ModelConfig.from_official(values)


@pytest.mark.parametrize("odd", [{"dim_att": 320}, {"image_with_cls_token": True}])
def test_official_options_of_no_published_model(odd: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="not supported"):
        ModelConfig.from_official(OFFICIAL | odd)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_every_field_is_needed_and_none_else(tower: str) -> None:
    values = STARTER.to_dict()
    for name in values[tower]:
        less = values | {tower: {k: v for k, v in values[tower].items() if k != name}}
        with pytest.raises(ModelError, match=f"missing or unknown field {name}"):
            ModelConfig.from_dict(less)
    with pytest.raises(ModelError, match="missing or unknown field heeds"):
        ModelConfig.from_dict(changed(tower, heeds=8))


def test_both_towers_and_nothing_else() -> None:
    for values in ({}, {"image": {}}, STARTER.to_dict() | {"audio": {}}):
        with pytest.raises(ModelError, match="expected image and text"):
            ModelConfig.from_dict(values)


@pytest.mark.parametrize("value", [0, -1, 6.0, "6", True, None])
def test_positive_whole_numbers(value: Any) -> None:
    with pytest.raises(ModelError, match="depth must be a positive whole number"):
        ModelConfig.from_dict(changed("text", depth=value))


@pytest.mark.parametrize(
    ("tower", "fields", "reason"),
    [
        ("image", {"width": 128}, "both towers must have one width"),
        ("image", {"image_size": 113}, "image_size must be a multiple of patch_size"),
        ("image", {"heads": 7}, "image width must be a multiple of heads"),
        ("image", {"heads": 128}, "image head size must be a multiple of 4"),
        ("text", {"head_size": 33}, "text width must be a multiple of head_size"),
        ("text", {"head_size": 1}, "text head_size must be even"),
        ("image", {"depth": 1}, "each tower needs at least 2 blocks"),
        ("text", {"depth": 1}, "each tower needs at least 2 blocks"),
    ],
)
def test_shapes_no_tower_could_have(tower: str, fields: dict[str, int], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        ModelConfig.from_dict(changed(tower, **fields))
    part = dataclasses.replace(getattr(STARTER, tower), **fields)
    with pytest.raises(ModelError, match=reason):
        dataclasses.replace(STARTER, **{tower: part})


def test_all_problems_at_once() -> None:
    with pytest.raises(ModelError, match="multiple of patch_size; .*at least 2 blocks"):
        ModelConfig.from_dict(changed("image", image_size=113, depth=1))


def test_golden_config() -> None:
    about = json.loads((Path(__file__).parents[1] / "golden" / "tiny.json").read_text())
    config = ModelConfig.from_official(about["config"])
    assert (config.dim, config.text.heads, config.image.rows) == (64, 2, 4)
