"""What a query is made of, as embeddings: texts, pictures, images of the library."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rwkvsearch.data.errors import ImageError, QueryError
from rwkvsearch.data.images import read_image
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.query import Crop, Term
from rwkvsearch.retrieval.terms import TermEncoder, cropped

PHOTOS = Path(__file__).parents[2] / "data" / "samples" / "photos"
PANDA = PHOTOS / "panda.jpg"


@pytest.fixture
def embed(
    tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TermEncoder]:
    monkeypatch.setenv("RWKVSEARCH_HOME", str(tmp_path / "home"))
    with Library.create(tmp_path / "library") as library:
        sync(library, [PANDA], encoder)
        yield TermEncoder(library, library.models()[0], encoder)


def test_each_kind(embed: TermEncoder, encoder: Encoder, pictures: list[Image.Image]) -> None:
    terms = [
        Term("a dog"),
        Term(path=PANDA),
        Term(image=pictures[0]),
        Term(image_id=1),
        Term(embedding=np.arange(32, dtype=np.float32)),
    ]
    panda = read_image(PANDA, min_side=encoder.image_size)
    wanted = [
        encoder.encode_texts([f"{encoder.card.prompt}a dog"])[0],
        *encoder.encode_images([panda, pictures[0]]),
        encoder.encode_images([panda])[0],
        np.arange(32) / np.linalg.norm(np.arange(32)),
    ]
    for found in (embed(terms), embed(terms[::-1])[::-1]):
        np.testing.assert_allclose(found[[0, 1, 2, 4]], np.array(wanted)[[0, 1, 2, 4]], atol=1e-6)
        np.testing.assert_allclose(found[3], wanted[3], atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_the_prompt_is_part_of_a_query(
    embed: TermEncoder, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = encoder.card
    monkeypatch.setattr(encoder, "card", type(card)(**{**vars(card), "prompt": "a photo of "}))
    found = embed([Term("a dog")])
    np.testing.assert_allclose(found, encoder.encode_texts(["a photo of a dog"]), atol=1e-6)
    np.testing.assert_allclose(embed.plain_texts(["a dog"]), encoder.encode_texts(["a dog"]))


@pytest.mark.parametrize(
    ("term", "reason"),
    [
        (Term(" "), "the query is empty"),
        (Term(image_id=77), "no image 77"),
        (Term(embedding=np.ones(7, np.float32)), "against embeddings of 32"),
        (Term(embedding=np.zeros(32, np.float32)), "zero or not finite"),
        (Term(embedding=np.full(32, np.nan, np.float32)), "zero or not finite"),
    ],
)
def test_refused(term: Term, reason: str, embed: TermEncoder) -> None:
    with pytest.raises(QueryError, match=reason):
        embed([Term("a dog"), term])


def test_a_picture_that_is_none(embed: TermEncoder, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        embed([Term(path=tmp_path / "nowhere.jpg")])


def test_a_crop(embed: TermEncoder, encoder: Encoder) -> None:
    whole = read_image(PANDA)
    width, height = whole.size
    part = whole.crop((width // 2, 0, width, height // 2))
    found = embed([Term(path=PANDA, crop=Crop(0.5, 0, 1, 0.5))])
    np.testing.assert_allclose(found, encoder.encode_images([part]), atol=0.02)
    assert float(found[0] @ encoder.encode_images([whole])[0]) < 0.999


def test_a_crop_has_at_least_one_pixel() -> None:
    image = Image.new("RGB", (10, 7))
    assert cropped(image, Crop(0, 0, 1, 1)).size == (10, 7)
    assert cropped(image, Crop(0.5, 0.5, 0.501, 0.501)).size == (1, 1)
    assert cropped(image, Crop(0.999, 0.999, 1, 1)).size == (1, 1)
