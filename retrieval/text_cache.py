"""Embeddings of texts that were asked for before, so that asking again needs no model.

One small SQLite file in `$RWKVSEARCH_HOME`, for all libraries. It holds a hash of each text, not
the text. It is only a cache: when it cannot be read or written, texts are embedded anew.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

MOST = 20_000
"""Texts that are kept; the oldest go first."""
_TABLE = """
    CREATE TABLE IF NOT EXISTS texts
    (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, embedding BLOB NOT NULL)
"""
_PART = 500

Floats = NDArray[np.float32]


class TextCache:
    """The embeddings of texts under one model. Safe among threads and processes."""

    def __init__(self, file: Path, model_id: str, dim: int) -> None:
        """Nothing is opened or made before it is used."""
        self._file = file
        self._model_id = model_id
        self._dim = dim
        self._lock, self._writing = Lock(), Lock()
        self._unwritten: dict[bytes, Floats] = {}

    def embed(self, texts: Sequence[str], encode: Callable[[list[str]], Floats]) -> Floats:
        """Return `[B, D]`: what is kept, and what `encode` says of the others, which is kept.

        More texts than `MOST` go to `encode` as they are: they would push one another out.
        """
        if len(texts) > MOST:
            return encode([*texts])
        keys = [self._key(text) for text in texts]
        known = self._read(keys)
        missing = [row for row, key in enumerate(keys) if key not in known]
        if missing:
            new = encode([texts[row] for row in missing])
            known |= {keys[row]: embedding for row, embedding in zip(missing, new, strict=True)}
            self._keep({keys[row]: known[keys[row]] for row in missing})
        return np.stack([known[key] for key in keys])

    def _key(self, text: str) -> bytes:
        said = f"{self._model_id}\0{text}".encode(errors="surrogatepass")
        return hashlib.sha256(said).digest()

    def _read(self, keys: list[bytes]) -> dict[bytes, Floats]:
        found: dict[bytes, Floats] = {}
        with suppress(sqlite3.Error), self._opened("ro") as connection:
            for start in range(0, len(keys), _PART):
                part = keys[start : start + _PART]
                marks = ",".join("?" * len(part))
                for key, data in connection.execute(
                    f"SELECT key, embedding FROM texts WHERE key IN ({marks})", part
                ):
                    if len(data) == 4 * self._dim:
                        found[key] = np.frombuffer(data, "<f4").astype(np.float32)
        return found

    def _keep(self, new: dict[bytes, Floats]) -> None:
        """Write them, or leave them to the thread that is writing: SQLite would poll for a turn."""
        with self._lock:
            self._unwritten |= new
        for _ in range(2):  # again for what came meanwhile, but nobody serves the others for long
            if self._unwritten and self._writing.acquire(blocking=False):
                try:
                    with self._lock:
                        batch, self._unwritten = self._unwritten, {}
                    self._write(batch)
                finally:
                    self._writing.release()

    def _write(self, new: dict[bytes, Floats]) -> None:
        with suppress(sqlite3.Error, OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._file, os.O_CREAT | os.O_RDWR, 0o600))
            with self._opened("rw") as connection, connection:
                connection.execute(_TABLE)
                connection.executemany(
                    "INSERT OR REPLACE INTO texts (key, embedding) VALUES (?, ?)",
                    [(key, data.astype("<f4").tobytes()) for key, data in new.items()],
                )
                connection.execute(
                    "DELETE FROM texts WHERE id <= (SELECT max(id) FROM texts) - ?", (MOST,)
                )

    @contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        address = f"{self._file.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(address, uri=True, timeout=1)) as connection:
            yield connection
