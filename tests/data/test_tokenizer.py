"""CLIP's tokenizer: exact against the reference, and cut to its first merges."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rwkvsearch.data.errors import ModelError
from rwkvsearch.data.tokenizer import MERGES, Tokenizer, clean

CASES = json.loads((Path(__file__).parents[1] / "golden" / "tokens.json").read_text("utf-8"))
FULL = Tokenizer()
CUT = Tokenizer(16384, 24)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_golden(case: dict[str, object]) -> None:
    assert FULL([str(case["text"])])[0].tolist() == case["ids"]


def test_known_ids() -> None:
    """As the CLIP repository shows them."""
    ids = FULL(["a diagram", "a dog", "a cat", ""])
    assert ids.shape == (4, 77) and ids.dtype == np.int64
    assert ids[0, :5].tolist() == [49406, 320, 22697, 49407, 0]
    assert ids[1, :5].tolist() == [49406, 320, 1929, 49407, 0]
    assert ids[2, :5].tolist() == [49406, 320, 2368, 49407, 0]
    assert ids[3, :3].tolist() == [49406, 49407, 0]


def test_cleaning() -> None:
    assert clean("  A\tDog \n in&nbsp;the &amp;amp; park  ") == "a dog in the & park"
    assert clean("caf\u00c3\u00a9") == "café"
    assert FULL.encode("A   DOG") == FULL.encode("a dog")


def test_marks_in_a_text_are_marks() -> None:
    assert FULL.encode("<start_of_text>dog<end_of_text>") == [49406, 1929, 49407]
    assert CUT.encode("<START_OF_TEXT>") == [16382]


def test_a_longer_text_keeps_its_head_and_an_end_mark() -> None:
    dogs = FULL.encode("dog " * 100)
    assert dogs == [1929] * 100
    (ids,) = FULL(["dog " * 100])
    assert ids.tolist() == [49406, *[1929] * 75, 49407]
    for count, padding in ((74, 1), (75, 0), (76, 0)):
        (ids,) = FULL(["dog " * count])
        assert ids.tolist() == [49406, *[1929] * min(count, 75), 49407, *[0] * padding]
    assert Tokenizer(context=2)(["dog"]).tolist() == [[49406, 49407]]


class TestCut:
    def test_marks_are_the_last_two(self) -> None:
        assert CUT(["a dog"])[0, :5].tolist() == [16382, 320, 1929, 16383, 0]
        assert CUT(["dog " * 30])[0].tolist() == [16382, *[1929] * 22, 16383]

    def test_words_below_the_cut_keep_their_ids(self) -> None:
        """Merges are tried by rank: where no later one applies, nothing is different."""
        words = {word for case in CASES for word in clean(str(case["text"])).split()}
        words = {word for word in words if "_of_text>" not in word}
        same = different = 0
        for word in words:
            full, cut = FULL.encode(word), CUT.encode(word)
            if all(i < 16382 for i in full):
                assert cut == full
                same += 1
            else:
                assert cut != full and all(i < 16382 for i in cut) and len(cut) > len(full)
                different += 1
        assert same > 30 and different > 3

    def test_no_merges_at_all_are_bytes(self) -> None:
        bare = Tokenizer(514, 8)
        assert bare(["ab"]).tolist() == [[512, 64, 65 + 256, 513, 0, 0, 0, 0]]
        assert len(bare.encode("dogs")) == 4 and len(bare.encode("é")) == 2

    @pytest.mark.parametrize("vocabulary", [514, 515, 600, 5000, 16384])
    def test_ids_are_within_the_vocabulary(self, vocabulary: int) -> None:
        ids = Tokenizer(vocabulary)([str(case["text"]) for case in CASES])
        assert ids.min() == 0 and ids.max() == vocabulary - 1


@pytest.mark.parametrize("vocabulary", [-1, 0, 513, 514 + MERGES + 1])
def test_bad_vocabulary(vocabulary: int) -> None:
    with pytest.raises(ModelError, match=f"vocabulary of {vocabulary}: expected 514 to 49408"):
        Tokenizer(vocabulary)


@pytest.mark.parametrize("context", [-1, 0, 1])
def test_bad_context(context: int) -> None:
    with pytest.raises(ModelError, match=f"context of {context} tokens"):
        Tokenizer(context=context)


@settings(max_examples=50)
@given(st.text(max_size=60))
@example("\ud800 \udcff")
@example("\0\x1b\u200b\ufeff")
@example("&#x110000; &#0; &lt;")
@example("ﬁ ǅ İ ß")
def test_any_text_can_be_encoded(text: str) -> None:
    for tokenizer in (FULL, CUT):
        ids = tokenizer([text])[0].tolist()
        assert ids[0] == tokenizer.start and tokenizer.end in ids
        end = len(ids) - 1 - ids[::-1].index(tokenizer.end)
        assert not any(ids[end + 1 :])
        assert all(0 <= i < tokenizer.vocabulary for i in ids)


@settings(max_examples=50)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_what_was_encoded_can_be_read_back(text: str) -> None:
    """Bytes in, bytes out: only white space and the marks are not kept."""
    letters = {index: symbol for symbol, index in FULL._ids.items()}
    bytes_of = {letter: byte for byte, letter in FULL._letters.items()}
    symbols = "".join(letters[i].removesuffix("</w>") for i in FULL.encode(text) if i < 49406)
    read = bytes(bytes_of[letter] for letter in symbols).decode()
    assert read == "".join(clean(text).split())


def test_no_texts() -> None:
    assert FULL([]).shape == (0, 77)
