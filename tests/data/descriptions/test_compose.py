"""Words, colours and the sentences made of them."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rwkvsearch.data.descriptions.colours import NAMES, look_at
from rwkvsearch.data.descriptions.compose import fused, sentence
from rwkvsearch.data.descriptions.texts import Look, Tag
from rwkvsearch.data.descriptions.vocabulary import (
    ancestors,
    everyday_words,
    find_word,
    joined,
    plural,
    read_words,
    with_article,
)
from rwkvsearch.data.errors import DataError

NOTHING = Look(())
WORDS = sorted(everyday_words())


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((128, 128, 128), "grey"),
        ((255, 255, 255), "white"),
        ((220, 20, 30), "red"),
        ((255, 140, 0), "orange"),
        ((250, 230, 20), "yellow"),
        ((30, 160, 40), "green"),
        ((30, 60, 220), "blue"),
        ((130, 40, 190), "purple"),
        ((255, 120, 190), "pink"),
        ((110, 65, 25), "brown"),
        ((225, 200, 160), "beige"),
    ],
)
def test_colour_names(rgb: tuple[int, int, int], name: str) -> None:
    assert look_at(Image.new("RGB", (30, 20), rgb)).colours == (name,)
    assert name in NAMES


def test_colours_by_their_share_and_light() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:60] = (30, 60, 220)
    pixels[60:90] = (30, 160, 40)
    assert look_at(Image.fromarray(pixels)) == Look(("blue", "green"), None)
    pixels[:60, :60] = (220, 20, 30)
    assert look_at(Image.fromarray(pixels)) == Look(("red", "green"), None)
    pixels[:30] = (255, 255, 255)
    pixels[60:75] = (255, 120, 190)
    assert look_at(Image.fromarray(pixels)).colours == ()  # no two have half of it
    assert look_at(Image.new("RGB", (9, 9), (250, 250, 250))).light == "light"
    assert look_at(Image.new("RGB", (9, 9), (9, 9, 9))).light == "dark"
    assert look_at(Image.new("L", (1, 1), 128)).colours == ("grey",)


def test_words() -> None:
    words = everyday_words()
    assert len(words) > 500
    assert words["mouse"].form == "mice"
    assert words["otter"].form == "otters"
    assert words["office"].form == "in an office"
    assert words["space"].form == "in space"
    assert ancestors(words, "sparrow") == ["bird", "animal"]
    assert ancestors(words, "car") == ["vehicle"]
    assert find_word("zeppelin").form == "zeppelins"
    assert [plural(name) for name in ("bus", "cherry", "toy", "torch")] == [
        "buses",
        "cherries",
        "toys",
        "torches",
    ]
    assert [with_article(name) for name in ("owl", "uniform", "dog", "umbrella")] == [
        "an owl",
        "a uniform",
        "a dog",
        "an umbrella",
    ]
    assert [joined(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


def test_words_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("# mine\nbeach\n\nzeppelin \n")
    assert list(read_words(file).values()) == [find_word("beach"), find_word("zeppelin")]
    file.write_text("# nothing\n")
    with pytest.raises(DataError, match="holds no word"):
        read_words(file)
    with pytest.raises(DataError, match="absent: cannot be read"):
        read_words(tmp_path / "absent")


def test_only_what_was_measured_is_said() -> None:
    dull = sentence([], Look(("green", "brown"), "dark"), "seed")
    assert (dull.text, dull.confidence) == ("A dark picture, mostly green and brown.", None)
    assert sentence([], NOTHING, "seed").text == "A picture of many colours."


def test_the_same_picture_gives_the_same_sentence_and_others_vary() -> None:
    tags = [Tag("dog", 0.8), Tag("beach", 0.5)]
    said = {sentence(tags, Look(("blue",)), f"seed {n}").text for n in range(40)}
    assert len(said) >= 6
    for text in said:
        assert "a dog on a beach" in text.lower()
    once = sentence(tags, Look(("blue",)), "seed 1")
    assert once == sentence(tags, Look(("blue",)), "seed 1")
    assert once.confidence == 0.5


def test_broader_words_give_way() -> None:
    tags = [Tag("animal", 0.9), Tag("dog", 0.6), Tag("outdoors", 0.9), Tag("beach", 0.6)]
    text = sentence(tags, NOTHING, "x").text
    assert "animal" not in text and "outdoors" not in text


def test_counts_activities_and_things_without_number() -> None:
    many = {sentence([Tag("mouse", 0.9, 3)], NOTHING, str(n)).text for n in range(20)}
    assert all("three mice" in text.lower() for text in many)
    assert "There are three mice." in many
    assert "grass" in sentence([Tag("grass", 0.9)], NOTHING, "x").text.lower()
    running = sentence([Tag("man", 0.9), Tag("running", 0.7)], NOTHING, "x").text.lower()
    assert "a man running" in running
    alone = sentence([Tag("running", 0.7), Tag("dog", 0.5)], NOTHING, "x").text.lower()
    assert "somebody running with a dog" in alone


def test_fused_completes_a_caption() -> None:
    raw = ["A dog runs after a ball."]
    texts = {
        fused(raw, [Tag("puppy", 0.6), Tag("tree", 0.5)], Look(("green",)), str(n)).text
        for n in range(20)
    }
    assert all(text.startswith("A dog runs after a ball; ") for text in texts)
    assert any("a tree" in text for text in texts)
    assert fused(raw, [], NOTHING, "x").text == "A dog runs after a ball."
    known = fused(raw, [Tag("vehicle", 0.9), Tag("ball", 0.9)], NOTHING, "x")
    assert (known.text, known.confidence) == ("A dog runs after a ball.", None)


def test_fused_makes_a_sentence_of_a_label() -> None:
    said = {fused(["soda bottle, pop bottle"], [], NOTHING, str(n)).text for n in range(30)}
    assert "A photo of a soda bottle." in said and "A pop bottle." in said
    assert fused(["airplanes"], [], NOTHING, "x").text.lower().endswith("airplanes.")
    assert " an airplanes" not in fused(["airplanes"], [], NOTHING, "x").text.lower()
    assert fused(["grass"], [], NOTHING, "x").text.lower().rstrip(".").endswith("grass")
    assert "Brandenburg Gate" in fused(["Brandenburg Gate"], [], NOTHING, "x").text
    assert fused([], [Tag("dog", 0.9)], NOTHING, "x").text.lower().count("a dog") == 1


tags_of = st.lists(
    st.builds(
        Tag,
        st.sampled_from(WORDS),
        st.floats(0.3, 1),
        st.integers(1, 9),
    ),
    max_size=6,
    unique_by=lambda tag: tag.name,
)
looks = st.builds(
    Look,
    st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
    st.sampled_from([None, "light", "dark"]),
)


@given(tags_of, looks, st.text(max_size=5), st.lists(st.sampled_from(WORDS), max_size=2))
def test_every_sentence_is_well_formed(
    tags: list[Tag], look: Look, seed: str, raw: list[str]
) -> None:
    for made in (sentence(tags, look, seed), fused(raw, tags, look, seed)):
        assert made.text[0].isupper() or not made.text[0].isalpha()
        assert made.text.endswith(".") and ".." not in made.text
        assert "  " not in made.text and " ," not in made.text and "{" not in made.text
        # `a` before a consonant, `an` before a vowel.
        assert not re.search(r"\b[Aa] [aeio]|\b[Aa]n [bcdfgjklmnpqrstvwxyz]", made.text)
