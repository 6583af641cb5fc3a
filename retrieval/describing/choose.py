"""From what the command line says to who describes, and from a library to its pictures."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from rwkvsearch.data.descriptions.protocols import Tagger
from rwkvsearch.data.descriptions.texts import ImageSource, Item
from rwkvsearch.data.descriptions.vocabulary import Word
from rwkvsearch.data.errors import LibraryError, ModelError
from rwkvsearch.indexer.address import Place
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.tables import FileRow, RootRow
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


def items_of_library(place: Place) -> list[Item]:
    """One file of every different picture of a library, in the order they were indexed.

    Raises:
        LibraryError: no library, or no picture in it.
    """
    found: dict[int, Item] = {}
    with Library.open(place) as library, library.read() as session:
        rows = session.execute(
            select(FileRow.image_id, RootRow.path, FileRow.path, FileRow.offset, FileRow.size)
            .join(RootRow, RootRow.id == FileRow.root_id)
            .where(FileRow.image_id.is_not(None), FileRow.gone_at.is_(None))
            .order_by(FileRow.image_id, FileRow.id)
        )
        for image_id, root, name, offset, size in rows:
            member = None if offset is None else ImageSource(root, offset, size)
            item = Item(str(root / name), member or ImageSource(root / name))
            found.setdefault(image_id or 0, item)
    if not found:
        raise LibraryError(f"the library at {place} is empty; fill it with `rwkvsearch index PATH`")
    return [*found.values()]
