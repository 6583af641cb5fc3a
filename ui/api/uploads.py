"""Pictures that clients give to search by: checked, reduced, and kept in memory only."""

from __future__ import annotations

import hashlib
import io
import re
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from PIL import Image

from rwkvsearch.data.errors import ImageError, QueryError
from rwkvsearch.data.images import Picture, read_picture
from rwkvsearch.indexer.room import Room, default_room
from rwkvsearch.ui.api.settings import Settings

KEPT = 64
"""Pictures that are kept; the one that was not used for the longest time goes first."""
KEPT_BYTES = 192 << 20
SHORT_SIDE = 512
"""Pixels of the shortest side of what is kept: more than twice what an image tower reads."""
PREVIEW_SIDE = 320
"""Pixels of the longest side of a preview."""

_LONGEST = 8  # times the shortest side: of a longer strip its middle is kept, as a tower sees it
_ID = re.compile(r"[0-9a-f]{64}")
_NAME = "the picture"


@dataclass(frozen=True)
class Upload:
    """A picture as it is kept; `width` and `height` are those of the file, upright, in pixels."""

    image: Image.Image
    preview: bytes
    width: int
    height: int
    format: str

    @property
    def bytes_held(self) -> int:
        """Of memory."""
        return 3 * self.image.width * self.image.height + len(self.preview)


class Uploads:
    """The last pictures of all clients, by the SHA-256 of their bytes. Safe among threads.

    Nothing is written to disk, and names of files play no part.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_upload_bytes
        self._max_megapixels = settings.max_upload_megapixels
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._held = 0
        self._lock = Lock()
        self._room = Room(default_room())

    def __len__(self) -> int:
        """Pictures that are kept."""
        return len(self._kept)

    def add(self, data: bytes) -> str:
        """Keep a picture; its id. Bytes, format and megapixels are checked before it is decoded.

        Raises:
            ImageError: it cannot be used; `reason` says why.
        """
        if len(data) > self._max_bytes:
            raise ImageError(
                _NAME, f"too large: {len(data) >> 20} megabytes (limit {self._max_bytes >> 20})"
            )
        upload_id = hashlib.sha256(data).hexdigest()
        if not self._is_kept(upload_id):
            self._keep(upload_id, self._read(data))
        return upload_id

    def get(self, upload_id: str) -> Upload:
        """What is kept of a picture.

        Raises:
            QueryError: it is not kept any more, or there never was such a picture.
        """
        if not _ID.fullmatch(upload_id):
            raise QueryError("upload: not the id of a picture; POST /api/v1/uploads returns one")
        with self._lock:
            upload = self._kept.get(upload_id)
            if upload is not None:
                self._kept.move_to_end(upload_id)
        if upload is None:
            raise QueryError(f"upload {upload_id[:12]} is not kept any more: give it again")
        return upload

    def image(self, upload_id: str) -> Image.Image:
        """The picture to search by, RGB; do not change it. Raises as `get`."""
        return self.get(upload_id).image

    def preview(self, upload_id: str) -> bytes:
        """A small WebP of the whole picture. Raises as `get`."""
        return self.get(upload_id).preview

    def _is_kept(self, upload_id: str) -> bool:
        with self._lock:
            if upload_id in self._kept:
                self._kept.move_to_end(upload_id)
                return True
        return False

    def _read(self, data: bytes) -> Upload:
        stream = _Named(data)
        with self._room.claim() as take:
            try:
                picture = read_picture(
                    stream,
                    min_side=SHORT_SIDE // 2,
                    max_megapixels=self._max_megapixels,
                    max_bytes=self._max_bytes,
                    before_decoding=take,
                )
            except ImageError as error:
                # The options it names are those of `index`.
                reason = re.sub(r", raise with [^)]*", "", error.reason)
                raise ImageError(_NAME, reason) from error
            return _reduced(picture)

    def _keep(self, upload_id: str, upload: Upload) -> None:
        with self._lock:
            before = self._kept.pop(upload_id, None)
            self._held += upload.bytes_held - (before.bytes_held if before else 0)
            self._kept[upload_id] = upload
            while len(self._kept) > KEPT or self._held > KEPT_BYTES:
                _, gone = self._kept.popitem(last=False)
                self._held -= gone.bytes_held


class _Named(io.BytesIO):
    """Bytes that errors call what a person would."""

    name = _NAME


def _reduced(picture: Picture) -> Upload:
    image = picture.image
    preview = _scaled(image, PREVIEW_SIDE / max(image.size))
    coded = io.BytesIO()
    preview.save(coded, "WEBP", quality=80)
    middle = _middle(image)
    kept = _scaled(middle, SHORT_SIDE / min(middle.size))
    return Upload(kept, coded.getvalue(), picture.width, picture.height, picture.format)


def _middle(image: Image.Image) -> Image.Image:
    most = _LONGEST * min(image.size)
    width, height = (min(side, most) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    """`image` made smaller; as it is if `scale` would enlarge it."""
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
