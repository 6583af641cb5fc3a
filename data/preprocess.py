"""CLIP's evaluation transform: an image to the pixels a tower reads."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
PREPROCESSING_ID = "clip-bicubic-crop"
"""Names this transform in a library; its image size is part of the model."""
MAX_RESIZED = 1 << 24
"""Pixels a resized picture may have before its crop; a strip one pixel high would take gigabytes.

Of a longer strip (more than 334 times as long as wide at 224 pixels) only the middle is resized.
"""


def preprocess(image: Image.Image, size: int) -> NDArray[np.float32]:
    """Resize the shortest side to `size` (bicubic), crop the centre, normalise per channel.

    Args:
        image: RGB, upright, any size.
        size: height and width of the result, pixels.

    Returns:
        `[3, size, size]`. Source: the transform published with CLIP; sides round as it does.
    """
    short = min(image.size)
    width, height = (min(side, short * (MAX_RESIZED // size**2)) for side in image.size)
    if (width, height) != image.size:
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    image = image.resize((size * width // short, size * height // short), Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in image.size)
    image = image.crop((left, top, left + size, top + size))
    return normalise(np.asarray(image))


def seen_part(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """What `preprocess` leaves of a picture: left, top, right, bottom, in its own pixels."""
    short = min(width, height)
    (left, right), (top, bottom) = (_seen_along(side, short, size) for side in (width, height))
    return left, top, right, bottom


def _seen_along(side: int, short: int, size: int) -> tuple[float, float]:
    middle = min(side, short * (MAX_RESIZED // size**2))
    resized = size * middle // short
    scale, begin = middle / resized, (side - middle) // 2
    first = begin + scale * round((resized - size) / 2)
    return first, first + scale * size


def normalise(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return uint8 `[S, S, 3]` as normalised float32 `[3, S, S]`."""
    # [3, S, S] first: the same numbers ten times as fast as over the innermost three.
    pixels = np.ascontiguousarray(rgb.transpose(2, 0, 1)).astype(np.float32)
    pixels /= 255
    pixels -= MEAN[:, None, None]
    pixels /= STD[:, None, None]
    return pixels
