"""Features of pictures that were computed before, by the content of their files.

One SQLite file for each model, precision and image transform, in `$RWKVSEARCH_HOME/features/`. It
is only a cache: when it cannot be read or written, features are computed anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.retrieval.encoder import Encoder
from rwkvsearch.retrieval.models import home_folder

FOLDER = "features"
_TABLE = """
    CREATE TABLE IF NOT EXISTS features (content BLOB PRIMARY KEY, features BLOB) WITHOUT ROWID
"""

Floats = NDArray[np.float32]


class FeatureCache:
    """Features `[D]` by the SHA-256 of the file they are of."""

    def __init__(self, file: Path, dim: int) -> None:
        """Nothing is opened or made before it is used."""
        self.file = file
        self._dim = dim

    def read(self, contents: Sequence[bytes]) -> dict[bytes, Floats]:
        """Those that are kept."""
        found: dict[bytes, Floats] = {}
        marks = ",".join("?" * len(contents))
        asked = f"SELECT content, features FROM features WHERE content IN ({marks})"
        with suppress(sqlite3.Error), self._opened("ro") as connection:
            for content, data in connection.execute(asked, [*contents]):
                if len(data) == 4 * self._dim:
                    found[content] = np.frombuffer(data, "<f4").astype(np.float32)
        return found

    def keep(self, new: dict[bytes, Floats]) -> None:
        """Keep these, too."""
        rows = [(content, vector.astype("<f4").tobytes()) for content, vector in new.items()]
        with suppress(sqlite3.Error, OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self._opened("rwc") as connection, connection:
                connection.execute(_TABLE)
                connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)

    @contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        address = f"{self.file.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
            yield connection


def feature_cache(encoder: Encoder) -> FeatureCache:
    """The cache of what an encoder gives."""
    name = f"{encoder.model_id}-{encoder.preprocessing_id}.sqlite"
    return FeatureCache(home_folder() / FOLDER / name, encoder.dim)
