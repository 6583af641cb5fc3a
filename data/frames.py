"""Count the frames of a GIF without decoding them. Source: GIF89a specification."""

from __future__ import annotations

from typing import BinaryIO

MAX_FRAMES = 10_000
"""Frames that are counted, so that no file of tiny frames can take minutes."""

_MAX_BLOCKS = 4_000_000


def count_gif_frames(stream: BinaryIO) -> int:
    """Frames up to `MAX_FRAMES` or to the first damage, at least 1."""
    stream.seek(0)
    head = stream.read(13)
    if len(head) == 13:
        stream.seek(13 + _table_size(head[10]))
    frames = blocks = 0
    while frames < MAX_FRAMES and blocks < _MAX_BLOCKS:
        kind = stream.read(1)
        if kind == b"!":
            stream.read(1)
        elif kind == b",":
            place = stream.read(9)
            if len(place) < 9:
                break
            frames += 1
            stream.seek(_table_size(place[8]) + 1, 1)
        else:
            break
        blocks += _skip_blocks(stream)
    return max(1, frames)


def _table_size(flags: int) -> int:
    """Bytes of the colour table that a descriptor with these flags is followed by."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(stream: BinaryIO) -> int:
    """Pass over a chain of sub-blocks; their number."""
    blocks = 1
    while (size := stream.read(1)) and size != b"\0" and blocks < _MAX_BLOCKS:
        stream.seek(size[0], 1)
        blocks += 1
    return blocks
