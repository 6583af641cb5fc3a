"""A query as JSON, to be kept and asked again: what `album save` writes.

Pictures are kept by their path, so that they are read anew each time. A picture that is no file is
kept as its embedding, which says something to the model that made it only.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.filters import filters_from_json, filters_to_json
from rwkvsearch.retrieval.query import Crop, Query, Term
from rwkvsearch.retrieval.terms import cropped

VERSION = 1

_KINDS = {"text": str, "path": str, "image_id": int, "embedding": str}


def without_pictures(
    query: Query, encode: Callable[[list[Image.Image]], NDArray[np.float32]]
) -> Query:
    """Return the query with the embeddings of pictures that are no file in their place."""

    def kept(term: Term) -> Term:
        if term.image is None:
            return term
        image = cropped(term.image, term.crop) if term.crop else term.image
        return replace(term, image=None, crop=None, embedding=encode([image])[0])

    return replace(query, terms=tuple(kept(term) for term in query.terms))


def query_to_json(query: Query, model_id: str | None = None) -> str:
    """Return a query as one line; its `offset` and votes are not kept.

    `model_id` is the model that made its embeddings, if it has any. Paths are made absolute.

    Raises:
        QueryError: a picture that is no file: see `without_pictures`.
    """
    document: dict[str, Any] = {
        "version": VERSION,
        "terms": [_term_to_json(term, model_id) for term in query.terms],
        "every": query.every,
        "filters": filters_to_json(query.filters),
        "k": query.k,
        "min_confidence": query.min_confidence,
        "diverse": query.diverse,
    }
    return json.dumps(document)


def query_from_json(text: str, model_id: str | None = None) -> Query:
    """Return the query that was kept.

    `model_id` is the model that is to answer it; None if nobody is.

    Raises:
        QueryError: it is damaged, a newer version wrote it, or it holds an embedding of another
            model.
    """
    try:
        document = json.loads(text)
        version = document["version"]
        if version != VERSION:
            raise QueryError(
                f"this query was saved by a newer rwkvsearch (version {version}, this one knows "
                f"{VERSION}); upgrade with `pip install -U rwkvsearch`"
            )
        return Query(
            tuple(_term_from_json(term, model_id) for term in document["terms"]),
            every=_checked(document["every"], bool),
            filters=filters_from_json(document["filters"]),
            k=_checked(document["k"], int),
            min_confidence=float(document["min_confidence"]),
            diverse=_checked(document["diverse"], bool),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise QueryError(f"a saved query is damaged ({error!r}): save it again") from error


def _term_to_json(term: Term, model_id: str | None) -> dict[str, Any]:
    if term.image is not None:
        raise QueryError("a picture that is no file can be kept as its embedding only")
    document: dict[str, Any] = {"weight": term.weight}
    if term.embedding is not None:
        data = base64.b64encode(term.embedding.astype("<f4").tobytes()).decode()
        document |= {"embedding": data, "model": model_id}
    elif term.image_id is not None:
        document |= {"image_id": term.image_id}
    elif term.path is not None:
        document |= {"path": str(term.path.absolute())}
    else:
        document |= {"text": term.text}
    return document if term.crop is None else document | {"crop": list(term.crop)}


def _term_from_json(document: dict[str, Any], model_id: str | None) -> Term:
    kind = next(name for name in _KINDS if name in document) if _KINDS.keys() & document else ""
    if not kind:
        raise ValueError("a term that shows nothing")
    value = _checked(document[kind], _KINDS[kind])
    weight = float(document["weight"])
    crop = Crop(*map(float, document["crop"])) if "crop" in document else None
    if kind == "embedding":
        return Term(embedding=_embedding(value, document["model"], model_id), weight=weight)
    if kind == "path":
        return Term(path=Path(value), weight=weight, crop=crop)
    if kind == "image_id":
        return Term(image_id=value, weight=weight)
    return Term(value, weight=weight)


def _embedding(data: str, made_by: str | None, model_id: str | None) -> NDArray[np.float32]:
    if model_id is not None and made_by != model_id:
        raise QueryError(
            f"this query holds a picture as {made_by} sees it, and {model_id} cannot use that: "
            "choose the other with --model and --precision, or save the query again"
        )
    try:
        return np.frombuffer(base64.b64decode(data, validate=True), "<f4").astype(np.float32)
    except binascii.Error as error:
        raise ValueError("an embedding that is no base64") from error


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r} instead of {kind.__name__}")
    return value
