"""Draw scores of patches over their picture: grey picture, heat, a scale in cosine, words."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PANEL = 480
"""Pixels of the longer side of a picture in the drawing."""
MARGIN = 16
COLUMNS = 3
STRENGTH = 0.62
"""How much the heat covers the picture, whose contrast is halved so that colours can be read."""
UNSEEN = 0.35
"""Brightness of what the model does not see."""
_INK, _PAPER = (24, 24, 27), (250, 250, 249)
_TEXT, _SMALL = 18, 14
_BAR = (260, 14)
_FONTS = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "FreeSans.ttf")

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Panel:
    """Scores of patches `[rows, rows]` and what is written below them."""

    words: str
    patches: NDArray[np.float64]


def draw(
    picture: Image.Image, seen: Box, panels: Sequence[Panel], *, squares: bool = False
) -> Image.Image:
    """The picture beside its heat maps, on one scale, with a legend.

    `seen` is the part of the picture that the patches cover; what lies outside is dimmed. Patches
    are smoothed, or drawn as `squares`.
    """
    low = min(float(panel.patches.min()) for panel in panels)
    high = max(float(panel.patches.max()) for panel in panels)
    scale = (low, max(high, low + 1e-6))
    factor = PANEL / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    small = picture.resize(size, Image.Resampling.LANCZOS)
    x0, y0, x1, y1 = (round(edge * factor) for edge in seen)
    box = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
    cells = [_with_words(_dimmed(small, box), "the picture; what is dark is not seen")]
    if box == (0, 0, *size):
        cells = [_with_words(small, "the picture")]
    for panel in panels:
        heat = _heated(small, box, panel.patches, scale, squares=squares)
        cells.append(_with_words(heat, panel.words))
    return _arranged(cells, _legend(scale))


def colours() -> NDArray[np.uint8]:
    """The 256 colours of the scale, `[256, 3]`: from dark violet by red to pale yellow.

    Lightness rises evenly and hue turns one way, so that order is seen in colour, in print
    and by the colour-blind alike.
    """
    at = np.linspace(0, 1, 256)
    lightness = 0.24 + 0.70 * at
    hue = np.radians(285 + 180 * at)
    chroma = 0.04 + 0.13 * np.sin(np.pi * (0.12 + 0.76 * at))
    linear = _linear_rgb(lightness, chroma * np.cos(hue), chroma * np.sin(hue))
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * rgb).astype(np.uint8)


def _linear_rgb(
    lightness: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Oklab to linear sRGB, `[n, 3]`. Source: B. Ottosson, A perceptual color space (2020)."""
    to_cones = np.array(
        [
            [1, 0.3963377774, 0.2158037573],
            [1, -0.1055613458, -0.0638541728],
            [1, -0.0894841775, -1.2914855480],
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    cones = (np.stack([lightness, a, b], axis=1) @ to_cones.T) ** 3
    linear: NDArray[np.float64] = np.clip(cones @ to_rgb.T, 0, 1)
    return linear


def _dimmed(picture: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The picture with what lies outside of the box darkened."""
    dark = Image.eval(picture, lambda value: round(value * UNSEEN))
    dark.paste(picture.crop(box), box[:2])
    return dark


def _heated(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    patches: NDArray[np.float64],
    scale: tuple[float, float],
    *,
    squares: bool,
) -> Image.Image:
    size = (box[2] - box[0], box[3] - box[1])
    how = Image.Resampling.NEAREST if squares else Image.Resampling.BILINEAR
    grid = np.asarray(Image.fromarray(patches.astype(np.float32)).resize(size, how))
    low, high = scale
    levels = np.clip(255 * (grid - low) / (high - low), 0, 255).round().astype(np.uint8)
    grey = picture.convert("L").convert("RGB")
    flat = Image.eval(grey.crop(box), lambda value: 64 + value // 2)
    heat = Image.blend(flat, Image.fromarray(colours()[levels]), STRENGTH)
    result = _dimmed(grey, (0, 0, 0, 0))
    result.paste(heat, box[:2])
    return result


def _with_words(picture: Image.Image, words: str) -> Image.Image:
    """The picture in a cell as wide as all others, words below it."""
    font, step = _font(_TEXT, plain=words.isascii()), _TEXT + 6
    lines = _wrapped(words, font, PANEL)
    cell = Image.new("RGB", (PANEL, picture.height + 8 + step * len(lines)), _PAPER)
    cell.paste(picture, ((PANEL - picture.width) // 2, 0))
    pen = ImageDraw.Draw(cell)
    for row, line in enumerate(lines):
        pen.text((0, picture.height + 8 + row * step), line, _INK, font)
    return cell


def _legend(scale: tuple[float, float]) -> Image.Image:
    low, high = scale
    width, height = _BAR
    strip = Image.new("RGB", (PANEL, height + 2 * _SMALL + 8), _PAPER)
    bar = Image.fromarray(colours()[None]).resize(_BAR)
    strip.paste(bar, (0, 0))
    pen, font = ImageDraw.Draw(strip), _font(_SMALL)
    pen.text((width + 10, 0), "cosine; their mean is the score", _INK, font)
    at = {low: "la", (low + high) / 2: "ma", high: "ra"}
    for value, anchor in at.items():
        x = round((value - low) / (high - low) * (width - 1))
        pen.line([(x, height), (x, height + 4)], _INK)
        pen.text((x, height + 6), f"{value:.2f}", _INK, font, anchor=anchor)
    return strip


def _arranged(cells: Sequence[Image.Image], legend: Image.Image) -> Image.Image:
    columns = 2 if len(cells) in (2, 4) else COLUMNS
    height = max(cell.height for cell in cells) + MARGIN
    rows = ceil(len(cells) / columns)
    width = MARGIN + columns * (PANEL + MARGIN)
    page = Image.new("RGB", (width, 2 * MARGIN + rows * height + legend.height), _PAPER)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        page.paste(cell, (MARGIN + column * (PANEL + MARGIN), MARGIN + row * height))
    page.paste(legend, (MARGIN, MARGIN + rows * height))
    return page


def _wrapped(words: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines no wider than `width` pixels; a word that is too long is cut."""
    lines = [""]
    for word in words.split():
        while font.getlength(word) > width:
            word = word[:-4] + "..."
        longer = f"{lines[-1]} {word}".lstrip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def _font(size: int, *, plain: bool = True) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which has ASCII only; for other letters one of this machine's."""
    for name in () if plain else _FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
