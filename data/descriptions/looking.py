"""What can be had from the pictures themselves: colours, tags, captions."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from rwkvsearch.data.descriptions import colours
from rwkvsearch.data.descriptions.cache import Cache, remembered
from rwkvsearch.data.descriptions.protocols import Failed
from rwkvsearch.data.descriptions.recipe import Recipe
from rwkvsearch.data.descriptions.texts import Described, Item, Look, Tag, Text, digest
from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.data.images import read_image

_SIDE = 384
"""The short side of a decoded picture is at least this, in pixels; captioners see no more."""
Run = Callable[[Sequence[Image.Image]], list[Any]]


@dataclass
class Draft:
    """A picture on its way; `content` and `pixels` only while they are needed."""

    item: Item
    sha256: str = ""
    content: bytes = b""
    pixels: Image.Image | None = None
    look: Look = Look(())
    tags: tuple[Tag, ...] = ()
    caption: str | None = None
    errors: list[str] = field(default_factory=list)
    usable: bool = True

    def fail(self, reason: str) -> None:
        """The picture cannot be used at all."""
        self.errors.append(reason)
        self.usable = False

    def read(self) -> None:
        """Fetch and hash the bytes."""
        try:
            self.content = self.item.image.read()
            self.sha256 = hashlib.sha256(self.content).hexdigest()
        except DataError as error:
            self.fail(str(error).removeprefix(f"{self.item.image.path}: "))

    def decode(self) -> None:
        """Make the pixels, once."""
        if self.pixels is None:
            try:
                self.pixels = read_image(io.BytesIO(self.content), min_side=_SIDE)
            except ImageError as error:
                self.fail(error.reason)

    def forget(self) -> None:
        """Free the memory."""
        self.pixels, self.content = None, b""

    def done(self, sayings: Sequence[Text]) -> Described:
        """The picture with its texts; one that cannot be used has none."""
        return Described(
            key=self.item.key,
            image=self.item.image,
            sha256=self.sha256,
            sayings=tuple(sayings) if self.usable else (),
            tags=self.tags,
            look=self.look,
            error="; ".join(self.errors) or None,
        )


def look_at_all(
    items: Sequence[Item], recipe: Recipe, cache: Cache, pool: ThreadPoolExecutor
) -> list[Draft]:
    """Read some pictures, and decode those of which the cache does not know everything."""
    drafts = [Draft(item) for item in items]
    list(pool.map(Draft.read, drafts))
    stage = _Stage(drafts, cache, pool)
    for draft, look in stage.run("look", colours.METHOD, _looks):
        draft.look = Look(tuple(look[0]), look[1])
    if (tagger := recipe.tagger) is not None:
        for draft, tags in stage.run("tags", tagger.model_id, lambda p: _plain(tagger.tag(p))):
            draft.tags = tuple(Tag(*tag) for tag in tags if tag[1] >= recipe.min_confidence)
    if (captioner := recipe.captioner) is not None:
        for draft, caption in stage.run("caption", captioner.model_id, captioner.caption):
            draft.caption = caption
    for draft in drafts:
        draft.forget()
    return drafts


@dataclass
class _Stage:
    drafts: list[Draft]
    cache: Cache
    pool: ThreadPoolExecutor

    def run(self, name: str, model_id: str, run: Run) -> list[tuple[Draft, Any]]:
        """The results of one model, by what it is called and its id; failures are noted."""
        usable = [draft for draft in self.drafts if draft.usable]
        keys = [digest(name, model_id, draft.sha256) for draft in usable]

        def compute(missing: list[int]) -> dict[int, Any]:
            list(self.pool.map(Draft.decode, (usable[place] for place in missing)))
            pixels = {n: image for n in missing if (image := usable[n].pixels) is not None}
            results = run(list(pixels.values())) if pixels else []
            good = {}
            for place, result in zip(pixels, results, strict=True):
                if isinstance(result, Failed):
                    usable[place].errors.append(f"{name}: {result.reason}")
                else:
                    good[place] = result
            return good

        pairs = zip(usable, remembered(self.cache, keys, compute), strict=True)
        return [(draft, result) for draft, result in pairs if result is not None]


def _looks(images: Sequence[Image.Image]) -> list[Any]:
    looks = (colours.look_at(image) for image in images)
    return [(look.colours, look.light) for look in looks]


def _plain(found: Sequence[tuple[Tag, ...] | Failed]) -> list[Any]:
    """Tags as the cache keeps them."""
    return [
        tags if isinstance(tags, Failed) else [(t.name, t.confidence, t.count) for t in tags]
        for tags in found
    ]
