"""The arithmetic of docs/scale.py, by hand."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "scale.py"
_spec = importlib.util.spec_from_file_location("scale", SCRIPT)
assert _spec and _spec.loader
scale = importlib.util.module_from_spec(_spec)
sys.modules["scale"] = scale  # dataclasses look it up
_spec.loader.exec_module(scale)

GIVEN = {
    "embedding": {"dim": 10},
    "ann": {
        "byte_code": 10,
        "byte_add": 1e-3,
        "byte_scan": 1e-6,
        "train_flops": 1e6,
        "assign_flops": 2e6,
        "byte_fixed": 1e-3,
        "process": 100,
    },
    "coarse": {"100": 1e-3, "200": 3e-3},
}


def ivf(rows: int) -> Any:
    return scale.Ivf.of(rows, "byte", GIVEN)


def test_file() -> None:
    assert ivf(10_000).cells == 400
    assert ivf(10_000).size == 10_000 * (10 + 16) + 400 * (40 + 28)
    assert ivf(10_000).resident == ivf(10_000).size + 8 * 10_000 + 100e6


def test_build() -> None:
    one = ivf(10_000)
    assert one.train == pytest.approx(10 * 2 * 16_384 * 400 * 10 / 1e6)
    assert one.assign == pytest.approx(2 * 10_000 * 400 * 10 / 2e6)
    assert one.build == pytest.approx(one.train + one.assign + 10)


def test_centres_between_before_and_beyond_those_measured() -> None:
    assert [replace(ivf(1), cells=n).coarse for n in (50, 100, 150, 200, 400)] == pytest.approx(
        [0.5e-3, 1e-3, 2e-3, 3e-3, 6e-3]
    )


def test_search() -> None:
    one = ivf(10_000)
    assert one.search == pytest.approx(1e-3 + 6e-3 + 16 * 25 * 1e-6)


def test_figures_carry_their_unit() -> None:
    assert scale.shown(1.376e12, "bytes") == "1.38 TB"
    assert scale.shown(12_345, "/s") == "12,300"
    assert scale.shown(0.0123, "ms") == "0.0123 ms"


def test_every_input_says_where_it_is_from() -> None:
    sections = tomllib.loads(scale.INPUTS.read_text())
    entries = [entry for section in sections.values() for entry in section.values()]
    assert all(entry["from"] and entry["value"] > 0 for entry in entries)


def test_page_has_the_tables_of_the_script() -> None:
    page = (SCRIPT.parent / "scale.md").read_text()
    assert scale.markdown(scale.SIZES, scale.given()).strip() in page


def test_json() -> None:
    command = [sys.executable, str(SCRIPT), "--images", "2000000", "--json"]
    said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    facts = json.loads(said)["2000000"]
    assert facts["ann, SQfp16 (exact) [bytes]"] == 2_000_000 * 1288
