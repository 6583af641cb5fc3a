"""What the search page is asked, as the address of the page says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import parse_qs, urlencode

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.filters import Filters, Orientation
from rwkvsearch.retrieval.grammar import parse
from rwkvsearch.retrieval.query import Term

FILTERS = (
    "under",
    "camera",
    "format",
    "tag",
    "orientation",
    "after",
    "before",
    "min_confidence",
    "diverse",
)
"""The fields of `Asked` that only narrow down what is found."""
MOST_ID = 2**63 - 1
_LIKE_A_PATH = "a picture is given by the button beside the words, not by its path"


@dataclass(frozen=True)
class Asked:
    """Words, pictures, filters and votes; each is a part of the address, if it is given."""

    q: str = ""
    like: int | None = None
    """Id of an image of the library."""
    upload: str = ""
    album: str = ""
    liked: tuple[int, ...] = ()
    disliked: tuple[int, ...] = ()
    under: tuple[str, ...] = ()
    camera: tuple[str, ...] = ()
    format: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    orientation: str = ""
    after: str = ""
    before: str = ""
    min_confidence: float = 0.0
    diverse: bool = False

    @classmethod
    def from_link(cls, link: str) -> Self:
        """Read the part of an address behind its `?`; what is not known is left out.

        Raises:
            QueryError: a part that is no number where one has to be.
        """
        text = link.encode("utf-8", "replace").decode()  # half a character is none
        return cls.of(parse_qs(text.removeprefix("?")))

    @classmethod
    def of(cls, given: Mapping[str, Sequence[str]]) -> Self:
        """Read the values of each part; errors as `from_link`."""
        read: dict[str, Any] = {}
        try:
            for field in fields(cls):
                if values := [value for value in given.get(field.name, ()) if value.strip()]:
                    read[field.name] = _read(str(field.type), values)
        except ValueError as error:
            raise QueryError(f"this address cannot be read: {field.name}: {error}") from None
        return cls(**read)

    def to_link(self) -> str:
        """The part of the address behind its `?`."""
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        parts = {name: value for name, value in asked.items() if value not in ("", None, (), 0)}
        return urlencode({k: int(v) if v is True else v for k, v in parts.items()}, doseq=True)

    @property
    def filters(self) -> Filters:
        """What the pictures are among; `QueryError` for a value that none can have."""
        return Filters(
            folders=tuple(map(Path, self.under)),
            cameras=self.camera,
            formats=self.format,
            tags=self.tag,
            orientation=cast(Orientation | None, self.orientation or None),
            after=self.after or None,
            before=self.before or None,
        )

    @property
    def narrowed(self) -> int:
        """How many things are asked of the pictures besides what they are to show."""
        values = (getattr(self, name) for name in FILTERS)
        return sum(len(one) if isinstance(one, tuple) else bool(one) for one in values)

    def words(self) -> tuple[Term, ...]:
        """The terms that are written; `QueryError` if they make no sense or name a file."""
        terms = parse(self.q) if self.q.strip() else ()
        if any(term.path is not None for term in terms):
            raise QueryError(_LIKE_A_PATH)
        return terms


def _read(kind: str, values: Sequence[str]) -> Any:
    if kind == "tuple[str, ...]":
        return tuple(values)
    if kind == "tuple[int, ...]":
        return tuple(dict.fromkeys(map(_image_id, values)))
    if kind == "bool":
        return values[0].lower() not in ("0", "false", "no")
    if kind == "float":
        return _share(values[0])
    return values[0] if kind == "str" else _image_id(values[0])


def _image_id(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MOST_ID:
        raise ValueError(f"no image has the id {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:  # nor is it NaN
        raise ValueError(f"{text} is not between 0 and 1")
    return value
