"""Where a library lies: a folder, or the address of a PostgreSQL database that a team shares."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.data.home import home_folder

SCHEMES = ("postgresql://", "postgres://")


@dataclass(frozen=True)
class Address:
    """`postgresql://USER@HOST:PORT/DATABASE`, as libpq reads it, without a password.

    What is left out comes from the environment: `PGHOST`, `PGUSER`, `PGPASSWORD`, `PGSERVICE`, ...
    """

    url: str

    def __str__(self) -> str:
        """The address as it was given."""
        return self.url

    @property
    def name(self) -> str:
        """The last part: the database, or the host where none is named."""
        parts = urlsplit(self.url)
        return parts.path.strip("/") or parts.hostname or "postgresql"

    @property
    def folder(self) -> Path:
        """The folder for what is derived on this computer, such as thumbnails; not created."""
        named = (
            os.environ.get(f"PG{name}", "") for name in ("SERVICE", "HOST", "PORT", "DATABASE")
        )
        whole = "\n".join([self.url, *named])
        key = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return home_folder().absolute() / "teams" / key


Place = Path | Address


def is_address(text: str) -> bool:
    """Whether this is meant as an address and not as a folder."""
    return "://" in text


def place_of(text: str | Path) -> Place:
    """The place that a person named.

    Raises:
        LibraryError: an address of another kind, or one with a password in it.
    """
    text = str(text)
    if not is_address(text):
        return Path(text)
    if not text.startswith(SCHEMES):
        kind = text.partition("://")[0]
        raise LibraryError(
            f"a library cannot lie at {kind}://...: name a folder, or "
            "postgresql://USER@HOST:PORT/DATABASE"
        )
    try:
        parts = urlsplit(text)
        secret = parts.password is not None or "password" in dict(parse_qsl(parts.query))
    except ValueError as error:
        raise LibraryError(
            f"{text.partition('@')[2] or text}: no address of a database ({error})"
        ) from error
    if secret:
        raise LibraryError(
            "the address of a library may hold no password, every user of this computer could see "
            "it: put it into ~/.pgpass or $PGPASSWORD"
        )
    return Address(text)


def whole(place: Place) -> Place:
    """A folder as an absolute one, an address as it is."""
    return place if isinstance(place, Address) else place.absolute()


def folder_of(place: Place) -> Path:
    """Where what is derived lies: the folder itself, or that of the address."""
    return place.folder if isinstance(place, Address) else place.absolute()


def exists(place: Place) -> bool:
    """Whether there may be a library, without opening it; an address is always taken for one."""
    return isinstance(place, Address) or (place / "library.sqlite").is_file()


def libpq_environment() -> tuple[str, ...]:
    """Every variable that changes what an address means, or as whom it is opened."""
    return tuple(f"{name}={os.environ[name]}" for name in sorted(os.environ) if name[:2] == "PG")
