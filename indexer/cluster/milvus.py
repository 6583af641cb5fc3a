"""A collection in Milvus: every call that is made to it, and what may go wrong with one.

Milvus holds a copy of what the library knows, so that it can propose candidates; the library stays
the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.indexer.blocks import Floats, Ids
from rwkvsearch.indexer.cluster.address import Target
from rwkvsearch.indexer.cluster.connection import connect, leave_lite, milvus_errors
from rwkvsearch.indexer.cluster.kinds import IN_LITE, METRIC, ClusterKind
from rwkvsearch.indexer.cluster.rows import FIELDS, INDEXED, TEXTS

MOST = 16_384
"""Rows that Milvus gives in one answer, at most, and ids that are compared at a time."""

_SECONDS = 60.0  # that one call may take; building an index has its own
_BUILDING = 24 * 3600.0
_EMBEDDING = "embedding"
_SIGNATURE = 0  # the id of the row that says what the others are
_NOT_LOADED = 101  # such as after a restart of milvus-lite


@dataclass(frozen=True)
class Signature:
    """Whose mirror a collection is, and which state of it: two numbers of 63 bits."""

    owner: int
    state: int


@dataclass(frozen=True)
class Listed:
    """Rows of a collection by image id, ascending: all `[m]`."""

    ids: Ids
    generations: Ids
    stamps: Ids


class Collection:
    """A connection to one collection, which may not be there yet. Close it. Safe among threads."""

    def __init__(self, target: Target) -> None:
        """Raises `LibraryError` if it cannot be reached, or pymilvus is not installed."""
        self.target = target
        self.address = address = target.address
        self.collection = target.collection
        self.name = target.name
        self._client = connect(address)
        try:
            with self._errors():
                version = self._client.get_server_version(timeout=_SECONDS)
        except BaseException:
            self.close()
            raise
        self.is_lite = "lite" in str(version)
        if self.is_lite and address.kind and not address.kind.in_lite:
            self.close()
            raise LibraryError(
                f"milvus-lite has no {address.kind.name}: it would compare everything without a "
                f"word; it has {', '.join(IN_LITE)}, the others are for a server"
            )

    def close(self) -> None:
        """Close the connection; the last one to a file of milvus-lite lets other processes in."""
        with suppress(Exception):
            self._client.close()
        if self.address.lite:
            leave_lite(self.address.uri)

    def kind(self) -> ClusterKind | None:
        """The kind of its index, None if there is no such collection.

        Raises:
            LibraryError: somebody else made the collection, or its index.
        """
        with self._errors():
            if not self._client.has_collection(self.collection, timeout=_SECONDS):
                return None
            found = self._client.describe_collection(self.collection, timeout=_SECONDS)
            self._check_fields(found["fields"])
            if _EMBEDDING not in self._client.list_indexes(self.collection, timeout=_SECONDS):
                return None
            index = self._client.describe_index(self.collection, _EMBEDDING, timeout=_SECONDS)
        return ClusterKind.parse(index["index_type"])

    def dim(self) -> int:
        """D of its embeddings."""
        with self._errors():
            found = self._client.describe_collection(self.collection, timeout=_SECONDS)
        (field,) = (one for one in found["fields"] if one["name"] == _EMBEDDING)
        return int(field["params"]["dim"])

    def make(self, dim: int, rows: int) -> ClusterKind:
        """Make it and its index where they are not there, and load it; the kind of its index."""
        there = self.kind()
        kind = there or self.address.kind or ClusterKind.default(rows)
        with self._errors():
            if not self._client.has_collection(self.collection, timeout=_SECONDS):
                self._create(dim)
            if there is None:
                self._build(kind, rows, dim)
        self.load()
        return kind

    def load(self) -> None:
        """Let it be searched; at once if it can be already."""
        with self._errors():
            self._client.load_collection(self.collection, timeout=_BUILDING)

    def rebuild(self, kind: ClusterKind, rows: int, dim: int) -> None:
        """Put an index of another kind in the place of its own."""
        with self._errors():
            self._client.release_collection(self.collection, timeout=_SECONDS)
            self._client.drop_index(self.collection, _EMBEDDING, timeout=_SECONDS)
            self._build(kind, rows, dim)
        self.load()

    def signature(self) -> Signature | None:
        """What the collection says of itself; None if it says nothing."""
        with self._errors():
            rows = self._client.query(
                self.collection,
                filter=f"id == {_SIGNATURE}",
                output_fields=["id", "generation", "stamp"],
                consistency_level="Strong",
                timeout=_SECONDS,
            )
        return Signature(rows[0]["generation"], rows[0]["stamp"]) if rows else None

    def sign(self, signature: Signature, dim: int) -> None:
        """Let the collection say this of itself, once all that was written before can be found."""
        embedding = np.zeros(dim, np.float32)
        embedding[0] = 1
        row = {name: "" if name in TEXTS else 0 for name in FIELDS}
        numbers = {"id": _SIGNATURE, "generation": signature.owner, "stamp": signature.state}
        with self._errors():
            self._client.flush(self.collection, timeout=_BUILDING)
        self.upsert([row | numbers | {_EMBEDDING: embedding}])

    def upsert(self, rows: list[dict[str, Any]]) -> None:
        """Enter rows, in the place of those with the same id."""
        with self._errors():
            self._client.upsert(self.collection, rows, timeout=_SECONDS)

    def delete(self, image_ids: Ids) -> None:
        """Delete rows; what is not there is no error."""
        if len(image_ids):
            with self._errors():
                ids = image_ids.tolist()
                self._client.delete(self.collection, ids=ids, timeout=_SECONDS)

    def listed(self, after: int, upto: int | None, limit: int = MOST) -> Listed:
        """The rows with `after < id <= upto`, at most `limit` of them."""
        wanted = f"id > {max(after, _SIGNATURE)}" + ("" if upto is None else f" and id <= {upto}")
        with self._errors():
            rows = self._client.query(
                self.collection,
                filter=wanted,
                output_fields=["id", "generation", "stamp"],
                limit=limit,
                consistency_level="Strong",
                timeout=_SECONDS,
            )
        columns = [[row[name] for row in rows] for name in ("id", "generation", "stamp")]
        ids, generations, stamps = (np.array(column, np.int64) for column in columns)
        order = np.argsort(ids)
        return Listed(ids[order], generations[order], stamps[order])

    def embeddings(self, image_ids: Ids) -> tuple[Ids, Floats]:
        """Image ids `[m]`, ascending, and embeddings `[m, D]` of those that are there."""
        with self._errors():
            rows = self._client.get(
                self.collection,
                ids=image_ids.tolist(),
                output_fields=["id", _EMBEDDING],
                timeout=_SECONDS,
            )
        rows = sorted(rows, key=lambda row: row["id"])
        embeddings = np.array([row[_EMBEDDING] for row in rows], np.float32)
        ids = np.array([row["id"] for row in rows], np.int64)
        return ids, embeddings.reshape(len(ids), -1)

    def drop(self) -> None:
        """Drop the collection."""
        with self._errors():
            self._client.drop_collection(self.collection, timeout=_SECONDS)

    def near(
        self, queries: Floats, limit: int, search: dict[str, int], wanted: str = ""
    ) -> list[tuple[Ids, Floats]]:
        """For each unit query `[D]` up to `limit` image ids and rough scores, best first."""
        from pymilvus import MilvusException

        with self._errors():
            try:
                answers = self._search(queries, limit, search, wanted)
            except MilvusException as error:
                if error.code != _NOT_LOADED:
                    raise
                self._client.load_collection(self.collection, timeout=_BUILDING)
                answers = self._search(queries, limit, search, wanted)
        return [
            (
                np.array([hit["id"] for hit in hits], np.int64),
                np.array([hit["distance"] for hit in hits], np.float32),
            )
            for hits in answers
        ]

    def _search(self, queries: Floats, limit: int, search: dict[str, int], wanted: str) -> Any:
        return self._client.search(
            self.collection,
            data=list(queries),
            filter=wanted,
            limit=limit,
            output_fields=["id"],
            search_params={"metric_type": METRIC, "params": search},
            anns_field=_EMBEDDING,
            consistency_level="Bounded",
            timeout=_SECONDS,
        )

    def _create(self, dim: int) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        for name in FIELDS:
            if name in TEXTS:
                schema.add_field(name, DataType.VARCHAR, max_length=TEXTS[name])
            elif FIELDS[name] is float:
                schema.add_field(name, DataType.DOUBLE)
            else:
                schema.add_field(name, DataType.INT64, is_primary=name == "id")
        schema.add_field(_EMBEDDING, DataType.FLOAT_VECTOR, dim=dim)
        self._client.create_collection(
            self.collection, schema=schema, consistency_level="Bounded", timeout=_SECONDS
        )

    def _build(self, kind: ClusterKind, rows: int, dim: int) -> None:
        build = kind.build(rows, dim)
        indexes = self._client.prepare_index_params()
        indexes.add_index(
            _EMBEDDING,
            index_name=_EMBEDDING,
            index_type=kind.name,
            metric_type=METRIC,
            params={"params": build} if self.is_lite else build,  # it reads no others
        )
        there = self._client.list_indexes(self.collection, timeout=_SECONDS)
        for name in INDEXED:
            if name not in there:
                indexes.add_index(name, index_name=name, index_type="INVERTED")
        self._client.create_index(self.collection, indexes, timeout=_BUILDING)

    def _check_fields(self, fields: Sequence[dict[str, Any]]) -> None:
        if {field["name"] for field in fields} != {*FIELDS, _EMBEDDING}:
            raise LibraryError(
                f"{self.name}: a collection that rwkvsearch did not make, or an older one did: "
                "name another with --ann milvus://HOST:PORT/COLLECTION, or drop it"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with milvus_errors(self.address):
            yield
