"""What the search page draws: an `Asked` answered by the service, as plain values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.albums import album_names, read_album, save_album, vote
from rwkvsearch.indexer.details import shapes_of
from rwkvsearch.indexer.newest import newest_images
from rwkvsearch.retrieval.grammar import unparse
from rwkvsearch.retrieval.query import Hit, Query, Term
from rwkvsearch.retrieval.query_json import query_from_json, query_to_json, without_pictures
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.asked import Asked
from rwkvsearch.ui.words import printable

PAGE = 48
"""Hits that are shown at once."""
MOST = 10_000
"""Hits that are shown in all."""

log = logging.getLogger(__name__)
_numbers = count(1)


def answer(service: Service, asked: Asked, offset: int = 0) -> dict[str, Any]:
    """Return the hits behind the first `offset`, or in `error` why there are none.

    No two answers are equal: `number` tells them apart.
    """
    said: dict[str, Any] = {"number": next(_numbers), "link": asked.to_link(), "offset": offset}
    said |= {"q": asked.q, "album": asked.album, "albums": [], "narrowed": asked.narrowed}
    said |= {"hits": [], "more": False, "message": None, "error": None, "why": None}
    said |= {"liked": list(asked.liked), "disliked": list(asked.disliked)}
    try:
        said["albums"] = album_names(service.library)
        return said | _found(service, asked, min(max(offset, 0), MOST))
    except RwkvSearchError as error:
        return said | {"error": str(error)}
    except Exception:  # the page has to say something
        log.exception("a search failed")
        return said | {"error": "this went wrong: the log of the server says more"}


def asked_about(service: Service, asked: Asked) -> dict[str, Any]:
    """What the box for the question shows: the link, and the picture of the library in it."""
    said: dict[str, Any] = {"link": asked.to_link(), "picture": None}
    if asked.like is None:
        return said
    try:
        shape = shapes_of(service.library, [asked.like]).get(asked.like)
        paths = service.library.paths_of([asked.like]).get(asked.like)
    except RwkvSearchError:  # the answer says it
        return said
    if shape and paths:
        said["picture"] = {"hash": shape.content_hash, "name": printable(Path(paths[0].name))}
    return said


def kept_as(service: Service, asked: Asked, name: str) -> tuple[Asked, dict[str, Any]]:
    """Keep what is asked as an album, and show it; in `error` why it cannot be."""
    try:
        query = to_query(service, asked)
        if query is not None:
            with service.engine() as engine:
                kept = without_pictures(query, engine.encoder.encode_images)
                text = query_to_json(kept, engine.encoder.model_id)
            save_album(service.library, name, text)
            vote(service.library, name, asked.liked, asked.disliked)
    except RwkvSearchError as error:
        return asked, answer(service, asked) | {"error": str(error)}
    album = Asked(album=name)
    return album, answer(service, album) | {"saved": f"Kept as the album {name!r}."}


def to_query(service: Service, asked: Asked, offset: int = 0) -> Query | None:
    """Return what is asked for, None if nothing is but filters.

    Raises:
        QueryError: the words make no sense, or a picture has gone.
        LibraryError: there is no such album.
    """
    if asked.album:
        return _of_album(service, asked, offset)
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
        liked=asked.liked,
        disliked=asked.disliked,
    )


def _of_album(service: Service, asked: Asked, offset: int) -> Query:
    """What an album keeps; filters that are set here take the place of its own."""
    album = read_album(service.library, asked.album)
    with service.engine() as engine:
        query = query_from_json(album.query, engine.encoder.model_id)
    return replace(
        query,
        k=PAGE,
        offset=offset,
        filters=asked.filters or query.filters,
        min_confidence=asked.min_confidence or query.min_confidence,
        diverse=asked.diverse or query.diverse,
        liked=album.liked,
        disliked=album.disliked,
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
        "why": _why(query, asked),
        "ms": {name: round(1000 * value, 1) for name, value in seconds.items()},
        "liked": list(query.liked),
        "disliked": list(query.disliked),
    }


def _why(query: Query, asked: Asked) -> str | None:
    """What is asked, as the API takes it to explain a hit; None where it cannot be told so."""
    words = tuple(term for term in query.terms if term.text)
    images = [term.image_id for term in query.terms if term.image_id and term.weight == 1]
    uploads = [asked.upload] if asked.upload and not asked.album else []
    if len(words) + len(images) + len(uploads) < len(query.terms):
        return None
    given: dict[str, Any] = {"q": unparse(words) if words else (), "image_id": images}
    given |= {"upload": uploads, "every": "true" if query.every else ()}
    return urlencode(given, doseq=True)


def _shown(
    service: Service, ids: Sequence[int], hits: Sequence[Hit] | None = None
) -> list[dict[str, Any]]:
    """What is drawn of each image: its shape and name, and of a hit its score."""
    shapes = shapes_of(service.library, ids)
    if hits is None:
        paths = {key: files[0] for key, files in service.library.paths_of(ids).items()}
    else:
        paths = {hit.image_id: hit.path for hit in hits}
    shown: list[dict[str, Any]] = [
        {
            "id": image_id,
            "hash": shapes[image_id].content_hash,
            "width": shapes[image_id].width,
            "height": shapes[image_id].height,
            "name": printable(Path(paths[image_id].name)),
            "path": printable(paths[image_id]),
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
