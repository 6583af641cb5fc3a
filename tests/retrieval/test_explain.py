"""The parts of a score add up to it, and are drawn where the model looked."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.errors import QueryError
from rwkvsearch.data.images import read_image
from rwkvsearch.data.preprocess import seen_part
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.sync import sync
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.explain import WeightedTerm, explain, why_picture
from rwkvsearch.retrieval.heat import MARGIN, PANEL, UNSEEN, Panel, colours, draw

PHOTOS = Path(__file__).parents[2] / "data/samples/photos"
QUERY = [("a dog", 1.0), ("a red sofa by the window", 2.5), ("snow", -0.5)]


def terms_of(encoder: Encoder, query: list[tuple[str, float]]) -> list[WeightedTerm]:
    embeddings = encoder.encode_texts([text for text, _ in query])
    return [(text, weight, e) for (text, weight), e in zip(query, embeddings, strict=True)]


def unit_query(terms: list[WeightedTerm]) -> NDArray[np.float64]:
    total = np.sum([weight * embedding.astype(float) for _, weight, embedding in terms], axis=0)
    return np.asarray(total / np.linalg.norm(total))


@pytest.fixture(scope="module")
def starter() -> Encoder:
    """The shipped model."""
    return Encoder.load("starter", device="cpu")


def assert_adds_up(encoder: Encoder, image: Image.Image) -> None:
    terms = terms_of(encoder, QUERY)
    found = explain(encoder, image, terms)
    (embedding,) = encoder.encode_images([image])
    score = float(embedding @ unit_query(terms))
    assert found.score == pytest.approx(score, abs=1e-6)
    assert found.patches.mean() == pytest.approx(score, abs=1e-6)
    assert found.patches.shape == (encoder.config.image.rows, encoder.config.image.rows)
    for part, (_, _, term) in zip(found.parts, terms, strict=True):
        assert part.score == pytest.approx(float(embedding @ term), abs=1e-6)
        assert part.patches.mean() == pytest.approx(float(embedding @ term), abs=1e-6)
    assert sum(part.added for part in found.parts) == pytest.approx(score, abs=1e-6)
    assert [part.weight < 0 for part in found.parts] == [False, False, True]
    assert found.patches.std() > 1e-4  # not the same everywhere


def test_patches_and_terms_add_up(encoder: Encoder, pictures: list[Image.Image]) -> None:
    for picture in pictures:
        assert_adds_up(encoder, picture)


@pytest.mark.parametrize("name", ["dogs.jpg", "mountain-lake.jpg"])  # portrait and landscape
def test_patches_of_the_starter_model_add_up(starter: Encoder, name: str) -> None:
    assert_adds_up(starter, read_image(PHOTOS / name, min_side=starter.image_size))


def test_patches_average_to_the_stored_score(
    encoder: Encoder, pictures: list[Image.Image], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures):
        picture.resize((picture.width * 9, picture.height * 9)).save(
            tmp_path / "photos" / f"{number}.jpg"
        )
    terms = terms_of(encoder, QUERY)
    with Library.create(tmp_path / "library") as library:
        sync(library, [tmp_path / "photos"], encoder)
        ids, halves = library.embeddings(encoder.model_id, encoder.preprocessing_id)
        paths = library.paths_of(ids.tolist())
    assert len(ids) == len(pictures)
    for image_id, half in zip(ids.tolist(), halves, strict=True):
        stored = float(half.astype(float) @ unit_query(terms))
        image = read_image(paths[image_id][0], min_side=encoder.image_size)
        assert explain(encoder, image, terms).patches.mean() == pytest.approx(stored, abs=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_tokens_of_every_precision_are_those_of_its_embedding(
    installed: str, pictures: list[Image.Image], precision: str
) -> None:
    encoder = Encoder.load(installed, device="cpu", precision=precision)  # type: ignore[arg-type]
    tokens = encoder.encode_patches(pictures[:1])
    means = tokens.mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert tokens.shape == (1, 16, 32) and tokens.dtype == np.float32
    np.testing.assert_allclose(means, encoder.encode_images(pictures[:1]), atol=1e-5)


def test_tokens_do_not_depend_on_the_batch(encoder: Encoder, pictures: list[Image.Image]) -> None:
    together = encoder.encode_patches(pictures)
    alone = np.concatenate([encoder.encode_patches([picture]) for picture in pictures])
    np.testing.assert_allclose(alone, together, atol=1e-4)
    assert encoder.encode_patches([]).shape == (0, 16, 32)


@pytest.mark.gpu
def test_tokens_on_a_gpu(installed: str, pictures: list[Image.Image]) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu, cuda = (Encoder.load(installed, device=device) for device in ("cpu", "cuda"))
    expected = cpu.encode_patches(pictures)
    np.testing.assert_allclose(cuda.encode_patches(pictures), expected, atol=1e-3)


def test_words(encoder: Encoder, pictures: list[Image.Image]) -> None:
    found = explain(encoder, pictures[1], terms_of(encoder, QUERY))
    dog, sofa, snow = found.parts
    shares = [round(100 * part.added / found.score) for part in found.parts]
    assert found.words(0.5) == (
        f"score 0.500: a dog {dog.score:.2f} ({shares[0]:+d} %), a red sofa by the window "
        f"{sofa.score:.2f} ({shares[1]:+d} %), - snow {snow.score:.2f} ({shares[2]:+d} %)"
    )
    assert sum(shares) == pytest.approx(100, abs=2)
    alone = explain(encoder, pictures[1], terms_of(encoder, QUERY[:1]))
    assert alone.words() == f"score {alone.score:.3f}: a dog"


def test_words_where_there_is_no_score_to_share(
    encoder: Encoder, pictures: list[Image.Image]
) -> None:
    """Two terms that add as much as they take."""
    (embedding,) = encoder.encode_images(pictures[:1])
    across = np.roll(embedding, 1) - embedding * float(np.roll(embedding, 1) @ embedding)
    across /= np.linalg.norm(across)
    one, other = embedding + across, across - embedding
    terms = [("one", 1.0, one / np.linalg.norm(one)), ("other", 1.0, other / np.linalg.norm(other))]
    found = explain(encoder, pictures[0], terms)
    assert found.score == pytest.approx(0, abs=1e-5)
    assert found.words().endswith(": one 0.71 (+0.500), other -0.71 (-0.500)")


def test_terms_that_take_each_other_away(encoder: Encoder, pictures: list[Image.Image]) -> None:
    (_, _, dog), *_ = terms_of(encoder, QUERY)
    with pytest.raises(QueryError, match="nothing is left"):
        explain(encoder, pictures[0], [("a dog", 1.0, dog), ("the dog", -1.0, dog)])


def test_a_term_of_weight_0_is_only_shown(encoder: Encoder, pictures: list[Image.Image]) -> None:
    """Of a query whose terms all have to hold, the weakest alone counts."""
    dog, sofa, _ = terms_of(encoder, QUERY)
    silent = (sofa[0], 0.0, sofa[2])
    found = explain(encoder, pictures[0], [dog, silent])
    assert found.score == pytest.approx(found.parts[0].score)
    assert found.parts[1].score != 0 and found.parts[1].added == 0


def marked(size: tuple[int, int]) -> Image.Image:
    """Red tells the column and green the row, from 0 to 255."""
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([across, down, 0 * down], axis=2).astype(np.uint8))


@pytest.mark.parametrize("size", [(480, 240), (201, 480), (480, 479), (300, 300)])
def test_heat_lies_where_the_model_looked(size: tuple[int, int]) -> None:
    """One hot patch of 4 x 4 is drawn over its part of the upright picture, and nowhere else."""
    patches = np.zeros((4, 4))
    patches[1, 2] = 1.0
    picture = marked(size)
    drawn = draw(picture, seen_part(*size, 32), [Panel("hot", patches)], squares=True)
    factor = PANEL / max(size)
    shown = (round(size[0] * factor), round(size[1] * factor))
    at = (2 * MARGIN + PANEL + (PANEL - shown[0]) // 2, MARGIN)
    heat = np.asarray(drawn.crop((*at, at[0] + shown[0], at[1] + shown[1]))).astype(int)
    rows, columns = np.nonzero(heat[..., 0] - heat[..., 2] > 20)  # yellow, not violet
    short = min(shown)
    left, top = ((side - short) / 2 for side in shown)
    found = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    wanted = (left + short / 2, left + 3 * short / 4, top + short / 4, top + short / 2)
    np.testing.assert_allclose(found, wanted, atol=3)


def test_what_is_not_seen_is_dark() -> None:
    picture = Image.new("RGB", (400, 100), (200, 200, 200))
    drawn = draw(picture, seen_part(400, 100, 32), [Panel("", np.eye(4))])
    assert drawn.getpixel((MARGIN + 10, MARGIN + 50)) == (round(200 * UNSEEN),) * 3
    assert drawn.getpixel((MARGIN + PANEL // 2, MARGIN + 50)) == (200, 200, 200)
    left = MARGIN + PANEL + MARGIN
    assert drawn.getpixel((left + 10, MARGIN + 50)) == (round(200 * UNSEEN),) * 3


@pytest.mark.parametrize("size", [(1, 1), (5000, 2), (2, 5000), (31, 90)])
def test_odd_sizes_are_drawn(encoder: Encoder, size: tuple[int, int]) -> None:
    terms = terms_of(encoder, QUERY)
    picture, words = why_picture(encoder, marked(size), terms, 0.123)
    assert words.startswith("score 0.123: a dog ")
    assert picture.width == MARGIN + 3 * (PANEL + MARGIN)  # the picture, all, three terms


def test_drawn_on_a_larger_copy(encoder: Encoder) -> None:
    terms = terms_of(encoder, QUERY[:1])
    small, large = marked((60, 40)), marked((600, 400))
    (one, words), (other, same) = (
        why_picture(encoder, small, terms, shown=shown) for shown in (None, large)
    )
    assert words == same and one.size == other.size
    assert np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean() < 3


def test_words_of_any_kind_fit(encoder: Encoder) -> None:
    long = [("a" * 300, 1.0), ("größer 日本", 1.0), ("", -1.0)]
    picture, _ = why_picture(encoder, marked((30, 30)), terms_of(encoder, long))
    edge = np.asarray(picture)[:, -MARGIN // 2 :]
    assert (edge == edge[0, 0]).all()  # nothing runs out of the page


def test_colours_rise_evenly_in_lightness() -> None:
    rgb = colours() / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # CIE 1976
    steps = np.diff(lightness)
    assert steps.min() > 0.1 and steps.max() < 0.7
    assert lightness[0] < 15 and lightness[-1] > 90
