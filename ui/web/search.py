"""The search page: words and pictures, filters, the hits, and each of them large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.albums import read_albums, save_album, vote
from rwkvsearch.indexer.details import shapes_of
from rwkvsearch.retrieval.query_json import query_to_json, without_pictures
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.answers import answer, to_query
from rwkvsearch.ui.web.asked import Asked
from rwkvsearch.ui.web.assets import read_static
from rwkvsearch.ui.web.syncing import sync_line

ORIENTATIONS = [("any", ""), "landscape", "portrait", "square"]
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_name": False}


def add(pages: gr.Blocks, service: Service) -> None:
    """Put the page into `pages`, within whose `with` statement this is called."""
    ask = _html("ask", {"link": ""})
    filters = _filters()
    sync_line()
    found = _html("found", {})

    def run(asked: dict[str, Any], *given: Any) -> Any:
        wanted = _with_filters(_read(asked), given)
        return _asked(service, wanted), _answered(service, wanted)

    def reopen(asked: dict[str, Any]) -> Any:
        wanted = _read(asked)
        return _asked(service, wanted), *_filters_of(service, wanted), _answered(service, wanted)

    def restore(event: gr.EventData) -> Any:
        return reopen(event._data)

    def further(event: gr.EventData) -> dict[str, Any]:
        return answer(service, _read(event._data), int(event._data["offset"]))

    def keep(event: gr.EventData) -> dict[str, Any]:
        return _saved(service, _read(event._data), str(event._data["name"]))

    ask.submit(run, [ask, *filters], [ask, found], **_QUIET)
    for one in filters:
        listen = one.release if isinstance(one, gr.Slider) else one.input
        listen(run, [ask, *filters], [ask, found], **_QUIET)
    here = "() => [{link: location.search.slice(1)}]"
    pages.load(reopen, [ask], [ask, *filters, found], js=here, **_QUIET)
    ask.load(restore, None, [ask, *filters, found], **_QUIET)
    found.select(further, None, [found], **_QUIET)
    found.edit(keep, None, [found], **_QUIET)


def _html(name: str, value: Any) -> gr.HTML:
    return gr.HTML(
        value,
        html_template=read_static(f"{name}.html"),
        css_template=read_static(f"{name}.css"),
        js_on_load=read_static("dom.js", f"{name}.js"),
        apply_default_css=False,
        elem_id=name,
    )


def _filters() -> list[Any]:
    many: dict[str, Any] = {"multiselect": True, "allow_custom_value": True, "min_width": 200}
    with gr.Accordion("Filters", open=False, elem_id="filters"):
        with gr.Row():
            under = gr.Dropdown([], label="Folder", **many)
            camera = gr.Dropdown([], label="Camera", **many)
            tag = gr.Dropdown([], label="Tags (all of them)", **many)
            kind = gr.Dropdown([], label="Format", **many)
        with gr.Row():
            after = gr.Textbox(label="Taken in or after", placeholder="2019-06", min_width=140)
            before = gr.Textbox(label="Taken in or before", placeholder="2020", min_width=140)
            shape = gr.Radio(ORIENTATIONS, value="", label="Shape", min_width=260)
            least = gr.Slider(0, 1, 0, step=0.05, label="Least confidence", min_width=200)
            diverse = gr.Checkbox(label="Of near copies only the best", min_width=200)
    return [under, camera, tag, kind, after, before, shape, least, diverse]


def _with_filters(asked: Asked, given: Sequence[Any]) -> Asked:
    under, camera, tag, kind, after, before, shape, least, diverse = given
    return replace(
        asked,
        under=tuple(under or ()),
        camera=tuple(camera or ()),
        tag=tuple(tag or ()),
        format=tuple(kind or ()),
        after=(after or "").strip(),
        before=(before or "").strip(),
        orientation=shape or "",
        min_confidence=float(least or 0),
        diverse=bool(diverse),
    )


def _filters_of(service: Service, asked: Asked) -> list[Any]:
    """The filters as they are asked for, with what each can be set to now."""
    known = service.facets()
    return [
        gr.update(value=[*asked.under], choices=_choices(known.folders)),
        gr.update(value=[*asked.camera], choices=_choices(known.cameras)),
        gr.update(value=[*asked.tag], choices=_choices(known.tags)),
        gr.update(value=[*asked.format], choices=_choices(known.formats)),
        asked.after,
        asked.before,
        asked.orientation,
        asked.min_confidence,
        asked.diverse,
    ]


def _choices(counted: Sequence[tuple[Any, int]]) -> list[tuple[str, str]]:
    """The values that can be told a browser, with how many pictures each leaves."""
    told = ((str(value), number) for value, number in counted)
    return [(f"{value} ({number:,})", value) for value, number in told if value.isprintable()]


def _read(asked: Any) -> Asked:
    """What a browser says that it is asked; nothing, if that makes no sense."""
    try:
        return Asked.from_link(str(asked["link"]))
    except (RwkvSearchError, KeyError, TypeError):
        return Asked()


def _asked(service: Service, asked: Asked) -> dict[str, Any]:
    said: dict[str, Any] = {"link": asked.to_link(), "picture": None}
    if asked.like is not None:
        shape = shapes_of(service.library, [asked.like]).get(asked.like)
        paths = service.library.paths_of([asked.like]).get(asked.like)
        if shape and paths:
            said["picture"] = {"hash": shape.content_hash, "name": paths[0].name}
    return said


def _answered(service: Service, asked: Asked) -> dict[str, Any]:
    names = [album.name for album in read_albums(service.library)]
    return answer(service, asked) | {"albums": names}


def _saved(service: Service, asked: Asked, name: str) -> dict[str, Any]:
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
        return _answered(service, asked) | {"error": str(error)}
    return _answered(service, Asked(album=name)) | {"saved": f"Kept as the album {name!r}."}
