"""Clean what cameras and programs write into the text fields of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_LENGTH = 2000
"""Characters of a text that are kept."""

# What cameras and programs write where nobody wrote anything, in lower case.
DEFAULTS: frozenset[str] = frozenset(
    {
        "ascii",
        "binary comment",
        "charset=ascii",
        "created with gimp",
        "created with the gimp",
        "dcf 1.0",
        "default",
        "digital camera",
        "exif_jpeg_picture",
        "jpeg picture",
        "kodak action cam",
        "kodak digital still camera",
        "minolta dsc",
        "no comment",
        "none",
        "null",
        "sony dsc",
        "unicode",
        "unknown",
        "untitled",
        "user comment",
        "user comments",
    }
)
# `OLYMPUS DIGITAL CAMERA` and its like, `EPSON DSC picture`, and the file name `DSC00019`.
_DEFAULT_SHAPES = re.compile(
    r"(\S+ ){1,3}digital camera|\S+ dsc picture|(dsc|img|p|pict|dscn|dscf|imgp)_?\d+(\.jpe?g)?"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]+")


def tidy(value: str | bytes) -> str:
    """One line of at most `MAX_LENGTH` characters, up to the first NUL, without controls."""
    text = (value if isinstance(value, str) else decode(value)).partition("\0")[0]
    text = text[: 4 * MAX_LENGTH].encode("utf-8", "replace").decode("utf-8")
    return " ".join(_CONTROLS.sub(" ", text).split())[:MAX_LENGTH].rstrip()


def clean(value: str | bytes) -> str:
    """`tidy`, and empty for what holds no letter or is a camera's default."""
    text = tidy(value)
    lower = text.lower()
    if lower in DEFAULTS or _DEFAULT_SHAPES.fullmatch(lower):
        return ""
    return text if any(character.isalpha() for character in text) else ""


def decode(value: bytes) -> str:
    """Bytes of unknown encoding: UTF-8, with UTF-16 by its mark, else Latin-1."""
    if value[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return value.decode("utf-16", "replace")
    try:
        return value.decode("utf-8-sig")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def join_keywords(words: Iterable[str | bytes]) -> str:
    """Keywords as one text, each of them once, in their order."""
    return ", ".join(dict.fromkeys(filter(None, map(clean, words))))[:MAX_LENGTH]


def distinct(texts: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """(source, text) pairs without empty ones and without a text that came before."""
    kept: dict[str, tuple[str, str]] = {}
    for source, text in texts:
        if text:
            kept.setdefault(text.casefold(), (source, text))
    return tuple(kept.values())
