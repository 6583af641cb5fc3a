"""Files beside a picture that say something about it: `.txt`, `.json` and `.xmp`."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.fields import Metadata, position
from rwkvsearch.data.images import IMAGE_SUFFIXES, system_reason
from rwkvsearch.data.remote import open_binary, stat_of
from rwkvsearch.data.texts import decode, distinct, join_keywords, tidy
from rwkvsearch.data.xmp import parse_xmp

SIDECAR_SUFFIXES: tuple[str, ...] = (".txt", ".json", ".xmp")
MAX_BYTES = 1 << 20
MAX_LINES = 50

_CAPTION_KEYS = ("caption", "captions", "description", "title", "text")
_KEYWORD_KEYS = ("keywords", "tags")
# Google Takeout cuts the name of a sidecar, without its `.json`, to 46 characters.
# Source: github.com/ente/ente/pull/4956
_TAKEOUT, _TAKEOUT_LENGTH = ".supplemental-metadata", 46
_NUMBERED = re.compile(r"(.+)(\(\d+\))")


def find_sidecars(names: Collection[str], image: str) -> list[str]:
    """Which of the `names` in the folder of the picture `image` belong to it.

    `photo.jpg.txt` belongs to `photo.jpg` alone; `photo.txt` to every picture of that stem, as a
    RAW and its JPEG share one. The same for `.json`, `.xmp` and, in any of the ways it cuts and
    numbers them, the `.supplemental-metadata.json` of Google Takeout. Letters of suffixes may be
    small or capital. A set of names makes this independent of the size of the folder.
    """
    present = names if isinstance(names, AbstractSet) else frozenset(names)
    return [name for name in dict.fromkeys(_candidates(image)) if name in present and name != image]


def read_sidecar(path: Path) -> Metadata:
    """What a sidecar says; its texts have the source `sidecar`.

    Of a `.txt` every line is a caption, up to `MAX_LINES`. A time from Google Takeout is in UTC.

    Raises:
        DataError: it cannot be read, is larger than `MAX_BYTES`, or is not what its suffix says.
    """
    return parse_sidecar(path, _read(path))


def parse_sidecar(path: Path, data: bytes) -> Metadata:
    """`read_sidecar` of bytes that were read already; `path` names them in an error."""
    suffix = path.suffix.lower()
    if suffix == ".xmp":
        return _from_xmp(path, data)
    if suffix == ".json":
        return _from_json(path, data)
    if b"\0" in data and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}: not a text file")
    lines = filter(None, map(tidy, decode(data).splitlines()))
    return _described(line for _, line in zip(range(MAX_LINES), lines, strict=False))


def _candidates(image: str) -> Iterator[str]:
    name = PurePath(image)
    stem, suffix = name.stem, name.suffix
    wholes = dict.fromkeys((image, stem + suffix.lower(), stem + suffix.upper()))
    for kind in SIDECAR_SUFFIXES:
        for spelled in (kind, kind.upper()):
            yield from (whole + spelled for whole in wholes)
            yield stem + spelled
    for whole in wholes:
        yield from _takeout_names(whole, "")
    numbered = _NUMBERED.fullmatch(stem)
    if numbered is not None:
        # `photo(1).jpg` has its number behind all else: `photo.jpg(1).json`.
        yield from _takeout_names(numbered[1] + suffix, numbered[2])


def _takeout_names(image: str, number: str) -> Iterator[str]:
    for length in range(len(_TAKEOUT), -1, -1):
        yield f"{image}{_TAKEOUT[:length]}{number}.json"
    if len(image) > _TAKEOUT_LENGTH:
        yield f"{image[:_TAKEOUT_LENGTH]}{number}.json"


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(stat_of(path).st_mode):
            raise DataError(f"{path}: not a file")
        with open_binary(path) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: {system_reason(error)}") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MB")
    return data


def _described(texts: Iterator[str], **fields: Any) -> Metadata:
    return Metadata(texts=distinct(("sidecar", text) for text in texts), **fields)


def _from_xmp(path: Path, data: bytes) -> Metadata:
    try:
        found = parse_xmp(data)
    # expat and defusedxml have errors of their own, most but not all of them a ValueError.
    except Exception as error:
        why = " ".join(str(error).split())[:80] or type(error).__name__
        raise DataError(f"{path}: not XMP: {why}") from error
    return Metadata(
        taken_at=found.taken_at,
        camera=found.camera,
        lens=found.lens,
        latitude=found.latitude,
        longitude=found.longitude,
        texts=distinct(("sidecar", text) for _, text in found.texts),
        orientation=found.orientation,
    )


def _from_json(path: Path, data: bytes) -> Metadata:
    try:
        document = json.loads(decode(data))
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:80]
        raise DataError(f"{path}: not JSON: {why}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not a JSON object")
    latitude, longitude = _takeout_position(document)
    return _described(
        iter([*_captions(document), *_keywords(document)]),
        taken_at=_takeout_moment(document),
        latitude=latitude,
        longitude=longitude,
    )


def _captions(document: dict[str, Any]) -> Iterator[str]:
    for key in _CAPTION_KEYS:
        value = document.get(key)
        for item in (value if isinstance(value, list) else [value])[:MAX_LINES]:
            text = tidy(item) if isinstance(item, str) else ""
            # Google Takeout writes the file name as the title.
            if text and PurePath(text).suffix.lower() not in IMAGE_SUFFIXES:
                yield text


def _keywords(document: dict[str, Any]) -> Iterator[str]:
    for key in _KEYWORD_KEYS:
        value = document.get(key)
        words = value.split(",") if isinstance(value, str) else value
        if isinstance(words, list):
            yield join_keywords(word for word in words if isinstance(word, str))


def _takeout_moment(document: dict[str, Any]) -> str | None:
    taken = document.get("photoTakenTime")
    try:
        seconds = int(taken["timestamp"]) if isinstance(taken, dict) else None
        moment = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=None).isoformat() if moment else None


def _takeout_position(document: dict[str, Any]) -> tuple[float | None, float | None]:
    """0, 0 is how Google Takeout writes that it knows no place."""
    for key in ("geoData", "geoDataExif"):
        place = document.get(key)
        if isinstance(place, dict):
            with suppress(KeyError, TypeError, ValueError, OverflowError):
                latitude, longitude = float(place["latitude"]), float(place["longitude"])
                if latitude or longitude:
                    return position(latitude, longitude)
    return None, None
