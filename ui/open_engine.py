"""An open search engine, and whether it is as new as its library and its model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rwkvsearch.retrieval.models import CONFIG_FILE, WEIGHTS_FILE, find_spec, folder_of

if TYPE_CHECKING:
    from rwkvsearch.indexer.address import Place
    from rwkvsearch.indexer.freshness import Freshness, State
    from rwkvsearch.indexer.team.freshness import TeamFreshness
    from rwkvsearch.retrieval.engine import SearchEngine
    from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
    from rwkvsearch.retrieval.models import Precision

LendEncoder = Callable[[str, "str | None", "Precision"], "LazyEncoder"]
"""Gives the encoder of a model by name, for a device and a precision."""


@dataclass
class OpenEngine:
    """An engine with what tells its age. Close it. `is_current` is not safe among threads."""

    engine: SearchEngine
    freshness: Freshness | TeamFreshness
    state: State | None
    weights: State

    @classmethod
    def open(
        cls,
        place: Place,
        model: str | None,
        device: str | None,
        precision: Precision | None,
        encoder: LendEncoder,
        ann: str | None = None,
    ) -> OpenEngine:
        """Open it as `SearchEngine.open` does, with an encoder that is lent.

        Raises:
            LibraryError: there is no library, or the model has no embeddings in it.
            ModelError: the model is unknown, not installed or damaged.
        """
        from rwkvsearch.indexer.freshness import open_freshness
        from rwkvsearch.indexer.library import Library
        from rwkvsearch.retrieval.choose import choose_model
        from rwkvsearch.retrieval.engine import SearchEngine

        with ExitStack() as undo:
            library = Library.open(place)
            undo.callback(library.close)
            freshness = open_freshness(place)
            undo.callback(freshness.close)
            state = freshness.state()  # first: what is committed from here on is seen later
            name, exactness = choose_model(library, model, precision)
            lent = encoder(name, device, exactness)
            found = cls(SearchEngine(library, lent, ann), freshness, state, weights_state(name))
            undo.pop_all()
        return found

    def is_current(self) -> bool:
        """Whether neither the library nor the weights have changed, and both are there."""
        from rwkvsearch.data.errors import RwkvSearchError

        try:
            current = self.freshness.state(), weights_state(self.engine.encoder.card.name)
        except RwkvSearchError:  # it is said when it is opened again
            return False
        return current == (self.state, self.weights) and self.state is not None

    def close(self) -> None:
        """Close the library."""
        self.engine.close()
        self.freshness.close()


def weights_state(name: str) -> State:
    """What differs once a model has been trained or installed anew."""
    folder = folder_of(find_spec(name))
    stats = []
    for path in (folder / CONFIG_FILE, folder / WEIGHTS_FILE):
        found = path.stat() if path.exists() else None
        stats.append(found and (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    return (folder.absolute(), *stats)
