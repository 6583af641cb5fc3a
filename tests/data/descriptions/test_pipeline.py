"""The three texts of each picture, what is remembered, and what happens to faults."""

from dataclasses import replace
from pathlib import Path

import pytest

from rwkvsearch.data.descriptions.cache import Cache, remembered
from rwkvsearch.data.descriptions.pipeline import describe, prepare
from rwkvsearch.data.descriptions.prompts import INSTRUCTION, prompt_id
from rwkvsearch.data.descriptions.recipe import Recipe
from rwkvsearch.data.descriptions.sources import find_items
from rwkvsearch.data.descriptions.texts import Described
from rwkvsearch.data.errors import DataError

from .conftest import Helper


def run(photos: Path, cache: Cache, recipe: Recipe) -> dict[str, Described]:
    return {item.key: item for item in describe(find_items(photos), recipe, cache)}


def test_offline(photos: Path, cache: Cache, helper: Helper) -> None:
    found = run(photos, cache, Recipe(helper))
    red, green = found["a/red.png"], found["a/green.png"]
    assert [(t.kind, t.provider) for t in red.sayings] == [
        ("raw", "set"),
        ("raw", "set"),
        ("synthetic", "offline"),
        ("generated", "offline"),
    ]
    assert [tag.name for tag in red.tags] == ["dog"]  # the boat is below the threshold
    assert "a dog" in red.texts["synthetic"][0].lower()
    assert red.texts["generated"][0].startswith(("A red square", "Something red"))
    assert "a dog" in red.texts["generated"][0]
    assert red.look.colours == ("red",)
    assert set(green.texts) == {"synthetic", "generated"}
    assert all(item.error is None and len(item.sha256) == 64 for item in found.values())


def test_again_computes_nothing(photos: Path, cache: Cache, helper: Helper) -> None:
    recipe = Recipe(helper, helper, helper)
    first = run(photos, cache, recipe)
    assert (helper.tagged, helper.captioned, len(helper.asked)) == (6, 6, 6)
    assert run(photos, cache, recipe) == first
    (photos / "a").rename(photos / "moved")
    run(photos, cache, recipe)
    assert (helper.tagged, helper.captioned, len(helper.asked)) == (6, 6, 6)
    # Another threshold is another question, not another look at the pictures.
    run(photos, cache, replace(recipe, min_confidence=0.05))
    assert (helper.tagged, len(helper.asked)) == (6, 12)
    helper.model_id = "helper-2"
    run(photos, cache, recipe)
    assert (helper.tagged, helper.captioned, len(helper.asked)) == (12, 12, 18)


def test_with_captioner_and_language_model(photos: Path, cache: Cache, helper: Helper) -> None:
    red = run(photos, cache, Recipe(helper, helper, helper))["a/red.png"]
    question = (
        "RAW: A red square.\nRAW: Something red.\nCAPTION: a picture 20 wide\nTAGS: dog (0.90)"
    )
    assert question in helper.asked
    synthetic, generated = red.sayings[2:]
    assert (synthetic.text, synthetic.provider) == ("a picture 20 wide", "helper")
    assert (generated.provider, generated.model) == ("endpoint", "helper-1")
    assert generated.prompt == prompt_id(INSTRUCTION)
    assert generated.confidence == 1.0  # it names a dog, and so do the tags


def test_bad_pictures_are_rows(photos: Path, cache: Cache, helper: Helper) -> None:
    content = (photos / "a/blue.png").read_bytes()
    (photos / "a/blue.png").write_bytes(content[:60])
    (photos / "b/white.png").write_text("no picture")
    items = find_items(photos)
    (photos / "b/black.png").unlink()
    for recipe in (Recipe(helper), Recipe(helper, helper, helper), Recipe()):
        found = {item.key: item for item in describe(items, recipe, cache)}
        assert {key: item.error for key, item in found.items() if item.error} == {
            "a/blue.png": "truncated file",
            "b/white.png": "not an image",
            "b/black.png": "cannot be read: No such file or directory",
        }
        assert [len(found[key].sayings) > 0 for key in ("a/blue.png", "a/red.png")] == [False, True]


@pytest.mark.parametrize(
    ("failing", "error", "kinds"),
    [
        ("red square", "generated: HTTP 500, 6 times", {"raw", "synthetic"}),
        ("tags", "tags: no idea", {"raw", "synthetic", "generated"}),
        ("caption", "caption: speechless", {"raw", "generated"}),
    ],
)
def test_what_fails_is_tried_again(
    failing: str, error: str, kinds: set[str], photos: Path, cache: Cache, helper: Helper
) -> None:
    helper.failing = failing
    recipe = Recipe(helper, helper, helper)
    red = run(photos, cache, recipe)["a/red.png"]
    assert (red.error, set(red.texts)) == (error, kinds)
    helper.failing = ""
    red = run(photos, cache, recipe)["a/red.png"]
    assert (red.error, set(red.texts)) == (None, {"raw", "synthetic", "generated"})


def test_nothing_to_ask_about(photos: Path, cache: Cache, helper: Helper) -> None:
    found = run(photos, cache, Recipe(language_model=helper))
    assert found["a/green.png"].error == "generated: there is nothing to ask about"
    assert found["a/green.png"].texts == {"synthetic": ("A picture, mostly green.",)}
    assert helper.asked == ["RAW: A red square.\nRAW: Something red."]


def test_prepare_asks_nobody(photos: Path, cache: Cache, helper: Helper) -> None:
    found = list(prepare(find_items(photos), Recipe(helper, None, helper), cache))
    assert len(found) == 6 and helper.asked == []


def test_many_pictures_in_batches(photos: Path, cache: Cache, helper: Helper) -> None:
    items = find_items(photos) * 20
    found = list(describe(items, Recipe(helper, None, helper, asked_at_once=50), cache))
    assert [item.key for item in found] == [item.key for item in items]
    assert len({item.sayings for item in found}) == 6


class TestCache:
    def test_values_come_back(self, tmp_path: Path) -> None:
        with Cache(tmp_path / "new/cache.sqlite") as cache:
            cache.put({"a": [1, "\ud83d"], "b": None})
            cache.put({"a": {"x": 2}})
        with Cache(tmp_path / "new/cache.sqlite") as again:
            assert again.get(["a", "b", "c"]) == {"a": {"x": 2}, "b": None}
            many = [str(number) for number in range(25_000)]
            again.put(dict.fromkeys(many, 0))
            assert len(again.get(many)) == 25_000

    def test_remembered(self, cache: Cache) -> None:
        asked: list[list[int]] = []

        def compute(missing: list[int]) -> dict[int, str]:
            asked.append(missing)
            return {place: f"value {place}" for place in missing if place != 1}

        assert remembered(cache, ["a", "b", "c"], compute) == ["value 0", None, "value 2"]
        assert remembered(cache, ["c", "b"], compute) == ["value 2", None]
        assert asked == [[0, 1, 2], [1]]

    def test_not_a_cache(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("a text" * 1000)
        for path in (tmp_path / "text", tmp_path, tmp_path / "text/below"):
            with pytest.raises(DataError, match="the cache cannot be used: .*--cache") as caught:
                Cache(path)
            assert str(path) in str(caught.value)
