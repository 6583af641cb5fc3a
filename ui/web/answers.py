"""What the search page draws: an `Asked` answered by the service, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.albums import read_album
from rwkvsearch.indexer.details import shapes_of
from rwkvsearch.indexer.newest import newest_images
from rwkvsearch.retrieval.query import Hit, Query, Term
from rwkvsearch.retrieval.query_json import query_from_json
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.asked import Asked
from rwkvsearch.ui.words import printable

PAGE = 48
"""Hits that are shown at once."""
MOST = 10_000
"""Hits that are shown in all."""


def answer(service: Service, asked: Asked, offset: int = 0) -> dict[str, Any]:
    """Return the hits behind the first `offset`, or in `error` why there are none."""
    said: dict[str, Any] = {"link": asked.to_link(), "offset": offset, "album": asked.album}
    said |= {"q": asked.q, "hits": [], "more": False, "message": None, "error": None}
    said |= {"liked": list(asked.liked), "disliked": list(asked.disliked)}
    try:
        found = _found(service, asked, min(max(offset, 0), MOST))
    except RwkvSearchError as error:
        return said | {"error": str(error)}
    return said | found


def to_query(service: Service, asked: Asked, offset: int = 0) -> Query | None:
    """Return what is asked for, None if nothing is but filters.

    Raises:
        QueryError: the words make no sense, or a picture has gone.
        LibraryError: there is no such album.
    """
    votes = {"liked": asked.liked, "disliked": asked.disliked}
    if asked.album:
        album = read_album(service.library, asked.album)
        with service.engine() as engine:
            query = query_from_json(album.query, engine.encoder.model_id)
        return replace(
            query, k=PAGE, offset=offset, liked=album.liked, disliked=album.disliked
        )
    terms = [*asked.words()]
    if asked.like is not None:
        terms.append(Term(image_id=asked.like))
    if asked.upload:
        terms.append(Term(image=service.uploads.image(asked.upload)))
    if not terms:
        return None
    return Query(
        tuple(terms),
        filters=asked.filters,
        k=PAGE,
        offset=offset,
        min_confidence=asked.min_confidence,
        diverse=asked.diverse,
        **votes,
    )


def _found(service: Service, asked: Asked, offset: int) -> dict[str, Any]:
    query = to_query(service, asked, offset)
    with service.engine() as engine:
        filters = query.filters if query else asked.filters
        among = engine.passing(filters) if filters else None
        size = engine.size
    passing = size if among is None else len(among)
    counts = {"passing": passing, "size": size}
    if query is None:
        ids = newest_images(service.library, PAGE, offset, among)
        return counts | {
            "kind": "newest",
            "hits": _shown(service, ids),
            "more": offset + len(ids) < passing,
        }
    found = service.search(query)
    more = len(found.hits) == PAGE and offset + PAGE < MOST
    seconds = {"encode": found.encode_seconds, "search": found.search_seconds}
    return counts | {
        "kind": "search",
        "hits": _shown(service, [hit.image_id for hit in found.hits], found.hits),
        "more": more,
        "message": found.message,
        "how": found.how,
        "ms": {name: round(1000 * value, 1) for name, value in seconds.items()},
        "liked": list(query.liked),
        "disliked": list(query.disliked),
    }


def _shown(
    service: Service, ids: Sequence[int], hits: Sequence[Hit] | None = None
) -> list[dict[str, Any]]:
    """What is drawn of each image: its shape and name, and of a hit its score."""
    shapes = shapes_of(service.library, ids)
    paths = service.library.paths_of(ids)
    shown = [
        {
            "id": image_id,
            "hash": shapes[image_id].content_hash,
            "width": shapes[image_id].width,
            "height": shapes[image_id].height,
            "name": printable(Path(paths[image_id][0].name)),
            "path": printable(paths[image_id][0]),
        }
        for image_id in ids
        if image_id in shapes and image_id in paths
    ]
    if hits is None:
        return shown
    scores = {hit.image_id: hit for hit in hits}
    return [
        one
        | {
            "score": round(scores[one["id"]].score, 4),
            "confidence": round(scores[one["id"]].confidence, 3),
        }
        for one in shown
    ]
