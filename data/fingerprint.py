"""Tells one set of pictures and texts from another, wherever it lies and in whatever order."""

import hashlib
from collections.abc import Iterable

from rwkvsearch.data.captions import CaptionedImage, CaptionSet
from rwkvsearch.data.errors import DataError


def captions_fingerprint(captions: CaptionSet) -> str:
    """Of the content of every picture with its captions; each file is read once.

    Raises `DataError` naming a file that cannot be read.
    """
    return fingerprint((_sha256(item), *sorted(item.captions)) for item in captions.images)


def fingerprint(entries: Iterable[tuple[str, ...]]) -> str:
    """16 hexadecimal digits of the entries, whose order does not matter."""
    digests = sorted(hashlib.sha256("\0".join(entry).encode()).digest() for entry in entries)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _sha256(item: CaptionedImage) -> str:
    if item.inside:
        return hashlib.sha256(item.inside.read()).hexdigest()
    try:
        with item.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{item.path}: cannot be read: {error.strerror}") from error
