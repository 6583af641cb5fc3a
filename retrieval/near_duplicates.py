"""Measure what finds near duplicates: embedding, perceptual hash, or both.

Run as `python -m rwkvsearch.retrieval.near_duplicates DIR`: takes photographs from DIR, makes
altered copies of each, and says for some limits which share of the pairs that were called
duplicates are two versions of one photograph (precision), and which share of the altered copies
was found to belong to its original (recall), for each way of altering.
"""

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.images import read_image
from rwkvsearch.data.perceptual import hamming, perceptual_hash
from rwkvsearch.data.walk import find_images
from rwkvsearch.retrieval.encoder import Encoder

_ROWS = 512


def _saved(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return read_image(stream)


def _cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality 60": lambda image: _saved(image, 60),
    "half the size": lambda image: _saved(image.resize((image.width // 2, image.height // 2)), 85),
    "2 % cut off": lambda image: _saved(_cropped(image, 0.02), 90),
    "5 % cut off": lambda image: _saved(_cropped(image, 0.05), 90),
    "15 % brighter": lambda image: _saved(ImageEnhance.Brightness(image).enhance(1.15), 90),
}
"""What is done to each photograph; cut off is from each side."""


def measure(
    photographs: list[Path], encoder: Encoder, limits: list[tuple[float, int]]
) -> Iterator[tuple[float, int, int, float, dict[str, float]]]:
    """Yield for each limit (least score, largest distance) what it finds.

    Both limits, the number of pairs called duplicates, the precision, and recall by alteration.
    """
    embeddings, hashes = _versions(photographs, encoder)
    versions = len(ALTERATIONS) + 1
    called = [np.zeros((versions, versions), np.int64) for _ in limits]
    right = [np.zeros((versions, versions), np.int64) for _ in limits]
    number = len(photographs)
    owner = np.arange(number)
    for one in range(versions):
        for other in range(one, versions):
            for start in range(0, number, _ROWS):
                rows = slice(start, start + _ROWS)
                scores = embeddings[one, rows] @ embeddings[other].T
                far = hamming(hashes[one, rows, None], hashes[other][None])
                same = owner[rows, None] == owner[None]
                counted = owner[rows, None] < owner[None] if one == other else np.ones_like(same)
                for at, (score, distance) in enumerate(limits):
                    near = (scores >= score) & (far <= distance) & counted
                    called[at][one, other] += near.sum()
                    right[at][one, other] += (near & same).sum()
    for at, (score, distance) in enumerate(limits):
        shares = right[at][0, 1:] / number
        precision = float(right[at].sum() / max(called[at].sum(), 1))
        recall = dict(zip(ALTERATIONS, shares.tolist(), strict=True))
        yield score, distance, int(called[at].sum()), precision, recall


def _versions(
    photographs: list[Path], encoder: Encoder
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings `[versions, N, D]` and hashes `[versions, N]`, the untouched version first."""
    ways = [lambda image: image, *ALTERATIONS.values()]
    embeddings = np.empty((len(ways), len(photographs), encoder.dim), np.float32)
    hashes = np.empty(embeddings.shape[:2], np.int64)
    for at, path in enumerate(photographs):
        original = read_image(path)
        images = [way(original) for way in ways]
        embeddings[:, at] = encoder.encode_images(images)
        hashes[:, at] = [perceptual_hash(image) for image in images]
    return embeddings, hashes


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure what finds near duplicates.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photographs", type=int, default=300)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--score", type=float, action="append")
    parser.add_argument("--distance", type=int, action="append", help="64: the score alone")
    asked = parser.parse_args()
    photographs = sorted(find_images(asked.folder))[: asked.photographs]
    if not photographs:
        raise DataError(f"{asked.folder}: no images found")
    limits = [(s, d) for s in asked.score or [0.9, 0.95] for d in asked.distance or [8, 10, 64]]
    names = "".join(f"{name:>15}" for name in ALTERATIONS)
    sys.stdout.write(f"{'score':>5}{'bits':>5}{'pairs':>9}{'precision':>10}{names}\n")
    for score, distance, pairs, precision, recall in measure(
        photographs, Encoder.load(asked.model), limits
    ):
        found = "".join(f"{share:>15.3f}" for share in recall.values())
        sys.stdout.write(f"{score:>5g}{distance:>5}{pairs:>9}{precision:>10.4f}{found}\n")


if __name__ == "__main__":
    main()
