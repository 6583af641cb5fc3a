"""Which model to use with a library."""

from __future__ import annotations

from contextlib import suppress
from typing import get_args

from rwkvsearch.data.errors import ModelError
from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.models import DEFAULT_MODEL, EXACT, Precision, known_models, read_card


def choose_model(
    library: Library | None, model: str | None = None, precision: Precision | None = None
) -> tuple[str, Precision]:
    """Return the name and precision to use: what is asked for, completed from the library.

    An open name is that of the library's only known model, else the default; an open precision is
    the most exact one that this model has in the library, else fp32.
    """
    ids = [info.model_id for info in library.models()] if library else []
    names = [name for name in known_models() if any(i.startswith(f"{name}-") for i in ids)]
    name = model or (names[0] if len(names) == 1 else DEFAULT_MODEL)
    precisions = _precisions(name, ids)
    return name, precision or (precisions[0] if precisions else EXACT)


def _precisions(name: str, ids: list[str]) -> list[Precision]:
    """Those of a model in a library, the most exact first; of its present weights if there are."""
    with suppress(ModelError):
        card = read_card(name)
        if present := [p for p in get_args(Precision) if card.id_of(p) in ids]:
            return present
    own = [i for i in ids if i.startswith(f"{name}-")]
    return [p for p in get_args(Precision) if any(i.endswith(f"-{p}") for i in own)]
