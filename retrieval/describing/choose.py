"""From what the command line says to who describes, and from a library to its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import func, select

from rwkvsearch.data.descriptions.protocols import Tagger
from rwkvsearch.data.descriptions.texts import ImageSource, Item
from rwkvsearch.data.descriptions.vocabulary import Word
from rwkvsearch.data.errors import LibraryError, ModelError
from rwkvsearch.indexer.catalog import FileRow
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.describing.command import CommandTagger
from rwkvsearch.retrieval.describing.pipelines import Task, TransformersTagger
from rwkvsearch.retrieval.models import DEFAULT_MODEL

_TASKS: dict[str, Task] = {
    "classifier": "image-classification",
    "detector": "object-detection",
    "open-detector": "zero-shot-object-detection",
}
OWN, NONE = "own", "none"
TAGGERS = f"{OWN}, {NONE}, {', '.join(f'{name}:MODEL' for name in _TASKS)} or command:COMMAND"


def make_tagger(
    spec: str, words: Mapping[str, Word], *, model: str | None = None, device: str | None = None
) -> Tagger | None:
    """The tagger that `spec` names, one of `TAGGERS`; `model` is for `own`.

    Raises:
        ModelError: no such tagger, or its model cannot be loaded.
    """
    name, _, rest = spec.partition(":")
    if spec == NONE:
        return None
    if spec == OWN:
        from rwkvsearch.retrieval.describing.zero_shot import ZeroShotTagger
        from rwkvsearch.retrieval.encoder import Encoder  # torch, which the others may not need

        return ZeroShotTagger(Encoder.load(model or DEFAULT_MODEL, device=device), words)
    if name == "command":
        return CommandTagger(rest)
    if name in _TASKS and rest:
        things = [word.name for word in words.values() if word.kind in ("thing", "stuff")]
        return TransformersTagger(rest, _TASKS[name], things, device=device)
    raise ModelError(f"no tagger is called {spec!r}; there are {TAGGERS}")


def items_of_library(path: Path) -> list[Item]:
    """One file of every different picture of a library, in the order they were indexed.

    Raises:
        LibraryError: no library, or no picture in it.
    """
    with Library.open(path) as library:
        with library.read() as session:
            newest = select(func.max(FileRow.image_id))
            last = session.scalar(newest) or 0
        found = library.paths_of(range(1, last + 1))
    if not found:
        raise LibraryError(f"the library at {path} is empty; fill it with `rwkvsearch index PATH`")
    return [Item(str(paths[0]), ImageSource(paths[0])) for paths in found.values()]
