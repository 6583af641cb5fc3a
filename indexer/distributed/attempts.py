"""How often something was begun, by processes that did not live to end it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Attempts:
    """Counts in small files of this machine, which outlive a process; `run` names them."""

    run: str

    @contextmanager
    def begin(self, what: bytes) -> Iterator[int]:
        """Give how often `what` was begun before and never ended, be it by an error."""
        digest = hashlib.blake2b(what, digest_size=16).hexdigest()
        path = Path(tempfile.gettempdir()) / f"{self._prefix}{digest}"
        with path.open("ab") as file:
            before = file.tell()
            file.write(b".")
        try:
            yield before
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Remove what is left on this machine after the block."""
        try:
            yield
        finally:
            for path in Path(tempfile.gettempdir()).glob(f"{self._prefix}*"):
                path.unlink(missing_ok=True)

    @property
    def _prefix(self) -> str:
        return f"rwkvsearch-{self.run}-"
