"""What is known about a picture besides its pixels, and how its single fields are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from rwkvsearch.data.texts import distinct

_MOMENT = re.compile(
    r"\s*(\d{4})[:\-/. ](\d\d)[:\-/. ](\d\d)(?:[ T]+(\d\d)[:.](\d\d)(?:[:.](\d\d))?)?"
)


@dataclass(frozen=True)
class Metadata:
    """What the file of a picture, or a file beside it, says about the picture.

    `taken_at` is local time as `2019-06-03T12:33:01`; `latitude` and `longitude` are signed
    degrees, both or neither; `texts` are (source, text) with the sources exif, iptc, xmp, keywords
    and sidecar; `orientation` is EXIF's, 1 to 8. None is: not said, or not possible.
    """

    taken_at: str | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    texts: tuple[tuple[str, str], ...] = ()
    orientation: int | None = None


def merge(*found: Metadata) -> Metadata:
    """Of each field the first that is said; of the texts all, each once."""
    placed = next((one for one in found if one.latitude is not None), Metadata())
    return Metadata(
        taken_at=next((one.taken_at for one in found if one.taken_at), None),
        camera=next((one.camera for one in found if one.camera), None),
        lens=next((one.lens for one in found if one.lens), None),
        latitude=placed.latitude,
        longitude=placed.longitude,
        texts=distinct(text for one in found for text in one.texts),
        orientation=next((one.orientation for one in found if one.orientation), None),
    )


def read_moment(text: str) -> str | None:
    """A date as EXIF or XMP writes it, as `2019-06-03T12:33:01`; None for an impossible one.

    A zone is dropped: the time stays the local one. A date without a time is its midnight.
    """
    match = _MOMENT.match(text)
    if match is None:
        return None
    try:
        moment = datetime(*(int(part or 0) for part in match.groups()))  # type: ignore[arg-type]
    except ValueError:
        return None
    return moment.isoformat() if 1800 <= moment.year < 2200 else None


def camera_name(make: str, model: str) -> str | None:
    """Make and model as one name, without the make twice: `Canon`, `Canon EOS 5D`."""
    if make and model.casefold().startswith(make.split()[0].casefold()):
        return model
    return f"{make} {model}".strip() or None


def position(latitude: float | None, longitude: float | None) -> tuple[float | None, float | None]:
    """Both in signed degrees, or neither where one is missing or out of range."""
    if latitude is None or longitude is None:
        return None, None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None, None
    return round(latitude, 7), round(longitude, 7)
