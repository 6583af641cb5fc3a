"""Search engines that stay open between queries, and are never older than their library."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rwkvsearch.indexer.address import Address, Place, exists, libpq_environment, whole
from rwkvsearch.retrieval.models import home_folder
from rwkvsearch.ui.open_engine import OpenEngine, weights_state

if TYPE_CHECKING:
    from rwkvsearch.indexer.address import Address, Place, exists, libpq_environment, whole
    from rwkvsearch.indexer.freshness import State
    from rwkvsearch.retrieval.engine import SearchEngine
    from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
from rwkvsearch.retrieval.models import Precision

MOST_ENGINES = 4
MOST_ENCODERS = 2

Names = tuple[str | None, ...]
Asked = tuple[Path, Place, tuple[str, ...], Names, "Precision | None"]
"""Home, library, what libpq takes from the environment, model, device and ann, and precision."""


class Engines:
    """The last few engines by library, model, device and precision; the oldest are closed.

    One model is shared by all engines that use it. Not safe among threads.
    """

    def __init__(self, most: int = MOST_ENGINES, most_encoders: int = MOST_ENCODERS) -> None:
        self._most = most
        self._most_encoders = most_encoders
        self._open: OrderedDict[Asked, OpenEngine] = OrderedDict()
        self._encoders: OrderedDict[State, LazyEncoder] = OrderedDict()
        self.reopened = 0

    @property
    def number(self) -> int:
        """How many are open."""
        return len(self._open)

    @contextmanager
    def engine(
        self,
        place: Place,
        model: str | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        ann: str | None = None,
    ) -> Iterator[SearchEngine]:
        """An engine as `SearchEngine.open` gives it now; it stays open after the block.

        Raises:
            LibraryError: there is no library, or the model has no embeddings in it.
            ModelError: the model is unknown, not installed or damaged.
        """
        device = device or os.environ.get("RWKVSEARCH_DEVICE") or None
        place = whole(place)
        meant = libpq_environment() if isinstance(place, Address) else ()
        asked = (home_folder().absolute(), place, meant, (model, device, ann), precision)
        known = self._open.pop(asked, None)
        if known and not known.is_current():
            known.close()
            self.reopened += 1
            known = None
        known = known or OpenEngine.open(place, model, device, precision, self._encoder, ann)
        self._open[asked] = known
        while len(self._open) > self._most:
            self._open.popitem(last=False)[1].close()
        yield known.engine

    def _encoder(self, name: str, device: str | None, precision: Precision) -> LazyEncoder:
        from rwkvsearch.retrieval.lazy_encoder import LazyEncoder

        new = LazyEncoder.of(name, device, precision)
        key = (name, device, precision, weights_state(name))
        encoder = self._encoders.pop(key, new)
        self._encoders[key] = encoder
        while len(self._encoders) > self._most_encoders:
            self._encoders.popitem(last=False)
        return encoder

    def drop_gone(self) -> None:
        """Close the engines whose library is not there any more, so that its disk space is free."""
        for asked, known in list(self._open.items()):
            if not exists(asked[1]):
                self._open.pop(asked)
                known.close()

    def close(self) -> None:
        """Close all of them, and let go of the models."""
        while self._open:
            self._open.popitem()[1].close()
        self._encoders.clear()
