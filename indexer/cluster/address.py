"""Where a cluster index lies: `milvus://HOST:PORT/COLLECTION`, or a file of milvus-lite."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.cluster.kinds import ClusterKind

TOKEN = "MILVUS_TOKEN"
"""The environment variable that holds the token, or USER:PASSWORD."""
PORT = 19530
HOW = "milvus://HOST:PORT/COLLECTION, or milvus:///PATH/FILE.db for milvus-lite"

_SCHEMES = {"milvus": "http", "milvus+tls": "https"}
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


@dataclass(frozen=True)
class ClusterAddress:
    """What `--ann` names: `uri` as pymilvus takes it, or the file `lite`.

    `collection` is None for the one that the library names itself; `kind` is asked for by
    `?index=HNSW`, None for what is there.
    """

    text: str
    uri: str
    lite: Path | None = None
    collection: str | None = None
    kind: ClusterKind | None = None

    @property
    def name(self) -> str:
        """What a person is told."""
        return str(self.lite) if self.lite else self.text.partition("?")[0]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address that a person named.

        Raises:
            LibraryError: it is none, or holds a password.
        """
        try:
            parts = urlsplit(text)
            port = parts.port or PORT
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        except ValueError as error:
            raise LibraryError(f"--ann: no address of a cluster ({error}): write {HOW}") from error
        if parts.scheme not in _SCHEMES:
            raise LibraryError(f"--ann {text!r}: no address of a cluster: write {HOW}")
        if "@" in parts.netloc:
            raise LibraryError(
                "--ann: the address may hold no password, every user of this computer could see "
                f"it: put USER:PASSWORD or the token into ${TOKEN}"
            )
        if parts.fragment or options.keys() - {"index"}:
            raise LibraryError(f"--ann {text!r}: only ?index=KIND may follow: write {HOW}")
        kind = ClusterKind.parse(options["index"]) if options else None
        if not parts.hostname:
            return cls(text, parts.path, lite=_lite_file(text, parts.path), kind=kind)
        collection = parts.path.strip("/")
        if collection and not _COLLECTION.fullmatch(collection):
            raise LibraryError(
                f"--ann: {collection!r} is no name of a collection: letters, digits and _"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        uri = f"{_SCHEMES[parts.scheme]}://{host}:{port}"
        return cls(text, uri, collection=collection or None, kind=kind)


@dataclass(frozen=True)
class Target:
    """One collection at an address: where a model of a library is mirrored to."""

    address: ClusterAddress
    collection: str

    @property
    def name(self) -> str:
        """What a person is told."""
        name = self.address.name
        return name if self.address.collection else f"{name} ({self.collection})"

    @property
    def key(self) -> str:
        """The same for the same collection, however it is written."""
        return f"{self.address.uri}/{self.collection}"


def is_of_one_process(ann: str | None) -> bool:
    """Whether only one process at a time can open it: a file of milvus-lite."""
    return ann is not None and ann.startswith("milvus:///")


def _lite_file(text: str, path: str) -> Path:
    if not path.endswith(".db") or path.endswith("/.db"):
        raise LibraryError(f"--ann {text!r}: a file of milvus-lite ends in .db: write {HOW}")
    return Path(path)
