"""How sure a label is, by hand and against the definition; which words an option names."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.descriptions.vocabulary import Word, everyday_words
from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.indexer.tags import count_tags
from rwkvsearch.retrieval.classify import BATCH, embed_files
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.labels import Labels, choice, confidences, fingerprint, one_of
from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
from rwkvsearch.retrieval.tagging import Tagging

Floats = NDArray[np.float32]


class Basis:
    """Each word that it is asked for is a direction of its own."""

    scale = 4.0

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        begin = len(self.asked)
        self.asked += texts
        return np.eye(1000, dtype=np.float32)[begin : len(self.asked)]


def at(*cosines: float) -> Floats:
    """A picture with these cosines to the first directions."""
    rest = np.sqrt(max(0, 1 - np.sum(np.square(cosines))))
    return np.array([[*cosines, *[0] * (999 - len(cosines)), rest]], np.float32)


def words(*names: str) -> dict[str, Word]:
    return {name: Word(name) for name in names}


def test_confidence_of_plain_words() -> None:
    """Two words: one e times as likely as the other has the share 0.731, of which 0.5 is chance."""
    sure = confidences(np.array([[1.0, 0.0]], np.float32), 1.0, {})
    share = np.e / (np.e + 1)
    np.testing.assert_allclose(sure, [[2 * share - 1, 1 - 2 * share]], rtol=1e-6)
    alike = confidences(np.full((3, 4), 0.7, np.float32), 30.0, {})
    np.testing.assert_allclose(alike, np.zeros((3, 4)), atol=1e-6)


def test_a_broader_word_has_all_its_kinds() -> None:
    """Of five words: column 0 is broader than 1 and 2, which are alike and certain."""
    scores = np.array([[0.0, 9.0, 9.0, 0.0, 0.0]], np.float32)
    sure = confidences(scores, 10.0, {0: [1, 2]})[0]
    np.testing.assert_allclose(sure, [1, 0.375, 0.375, -0.25, -0.25], atol=1e-6)
    even = confidences(np.zeros((1, 5), np.float32), 10.0, {0: [1, 2]})
    np.testing.assert_allclose(even, np.zeros((1, 5)), atol=1e-6)


def test_equal_to_the_definition() -> None:
    """shares @ holds, less chance, in float64."""
    random = np.random.default_rng(3)
    scores = random.uniform(-0.3, 0.4, (17, 9))
    narrower = {0: [3, 4, 5], 1: [0, 3, 4, 5], 8: [7]}
    holds = np.eye(9)
    for broader, kinds in narrower.items():
        holds[kinds, broader] = 1
    shares = np.exp(33 * scores) / np.exp(33 * scores).sum(axis=1, keepdims=True)
    chance = holds.mean(axis=0)
    expected = (shares @ holds - chance) / (1 - chance)
    got = confidences(scores.astype(np.float32), 33.0, narrower)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_one_word_or_one_above_all_says_nothing() -> None:
    assert Labels(Basis(), words("dog")).tags(at(1.0), 0.01) == [[]]
    above = {"animal": Word("animal"), "dog": Word("dog", parent="animal")}
    ((animal, dog),) = Labels(Basis(), above).confidences(at(0, 1.0)).tolist()
    assert animal == 0 and dog > 0.9


def test_rivals_take_their_share_and_are_never_given() -> None:
    labels = Labels(Basis(), words("a bride", "a cake"), rivals=words("a dog", "a cake", "sky"))
    assert labels.names == ("a bride", "a cake")
    (sure,) = labels.tags(at(0.0, 0.9), 0.5)
    assert [tag.name for tag in sure] == ["a cake"]
    assert labels.tags(at(0.0, 0.0, 0.9), 0.05) == [[]]  # a dog
    alone = Labels(Basis(), words("a bride", "a cake"))
    assert (
        labels.tags(at(0.1, 0.3), 0.0)[0][0].confidence
        < alone.tags(at(0.1, 0.3), 0.0)[0][0].confidence
    )


def test_best_first_and_no_more_than_asked() -> None:
    labels = Labels(Basis(), words(*"abcdef"))
    (tags,) = labels.tags(at(0.1, 0.5, 0.3, 0.5, 0.2), -1, most=4)
    assert [tag.name for tag in tags] == ["b", "d", "c", "e"]  # equal ones in the order of the list
    assert len(Labels(Basis(), words(*"abcdefghijklmnop")).tags(at(0.1), -1)[0]) == 10
    many = np.repeat(at(0.1, 0.5), 700, axis=0)
    assert [tags[0].name for tags in labels.tags(many, 0)] == ["b"] * 700
    assert labels.tags(many[:0], 0) == []


def test_sentences() -> None:
    basis = Basis()
    Labels(basis, {name: everyday_words()[name] for name in ("fox", "grass", "beach", "cooking")})
    assert basis.asked == [
        "a photo of a fox",
        "a photo of grass",
        "a photo of a place on a beach",
        "a photo of people cooking",
    ]
    basis = Basis()
    Labels(basis, words("fox", "owl"), templates=["a drawing of {}", "{}!"])
    assert basis.asked == ["a drawing of fox", "fox!", "a drawing of owl", "owl!"]


def test_the_mean_of_templates() -> None:
    labels = Labels(Basis(), words("fox", "owl"), templates=["a {}", "{}"])
    half = float(np.sqrt(0.5))
    fox, owl = labels.confidences(at(half, half))[0].tolist()
    assert fox == pytest.approx(np.tanh(4 * 1 / 2), abs=1e-4)  # cosines 1 and 0 at scale 4
    assert owl == pytest.approx(-fox)


def test_which_words_are_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("# my labels\nfox\n\n  a red   fox\nfox\n", "utf-8")
    assert choice(None) == everyday_words()
    assert [*choice("fox, a red  fox,,fox")] == ["fox", "a red fox"]
    assert [*choice("mine")] == [*choice(f"{tmp_path}/mine")] == ["fox", "a red fox"]
    assert [*choice("fox")] == ["fox"]
    for odd in ("~nobody at all", "~nobody,fox", "fox" * 100):  # no name of a file
        assert [*choice(odd)] == odd.split(",")
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbffox\r\n\r\n# no\r\nfox\r\n dog ")
    assert [*choice(f"{tmp_path}/bom.txt")] == ["fox", "dog"]
    assert choice("mouse, x")["mouse"].form == "mice"
    for absent in ("no.txt", "folder/no"):
        with pytest.raises(DataError, match=f"{absent}: cannot be read"):
            choice(absent)
    for empty in (",", " ", ""):
        with pytest.raises(DataError, match="no label"):
            choice(empty)


def test_a_choice_of_one() -> None:
    assert one_of({"dog": Word("dog", "thing", "animal", "dogs")} | words("x"))["dog"].parent == ""
    with pytest.raises(DataError, match="dog: give two labels or more"):
        one_of(words("dog"))


def test_a_fingerprint_tells_apart() -> None:
    every = [
        fingerprint(["a", "b"], ["c"]),
        fingerprint(["a"], ["b", "c"]),
        fingerprint(["a", "b", "c"], []),
        fingerprint(["ab"], ["c"]),
    ]
    assert len({*every}) == 4 and fingerprint(["a", "b"], ["c"]) == every[0]


def test_files_in_order_with_the_bad_ones_named(
    encoder: Encoder, pictures: list[Image.Image], tmp_path: Path
) -> None:
    paths = []
    for number in range(2 * BATCH + 3):
        paths.append(tmp_path / f"{number:03}.png")
        if number % 10 == 4:
            paths[-1].write_bytes(b"no picture")
        else:
            pictures[number % 9].save(paths[-1])
    paths.append(tmp_path / "absent.png")
    found = list(embed_files(encoder, iter(paths)))
    assert [path for path, _ in found] == paths
    for number, (_, result) in enumerate(found[:-1]):
        if number % 10 == 4:
            assert isinstance(result, ImageError) and result.reason == "not an image"
        else:
            (expected,) = encoder.encode_images([pictures[number % 9]])
            assert not isinstance(result, ImageError)
            np.testing.assert_allclose(result, expected, atol=1e-5)
    assert isinstance(found[-1][1], ImageError) and found[-1][1].reason == "file not found"
    assert list(embed_files(encoder, [])) == []


@pytest.mark.usefixtures("installed")
def test_tags_of_a_library_are_those_of_its_pictures(
    encoder: Encoder, installed: str, pictures: list[Image.Image], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / "photos" / f"{number}.png")
    lazy = LazyEncoder.of(installed, "cpu", "fp32")
    tagging = Tagging(words("fox", "owl", "red"), min_confidence=0.0)
    with Library.create(tmp_path / "library") as library:
        sync(library, [tmp_path / "photos"], encoder)
        assert tagging.count(library, lazy) == 9
        done = tagging.run(library, lazy)
        assert tagging.count(library, lazy) == 0
        counted = dict(count_tags(library))
    labels = Labels(encoder, tagging.words, rivals=everyday_words())
    expected = labels.tags(encoder.encode_images(pictures), 0.0)
    close = np.abs(labels.confidences(encoder.encode_images(pictures))) < 1e-4  # of chance
    assert done.images == 9 and abs(done.tags - sum(map(len, expected))) <= close.sum()
    assert sum(counted.values()) == done.tags


def test_how_changes_with_what_changes_the_tags() -> None:
    every = [
        Tagging(),
        Tagging(words("fox")),
        Tagging(words("fox"), ["a {}"]),
        Tagging(words("fox"), ["a {}"], 0.4),
    ]
    assert len({tagging.how for tagging in every}) == 4
    assert Tagging().how == every[0].how


def test_the_shipped_model_on_sample_photographs() -> None:
    photos = Path(__file__).parents[2] / "data/samples/photos"
    encoder = Encoder.load("starter", device="cpu")
    pictures = [read_image(photos / f"{name}.jpg") for name in ("moose", "dogs")]
    labels = Labels(encoder, one_of(words("moose", "dog", "airplane", "flower", "cup")))
    found = labels.tags(encoder.encode_images(pictures), 0, most=1)
    assert [tag.name for (tag,) in found] == ["moose", "dog"]
