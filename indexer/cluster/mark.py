"""What the library remembers of its mirrors: up to where each was brought, and what it lacks."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from rwkvsearch.indexer.blocks import Ids, newest_embedding
from rwkvsearch.indexer.cluster.address import ClusterAddress, Target
from rwkvsearch.indexer.cluster.milvus import Signature
from rwkvsearch.indexer.cluster.rows import number_of
from rwkvsearch.indexer.dialects import is_postgresql
from rwkvsearch.indexer.library import Library, ModelInfo
from rwkvsearch.indexer.tables import RootRow, SettingRow

_IDENTITY = "library-id"


@dataclass(frozen=True)
class Mark:
    """The mirror holds every embedding with an id up to `upto`, but for the images `left_out`.

    `state` is what the collection has to say of itself. `synced` is the time of the last sync
    before it, in seconds since 1970. `search` and `ann_recall` were measured with `measured` rows
    of the kind `kind`.
    """

    state: int = 0
    upto: int = 0
    rows: int = 0
    synced: float = 0.0
    kind: str = ""
    search: dict[str, int] = field(default_factory=dict)
    ann_recall: float | None = None
    measured: int = 0
    left_out: list[int] = field(default_factory=list)

    @property
    def left_out_ids(self) -> Ids:
        """`left_out` as an array."""
        return np.array(self.left_out, np.int64)

    def without(self, dead: Ids) -> Self:
        """As long as a mirror is being brought up to date, these may be missing too."""
        return replace(self, left_out=np.union1d(self.left_out_ids, dead).tolist())


def read_mark(session: Session, model: ModelInfo, target: Target) -> Mark:
    """Of the mirror there; an empty one if there was none."""
    found = _marks(session, model).get(target.key)
    return Mark(**found) if found else Mark()


def write_mark(library: Library, model: ModelInfo, target: Target, mark: Mark) -> None:
    """Keep it; other mirrors of the model keep theirs."""
    with library.write() as session:
        marks = _marks(session, model) | {target.key: asdict(mark)}
        session.merge(SettingRow(name=_setting(model), value=json.dumps(marks)))


def settled_newest(session: Session, model: ModelInfo) -> int:
    """The largest embedding id of `model` below which no writer is about to add any.

    Call it first in a transaction that writes: in PostgreSQL it waits for the others.
    """
    if is_postgresql(session):
        session.execute(text("LOCK TABLE embeddings IN SHARE MODE"))
    return newest_embedding(session, model)


def last_sync(session: Session) -> float:
    """When a root was synced last, in seconds since 1970; 0 if none was."""
    return session.scalar(select(func.max(RootRow.synced_at))) or 0.0


def signature_of(session: Session, model: ModelInfo, state: int) -> Signature:
    """What a collection that mirrors `model` says of itself."""
    row = session.get(SettingRow, _IDENTITY)
    identity = row.value if row else ""
    return Signature(number_of(identity, model.model_id, model.preprocessing_id), state)


def identify(session: Session) -> None:
    """Give the library a name of its own, once, that it keeps wherever it is moved."""
    if session.get(SettingRow, _IDENTITY) is None:
        session.add(SettingRow(name=_IDENTITY, value=json.dumps(secrets.token_hex(16))))
        session.flush()


def target_of(session: Session, model: ModelInfo, ann: str) -> Target:
    """Where `--ann` mirrors a model to: a collection of its own where none is named.

    Raises:
        LibraryError: `ann` is no address.
    """
    address = ClusterAddress.parse(ann)
    own = f"rwkvsearch_{signature_of(session, model, 0).owner:016x}"
    return Target(address, address.collection or own)


def new_state() -> int:
    """A number that no mirror had before."""
    return secrets.randbits(63)


def _marks(session: Session, model: ModelInfo) -> dict[str, Any]:
    row = session.get(SettingRow, _setting(model))
    found: dict[str, Any] = json.loads(row.value) if row else {}
    return found


def _setting(model: ModelInfo) -> str:
    return f"ann-mirrors:{model.key}"
