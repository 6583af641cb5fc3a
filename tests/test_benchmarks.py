"""The scripts of `docs/benchmarks` run, with tiny sizes, and their tables hold what they say."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rwkvsearch.retrieval.rwkv_clip.config import B32, ModelConfig
from rwkvsearch.retrieval.speed_times import Effort

SCRIPTS = Path(__file__).parents[1] / "docs" / "benchmarks"
NAMES = ("report", "searches", "encoders", "folders", "growth", "peers")


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield {name: importlib.import_module(name) for name in NAMES}
        for name in NAMES:
            sys.modules.pop(name, None)


def test_a_table_as_markdown_and_what_was_left_out(scripts: dict[str, Any]) -> None:
    table = scripts["report"].Table("title", ("", "ms"), [["ours", 1.234], ["x", None]], ["y: z"])
    assert table.markdown().splitlines() == [
        "title",
        "",
        "|  | ms |",
        "| --- | --- |",
        "| ours | 1.23 |",
        "| x |  |",
        "left out: y: z",
    ]


def test_searches_agree_with_the_exact_one(scripts: dict[str, Any]) -> None:
    pytest.importorskip("faiss")
    table = scripts["searches"].measure(rows=600, queries=4, dim=32)
    recall = {row[0]: row[-1] for row in table.rows}
    assert min(recall.values()) >= 0.9
    assert [recall[name] for name in recall if "sqlite" in name or "numpy" in name] == [1, 1]
    assert all(p50 > 0 for _, p50, *_ in table.rows)


def test_the_towers_of_every_engine(scripts: dict[str, Any]) -> None:
    small = ModelConfig(replace(B32.image, image_size=64, depth=2), replace(B32.text, depth=2))
    encoders = scripts["encoders"]
    table = encoders.measure({"small": small}, [1], Effort(0, 1), plain_upto=1)
    assert [row[2] for row in table.rows][:2] == [
        "torch, layers as they come",
        "torch, products packed",
    ]
    assert all(value > 0 for row in table.rows for value in row[3:])
    assert len(table.rows) + len(table.left_out) >= 4


def test_the_plain_tower_loops_over_tokens_and_gives_the_same(scripts: dict[str, Any]) -> None:
    encoders, small = scripts["encoders"], replace(B32.image, image_size=64, depth=2)
    model = encoders.random_model(ModelConfig(small, replace(B32.text, depth=2)))
    pixels = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    looped = encoders.as_written(model, pixels)()
    torch.testing.assert_close(looped, model.image(torch.from_numpy(pixels)), rtol=1e-4, atol=1e-5)


def test_the_exponent_of_growth(scripts: dict[str, Any]) -> None:
    growth, tokens = scripts["growth"], [49, 100, 196]
    assert growth.slope(tokens, [3 * t for t in tokens]) == pytest.approx(1)
    assert growth.slope(tokens, [t * t for t in tokens]) == pytest.approx(2)
    found = dict.fromkeys(growth.NAMES, [1.0, 2.0, 4.0])
    table = growth.table("t", (112, 160, 224), found, last=2)
    assert [row[0] for row in table.rows] == [112, 160, 224, "exponent", "exponent, last 2"]


def test_the_growth_of_what_mixes_tokens(scripts: dict[str, Any], tmp_path: Path) -> None:
    growth = scripts["growth"]
    setting = growth.Setting(torch.device("cpu"), half=False, batch=1)
    found = growth.times(growth.mixers(setting), setting, (32, 64), Effort(0, 1))
    assert all(len(found[name]) == 2 and min(found[name]) > 0 for name in growth.NAMES)
    pytest.importorskip("matplotlib")
    growth.plot((32, 64), {"a": found, "b": found}, tmp_path / "growth.png")
    assert 1_000 < (tmp_path / "growth.png").stat().st_size < 60_000


def test_positions_keep_the_first_and_are_resized(scripts: dict[str, Any]) -> None:
    position = torch.ones(1, 1 + 14 * 14, 4)
    position[:, 0] = 5
    resized = scripts["growth"].resized(position, 7)
    assert resized.shape == (1, 50, 4)
    assert resized[0, 0, 0] == 5
    torch.testing.assert_close(resized[:, 1:], torch.ones(1, 49, 4))


def test_pictures_of_one_content_are_taken_once(scripts: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(20):
        (data / f"{number:02}.jpg").write_bytes(bytes([number // 2]))
    assert scripts["folders"].choose(data, tmp_path / "chosen", 16) == 8
    assert len(list((tmp_path / "chosen").iterdir())) == 8


def test_a_peer_that_fails_is_left_out_with_its_reason(
    scripts: dict[str, Any], tmp_path: Path
) -> None:
    folders = scripts["folders"]
    (tmp_path / "pictures").mkdir()
    for number in range(16):
        (tmp_path / "pictures" / f"{number:02}.jpg").write_bytes(bytes([number]))
    copy = "import shutil, sys; shutil.copytree(*sys.argv[1:])"
    works = [[sys.executable, "-c", copy, "{pictures}", "{store}/pictures"]]
    fails = [[sys.executable, "-c", "raise SystemExit('no weights')"]]
    asks = {"": [sys.executable, "-c", "pass", "{words}"]}

    def count(store: Path) -> int:
        return len(list((store / "pictures").iterdir()))

    tools = [folders.Tool(name, works, asks, count) for name in folders.OURS]
    tools += [folders.Tool("peer", fails, asks, count), folders.Tool("other", works, asks, count)]
    table = scripts["report"].Table("t", ())
    stores = folders.race_index(tools, tmp_path, 16, 1, table)
    assert table.left_out == ["peer: no weights"]
    assert [row[0] for row in table.rows] == [*folders.OURS, "other"]
    asked = scripts["report"].Table("t", ())
    folders.race_queries(tools, stores, tmp_path / "pictures", 1, asked)
    assert [row[0] for row in asked.rows] == [*folders.OURS, "other"]
