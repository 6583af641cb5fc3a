"""Embeddings do not depend on how the work is cut up, nor on what is encoded beside it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from rwkvsearch.data.errors import ModelError
from rwkvsearch.data.preprocess import preprocess
from rwkvsearch.data.tokenizer import Tokenizer
from rwkvsearch.retrieval import encoder as module
from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.models import checked_weights, read_card
from rwkvsearch.retrieval.rwkv_clip.checkpoint import build, load_tensors

TEXTS = [
    "a dog",
    "",
    "two cats asleep on a red sofa in the sun beside a window that is open",
    "dog a",
    "A DOG",
    "日本の犬 🐕",
    "a",
    "x" * 500,
]


def test_embeddings_are_unit_vectors(encoder: Encoder, pictures: list[Image.Image]) -> None:
    for embeddings in (encoder.encode_images(pictures), encoder.encode_texts(TEXTS)):
        assert embeddings.dtype == np.float32 and embeddings.shape[1] == encoder.dim == 32
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_images_do_not_depend_on_the_batch(
    encoder: Encoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = encoder.encode_images(pictures)
    alone = np.concatenate([encoder.encode_images([picture]) for picture in pictures])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 1)
    np.testing.assert_allclose(encoder.encode_images(pictures), together, atol=1e-5)
    spread = together @ together.T
    assert (spread[~np.eye(len(pictures), dtype=bool)] < 1 - 1e-4).all()  # no two alike


def test_texts_do_not_depend_on_the_others(encoder: Encoder) -> None:
    together = encoder.encode_texts(TEXTS)
    backwards = encoder.encode_texts(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(backwards, together, atol=1e-5)
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    many = encoder.encode_texts(TEXTS * 40)  # several micro-batches
    np.testing.assert_allclose(many, np.tile(together, (40, 1)), atol=1e-5)


def test_case_and_order_of_words(encoder: Encoder) -> None:
    dog, other_order, upper = encoder.encode_texts(["a dog", "dog a", "A  DOG "])
    assert np.array_equal(dog, upper)
    assert dog @ other_order < 1 - 1e-4


def test_what_is_beyond_the_context_is_cut_off(encoder: Encoder) -> None:
    one, other = encoder.encode_texts([f"{'dog ' * 30}{end}" for end in ("cat", "house")])
    assert np.array_equal(one, other)


@pytest.mark.usefixtures("installed")
def test_padding_to_the_full_context_is_part_of_the_model(encoder: Encoder) -> None:
    """Not cut to the longest text of the batch: padding is ordinary input."""
    model = build(encoder.config, load_tensors(checked_weights(encoder.card)), "tiny")
    ids = torch.from_numpy(Tokenizer(1000, 12)(["a dog"]))
    full, short = (model.text(x)[0] / model.text(x)[0].norm() for x in (ids, ids[:, :4]))
    (got,) = encoder.encode_texts(["a dog"])
    np.testing.assert_allclose(got, full.numpy(), atol=1e-5)
    assert got @ short.numpy() < 0.999


def test_pictures_go_through_the_transform(encoder: Encoder, pictures: list[Image.Image]) -> None:
    pixels = np.stack([preprocess(picture, 32) for picture in pictures])
    assert np.array_equal(pixels[2], encoder.preprocess(pictures[2]))
    assert np.array_equal(encoder.encode_pixels(pixels), encoder.encode_images(pictures))


def test_nothing_to_encode(encoder: Encoder) -> None:
    assert encoder.encode_texts([]).shape == (0, 32)
    assert encoder.encode_images([]).shape == (0, 32)


def test_safe_among_threads(encoder: Encoder, pictures: list[Image.Image]) -> None:
    images, texts = encoder.encode_images(pictures), encoder.encode_texts(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            (pool.submit(encoder.encode_images, pictures), pool.submit(encoder.encode_texts, TEXTS))
            for _ in range(16)
        ]
    for image_job, text_job in jobs:
        np.testing.assert_allclose(image_job.result(), images, atol=1e-6)
        np.testing.assert_allclose(text_job.result(), texts, atol=1e-6)


def test_names(encoder: Encoder, installed: str) -> None:
    sha256 = read_card(installed).sha256
    assert encoder.model_id == f"{installed}-{sha256[:8]}-fp32"
    assert encoder.preprocessing_id == "clip-bicubic-crop-32"
    assert (encoder.weights_sha256, encoder.image_size) == (sha256, 32)


def test_device_from_the_environment(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RWKVSEARCH_DEVICE", "")
    assert Encoder.load(installed).device.type == "cpu"
    monkeypatch.setenv("RWKVSEARCH_DEVICE", "warp")
    with pytest.raises(ModelError, match="device 'warp' cannot be used"):
        Encoder.load(installed)
    assert Encoder.load(installed, device="cpu").device.type == "cpu"


def test_precision_is_part_of_the_model_id(
    encoder: Encoder, installed: str, pictures: list[Image.Image]
) -> None:
    half = Encoder.load(installed, precision="bf16")
    assert half.model_id == encoder.model_id.replace("fp32", "bf16")
    exact, rounded = (x.encode_images(pictures) for x in (encoder, half))
    assert rounded.dtype == np.float32 and not np.array_equal(rounded, exact)
    assert (exact * rounded).sum(1).min() > 0.999
    with pytest.raises(
        ModelError, match="no precision is called 'fp8'; there are fp32, bf16, int8"
    ):
        Encoder.load(installed, precision="fp8")  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(installed: str) -> None:
    with pytest.raises(ModelError, match="device 'cuda:0' cannot be used.*") as caught:
        Encoder.load(installed, device="cuda:0")
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_cuda_equals_cpu(installed: str, pictures: list[Image.Image]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu, cuda = (Encoder.load(installed, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda.encode_images(pictures), cpu.encode_images(pictures), atol=1e-4)
    np.testing.assert_allclose(cuda.encode_texts(TEXTS), cpu.encode_texts(TEXTS), atol=1e-4)


def test_features_are_embeddings_before_normalisation(
    encoder: Encoder, pictures: list[Image.Image]
) -> None:
    pixels = np.stack([encoder.preprocess(picture) for picture in pictures])
    features = encoder.encode_features(pixels)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    assert np.ptp(lengths) > 1e-3
    np.testing.assert_allclose(features / lengths, encoder.encode_pixels(pixels), atol=1e-6)
    patches = encoder.encode_patches(pictures)
    np.testing.assert_allclose(features, patches.mean(axis=1), atol=1e-5)
