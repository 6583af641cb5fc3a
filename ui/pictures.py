"""Pictures that are asked with: a file, standard input, the clipboard, or an address."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvsearch.data.errors import QueryError

if TYPE_CHECKING:
    from PIL import Image

    from rwkvsearch.retrieval.query import Crop

MAX_DOWNLOAD = 64 << 20
"""Bytes; larger pictures behind an address are refused."""
TIMEOUT = 20
"""Seconds without an answer."""


def is_address(where: str) -> bool:
    """Whether a picture is asked for by its address in the network."""
    return where.startswith(("http://", "https://"))


def read_given(where: str) -> Image.Image:
    """Return the RGB picture behind `-` (standard input) or an http address.

    Raises:
        QueryError: the address cannot be read, or gives too much.
        ImageError: what is there is no picture.
    """
    from rwkvsearch.data.images import read_image

    data = _download(where) if is_address(where) else sys.stdin.buffer.read()
    stream = io.BytesIO(data)
    stream.name = where if is_address(where) else "standard input"
    return read_image(stream)


def read_clipboard() -> Image.Image:
    """Return the RGB picture in the clipboard; `QueryError` if there is none or it is not known."""
    from PIL import ImageGrab

    from rwkvsearch.data.images import read_image

    try:
        found = ImageGrab.grabclipboard()
    except (NotImplementedError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else "not supported here"
        raise QueryError(f"the clipboard cannot be read ({reason}); use --image FILE") from error
    if isinstance(found, list) and found:
        return read_image(Path(found[0]))
    if found is None or isinstance(found, list):
        raise QueryError("there is no picture in the clipboard: copy one, or use --image FILE")
    return found.convert("RGB")


def parse_crop(text: str) -> Crop:
    """Return the part `LEFT,TOP,RIGHT,BOTTOM`, in shares or percent of the picture's sides.

    Raises:
        QueryError: no such part.
    """
    from rwkvsearch.retrieval.query import Crop

    wanted = "write LEFT,TOP,RIGHT,BOTTOM in shares of the picture, such as 0.5,0,1,1 or 50%,0,1,1"
    try:
        crop = Crop(*(_share(number) for number in text.split(",")))
    except (ValueError, TypeError) as error:
        raise QueryError(f"{text!r} is no part of a picture: {wanted}") from error
    if not (0 <= crop.left < crop.right <= 1 and 0 <= crop.top < crop.bottom <= 1):
        raise QueryError(f"{text!r} is no part of a picture: {wanted}")
    return crop


def _share(text: str) -> float:
    text = text.strip()
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)


def _download(address: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(address, headers={"User-Agent": "rwkvsearch"})
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(MAX_DOWNLOAD + 1)
    except HTTPError as error:
        error.close()
        raise QueryError(f"{address}: cannot be fetched ({error})") from error
    except (OSError, HTTPException, ValueError) as error:
        raise QueryError(f"{address}: cannot be fetched ({error})") from error
    if len(data) > MAX_DOWNLOAD:
        raise QueryError(f"{address}: larger than {MAX_DOWNLOAD >> 20} MB")
    return data
