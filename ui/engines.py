"""Search engines that stay open between queries, and are never older than their library."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvsearch.retrieval.models import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    find_spec,
    folder_of,
    home_folder,
)

if TYPE_CHECKING:
    from rwkvsearch.indexer.freshness import Freshness, State
    from rwkvsearch.retrieval.engine import SearchEngine
    from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
    from rwkvsearch.retrieval.models import Precision

MOST_ENGINES = 4
MOST_ENCODERS = 2

Asked = tuple[Path, Path, str | None, str | None, "Precision | None"]
"""Home, library, model, device and precision."""


@dataclass
class _Open:
    engine: SearchEngine
    freshness: Freshness
    state: State | None
    weights: State

    def close(self) -> None:
        self.engine.close()
        self.freshness.close()


class Engines:
    """The last few engines by library, model, device and precision; the oldest are closed.

    One model is shared by all engines that use it. Not safe among threads.
    """

    def __init__(self, most: int = MOST_ENGINES, most_encoders: int = MOST_ENCODERS) -> None:
        self._most = most
        self._most_encoders = most_encoders
        self._open: OrderedDict[Asked, _Open] = OrderedDict()
        self._encoders: OrderedDict[State, LazyEncoder] = OrderedDict()
        self.reopened = 0

    @property
    def number(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextmanager
    def engine(
        self,
        folder: Path,
        model: str | None = None,
        device: str | None = None,
        precision: Precision | None = None,
    ) -> Iterator[SearchEngine]:
        """An engine as `SearchEngine.open` gives it now; it stays open after the block.

        Raises:
            LibraryError: there is no library, or the model has no embeddings in it.
            ModelError: the model is unknown, not installed or damaged.
        """
        device = device or os.environ.get("RWKVSEARCH_DEVICE") or None
        asked = (home_folder().absolute(), folder.absolute(), model, device, precision)
        known = self._open.pop(asked, None)
        if known and not _is_current(known):
            known.close()
            self.reopened += 1
            known = None
        known = known or self._opened(folder, model, device, precision)
        self._open[asked] = known
        while len(self._open) > self._most:
            self._open.popitem(last=False)[1].close()
        yield known.engine

    def _opened(
        self, folder: Path, model: str | None, device: str | None, precision: Precision | None
    ) -> _Open:
        from rwkvsearch.indexer.freshness import Freshness
        from rwkvsearch.indexer.library import Library
        from rwkvsearch.retrieval.choose import choose_model
        from rwkvsearch.retrieval.engine import SearchEngine

        with ExitStack() as undo:
            library = Library.open(folder)
            undo.callback(library.close)
            freshness = Freshness(folder)
            undo.callback(freshness.close)
            state = freshness.state()  # first: what is committed from here on is seen later
            name, exactness = choose_model(library, model, precision)
            encoder = self._encoder(name, device, exactness)
            known = _Open(
                SearchEngine(library, encoder), freshness, state, _weights(encoder.card.name)
            )
            undo.pop_all()
        return known

    def _encoder(self, name: str, device: str | None, precision: Precision) -> LazyEncoder:
        from rwkvsearch.retrieval.lazy_encoder import LazyEncoder

        new = LazyEncoder.of(name, device, precision)
        key = (name, device, precision, _weights(name))
        encoder = self._encoders.pop(key, new)
        self._encoders[key] = encoder
        while len(self._encoders) > self._most_encoders:
            self._encoders.popitem(last=False)
        return encoder

    def drop_gone(self) -> None:
        """Close the engines whose library is not there any more, so that its disk space is free."""
        for asked, known in list(self._open.items()):
            if not (asked[1] / "library.sqlite").exists():
                self._open.pop(asked)
                known.close()

    def close(self) -> None:
        """Close all of them, and let go of the models."""
        while self._open:
            self._open.popitem()[1].close()
        self._encoders.clear()


def _is_current(known: _Open) -> bool:
    from rwkvsearch.data.errors import RwkvSearchError

    try:
        current = known.freshness.state(), _weights(known.engine.encoder.card.name)
    except RwkvSearchError:  # it is said when it is opened again
        return False
    return current == (known.state, known.weights) and known.state is not None


def _weights(name: str) -> State:
    """What differs once a model has been trained or installed anew."""
    folder = folder_of(find_spec(name))
    stats = []
    for path in (folder / CONFIG_FILE, folder / WEIGHTS_FILE):
        found = path.stat() if path.exists() else None
        stats.append(found and (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    return (folder.absolute(), *stats)
