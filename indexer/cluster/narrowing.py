"""What of a filter Milvus can be asked for: an expression that every image which passes fulfils."""

from __future__ import annotations

from rwkvsearch.indexer.cluster.rows import NOWHERE
from rwkvsearch.indexer.filters import Box, Filters


def expression(filters: Filters, *, settled: bool) -> tuple[str, bool]:
    """The expression, empty for none, and whether it says all that is asked for.

    What a sync may have changed, time and place, is only asked for if it is `settled`: no sync was
    since the mirror.
    """
    told = _told(filters)
    parts = _seen(filters) + (told if settled else [])
    elsewhere = (filters.folders, filters.globs, filters.cameras, filters.tags)
    complete = not any(elsewhere) and filters.captioned is None and (settled or not told)
    return " and ".join(parts), complete


def _seen(filters: Filters) -> list[str]:
    """Of the picture itself, which never changes."""
    turned = {"portrait": -1, "square": 0, "landscape": 1}
    formats = ", ".join(map(_quoted, filters.format_names))
    return [
        *([f"width >= {filters.min_width}"] if filters.min_width else []),
        *([f"height >= {filters.min_height}"] if filters.min_height else []),
        *([f"pixels >= {_whole(filters.min_megapixels)}"] if filters.min_megapixels else []),
        *([f"turned == {turned[filters.orientation]}"] if filters.orientation else []),
        *([f"format in [{formats}]"] if filters.formats else []),
    ]


def _told(filters: Filters) -> list[str]:
    """Of the file and what stands beside it."""
    first, last = filters.taken_from, filters.taken_to
    return [
        *([f"taken_at >= {_quoted(first)}"] if first else []),
        *([f'taken_at != "" and taken_at < {_quoted(last)}'] if last else []),
        *([_inside(filters.box)] if filters.box else []),
    ]


def _quoted(text: str) -> str:
    """The name of a format or a time, which hold nothing that would need an escape."""
    return f'"{text}"'


def _whole(megapixels: float) -> int:
    """The least number of pixels that is at least as much."""
    pixels = megapixels * 1e6
    return int(pixels) + (int(pixels) < pixels)


def _inside(box: Box) -> str:
    across = "or" if box.west > box.east else "and"
    inside = f"(longitude >= {box.west!r} {across} longitude <= {box.east!r})"
    if 180 in (abs(box.west), abs(box.east)):
        inside = f"({inside} or longitude == 180.0 or longitude == -180.0)"
    latitude = f"latitude >= {box.south!r} and latitude <= {box.north!r}"
    return f"{latitude} and longitude != {NOWHERE} and {inside}"
