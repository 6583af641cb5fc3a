"""Measured colours: which basic colours a picture holds, and whether it is light or dark.

Every pixel of a small copy is given one of twelve colour names by hue, saturation and value. One or
two names are told if they have at least half of the picture, so that `mostly` is true.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.descriptions.texts import Look

SIDE = 64
LEAST_SHARE = 0.2
MOST = 0.5
METHOD = "hsv-1"
"""Changes whenever the same picture would be given other names."""
_HUES = (  # upper end in degrees
    (15, "red"),
    (42, "orange"),
    (68, "yellow"),
    (165, "green"),
    (255, "blue"),
    (290, "purple"),
    (342, "pink"),
    (360, "red"),
)
NAMES = ("black", "grey", "white", "brown", "beige", *dict.fromkeys(name for _, name in _HUES))


def look_at(image: Image.Image) -> Look:
    """The colours of an RGB picture."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    hue, saturation, value = np.moveaxis(np.asarray(small.convert("HSV"), np.float32), 2, 0)
    names = _named(hue * (360 / 255), saturation / 255, value / 255)
    shares = np.bincount(names.ravel(), minlength=len(NAMES)) / names.size
    told = [n for n in np.argsort(-shares, kind="stable")[:2] if shares[n] >= LEAST_SHARE]
    colours = tuple(NAMES[n] for n in told) if shares[told].sum() >= MOST else ()
    brightness = float(np.asarray(small.convert("L"), np.float32).mean() / 255)
    light = "dark" if brightness < 0.28 else "light" if brightness > 0.72 else None
    return Look(colours, light)


def _named(
    hue: NDArray[np.float32], saturation: NDArray[np.float32], value: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The place in `NAMES` of each pixel; hue in degrees, saturation and value 0..1."""
    ends = np.array([end for end, _ in _HUES[:-1]])
    places = np.array([NAMES.index(name) for _, name in _HUES])
    named = places[np.searchsorted(ends, hue, side="right")]
    warm = (hue < 48) & (value < 0.62) & (saturation > 0.2)
    named = np.where(warm, NAMES.index("brown"), named)
    pale = (hue > 15) & (hue < 52) & (value >= 0.62) & (saturation < 0.5)
    named = np.where(pale, NAMES.index("beige"), named)
    chroma = saturation * value
    neutral = np.where(value > 0.82, NAMES.index("white"), NAMES.index("grey"))
    named = np.where(chroma < 0.11, neutral, named)
    return np.asarray(np.where(value < 0.2, NAMES.index("black"), named))
