"""One at a time brings the mirrors of a library up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, func, select

from rwkvsearch.data.errors import LibraryBusy
from rwkvsearch.indexer.library import Library

_LOCK = 0x72776B76_6D697272  # an advisory lock of the database


@contextmanager
def alone(library: Library) -> Iterator[None]:
    """Be the one who does: the caller writes to the library, and a team library has many writers.

    Raises:
        LibraryBusy: somebody else does.
    """
    if not library.is_shared:
        yield
        return
    with library.read() as session:
        engine = session.get_bind()
        assert isinstance(engine, Engine)
        with engine.connect() as connection:
            held = connection.scalar(select(func.pg_try_advisory_lock(_LOCK)))
            connection.commit()
            if not held:
                raise LibraryBusy(f"a mirror of {library.name} is being brought up to date already")
            try:
                yield
            finally:
                connection.execute(select(func.pg_advisory_unlock(_LOCK)))
                connection.commit()
