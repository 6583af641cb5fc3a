"""Which model to use with a library."""

from __future__ import annotations

from typing import get_args

from rwkvsearch.indexer.library import Library
from rwkvsearch.retrieval.models import DEFAULT_MODEL, EXACT, Precision, known_models


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
    own = [i for i in ids if i.startswith(f"{name}-")]
    precisions = [p for p in get_args(Precision) if any(i.endswith(f"-{p}") for i in own)]
    return name, precision or (precisions[0] if precisions else EXACT)
