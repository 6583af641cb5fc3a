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
        "default",
        "digital camera",
        "dcim/camera",
        "exif_jpeg_picture",
        "jpeg picture",
        "konica minolta digital camera",
        "minolta digital camera",
        "nikon digital camera",
        "no comment",
        "none",
        "null",
        "olympus digital camera",
        "samsung digital camera",
        "sony dsc",
        "unicode",
        "unknown",
        "untitled",
        "user comments",
        "user comment",
    }
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]+")
_NO_WORD = re.compile(r"[\W_]*")


def tidy(value: str | bytes) -> str:
    """One line of at most `MAX_LENGTH` characters, up to the first NUL, without controls."""
    text = (value if isinstance(value, str) else decode(value)).partition("\0")[0]
    text = text[: 4 * MAX_LENGTH].encode("utf-8", "replace").decode("utf-8")
    return " ".join(_CONTROLS.sub(" ", text).split())[:MAX_LENGTH].rstrip()


def clean(value: str | bytes) -> str:
    """`tidy`, and empty for what holds no words or is a camera's default."""
    text = tidy(value)
    return "" if text.lower() in DEFAULTS or _NO_WORD.fullmatch(text) else text


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
