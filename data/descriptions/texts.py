"""What is said about a picture: texts of three kinds with their origin, tags, measured colours.

The kinds are those of RWKV-CLIP: `raw` came with the picture, `synthetic` is a captioner's,
`generated` fuses both with detection tags. Source: arXiv 2406.06973, section 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rwkvsearch.data.errors import DataError

Kind = Literal["raw", "synthetic", "generated"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Text:
    """One text and where it came from.

    `provider` is `set`, `offline`, `transformers` or `endpoint`; `model` its id. `confidence` is
    0..1, None where nothing was measured. `prompt` starts the SHA-256 of the instruction.
    """

    kind: Kind
    text: str
    provider: str
    model: str | None = None
    confidence: float | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Tag:
    """Something seen in a picture, with the tagger's confidence, 0..1; `count` of a detector."""

    name: str
    confidence: float
    count: int = 1


@dataclass(frozen=True)
class Look:
    """What was measured of a picture: colour names, largest first, and `light`, `dark` or None."""

    colours: tuple[str, ...]
    light: str | None = None


@dataclass(frozen=True)
class ImageSource:
    """Where the undecoded bytes of a picture lie: a file, or `size` bytes of a tar at `offset`."""

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The bytes of the picture's file.

        Raises:
            DataError: it cannot be read, or the tar was cut since.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read(-1 if self.size is None else self.size)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        if self.size is not None and len(content) != self.size:
            raise DataError(f"{self.path}: ends before the picture at byte {self.offset}")
        return content


@dataclass(frozen=True)
class Item:
    """A picture to be described, its name within the set, and the texts that came with it."""

    key: str
    image: ImageSource
    raw: tuple[str, ...] = ()


@dataclass(frozen=True)
class Described:
    """A picture and everything said about it; `error` says what is missing, and why.

    `sha256` is that of the image bytes, empty when they could not be read.
    """

    key: str
    image: ImageSource
    sha256: str = ""
    sayings: tuple[Text, ...] = ()
    tags: tuple[Tag, ...] = ()
    look: Look = Look(())
    error: str | None = None

    @property
    def texts(self) -> Mapping[str, tuple[str, ...]]:
        """The texts by kind; a kind without a text is not there."""
        found: dict[str, tuple[str, ...]] = {}
        for saying in self.sayings:
            found[saying.kind] = (*found.get(saying.kind, ()), saying.text)
        return found

    def read(self) -> bytes:
        """The undecoded bytes of the picture, see `ImageSource.read`."""
        return self.image.read()


def digest(*parts: str) -> str:
    """SHA-256 of some texts, kept apart from each other, as hex digits."""
    sha = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        sha.update(len(content).to_bytes(8) + content)
    return sha.hexdigest()


def one_line(texts: Sequence[str]) -> tuple[str, ...]:
    """Texts with their white space collapsed, without empty ones and repetitions."""
    lines = (" ".join(text.split()) for text in texts)
    return tuple(dict.fromkeys(line for line in lines if line))
