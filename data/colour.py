"""Turn whatever a decoder gives into 8-bit sRGB, transparency over white."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms
from PIL.ImageFile import ImageFile

# Bytes; the largest CMYK profiles of printers are about 3 MB.
_MAX_PROFILE = 1 << 23
_SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "L": "GRAY", "CMYK": "CMYK"}


def to_rgb(image: Image.Image, profile: bytes | None = None) -> Image.Image:
    """`image` as RGB over white; `profile` is the ICC profile of its file.

    A profile that is damaged, or made for another kind of colours, is ignored.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        colour = _to_srgb(rgba, profile)
        white = Image.new("RGB", colour.size, "white")
        white.paste(colour.convert("RGB"), mask=colour.getchannel("A"))
        return white
    if image.mode == "P":
        image = image.convert("RGB")
    converted = _to_srgb(image, profile)
    if converted.mode != "RGB":
        return converted.convert("RGB")
    # The result must not hold on to the file behind it.
    return converted.copy() if isinstance(converted, ImageFile) else converted


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits, by its high byte; Pillow's own conversion clips it to white.

    32-bit integers beyond 65,535 and floats beyond 255 have no agreed white: theirs is their
    largest value. Floats up to 1.0 have theirs at 1.0.
    """
    values = np.asarray(image)
    if image.mode == "F":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        top = float(values.max(initial=0))
        values = values * (255 if top <= 1 else 1 if top <= 255 else 255 / top)
    else:
        top = int(values.max(initial=0))
        if top > 65535:
            values = values * (255 / top)
        elif image.mode != "I" or top > 255:
            values = values >> 8
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "LAB":
        profile = profile or b""
    elif not profile or len(profile) > _MAX_PROFILE or image.mode not in _SPACES:
        return image
    transform = _transform(profile, image.mode)
    return image if transform is None else transform.apply(image)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From `profile` to sRGB; None where there is nothing to do, or no way to do it."""
    try:
        if mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if source.profile.xcolor_space != _SPACES[mode] or _is_srgb(source):
                return None
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        out = "RGBA" if mode == "RGBA" else "RGB"
        return ImageCms.buildTransform(source, target, mode, out)
    # Whatever lcms finds wrong with a profile, its picture is still good.
    except Exception:
        return None


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    return "srgb" in (profile.profile.profile_description or "").lower()
