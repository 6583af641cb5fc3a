"""The search page: words and pictures, filters, the hits, and each of them large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.answers import answer, asked_about, kept_as
from rwkvsearch.ui.web.asked import Asked
from rwkvsearch.ui.web.assets import read_static
from rwkvsearch.ui.web.syncing import sync_line

ORIENTATIONS = [("any", ""), "landscape", "portrait", "square"]
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_name": False}
_LAST: dict[str, Any] = _QUIET | {"trigger_mode": "always_last"}
_WAIT = "document.dispatchEvent(new Event('rwkvsearch:waiting'))"


class _Events:
    """What happens on the page; every method gives what its components are to show."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def run(self, asked: dict[str, Any], *given: Any) -> Any:
        wanted = _with_filters(_read(asked)[0], given)
        return self._about(wanted), _labelled(wanted), answer(self._service, wanted)

    def narrow(self, asked: dict[str, Any], *given: Any) -> Any:
        wanted = _with_filters(_read(asked)[0], given)
        return gr.skip() if wanted.to_link() == asked["link"] else self.run(asked, *given)

    def reopen(self, asked: dict[str, Any]) -> Any:
        wanted, trouble = _read(asked)
        said = answer(self._service, wanted) | {"back": asked.get("back", False)}
        if trouble:
            said |= {"error": trouble}
        return self._about(wanted), _labelled(wanted), *_filters_of(self._service, wanted), said

    def restore(self, event: gr.EventData) -> Any:
        return self.reopen(event._data)

    def further(self, event: gr.EventData) -> dict[str, Any]:
        return answer(self._service, _read(event._data)[0], int(event._data["offset"]))

    def keep(self, event: gr.EventData) -> Any:
        wanted = _read(event._data)[0]
        album, said = kept_as(self._service, wanted, str(event._data["name"]))
        return self._about(album), _labelled(album), said

    def _about(self, asked: Asked) -> dict[str, Any]:
        return asked_about(self._service, asked)


def add(pages: gr.Blocks, service: Service) -> None:
    """Put the page into `pages`, within whose `with` statement this is called."""
    ask = _html("ask", {"link": ""})
    with gr.Accordion("Filters", open=False, elem_id="filters") as shutter:
        filters = _filters()
    sync_line()
    found = _html("found", {})
    asked, shown, on = [ask, *filters], [ask, shutter, found], _Events(service)
    everything = [ask, shutter, *filters, found]
    for listen in (ask.submit, *_changes(filters)):
        listen(on.run, asked, shown, js=_telling(len(asked)), **_LAST)
    for box in (one for one in filters if isinstance(one, gr.Textbox)):
        box.blur(on.narrow, asked, shown, **_LAST)
    here = f"() => {{ {_WAIT}; return [{{link: location.search.slice(1), back: true}}]; }}"
    pages.load(on.reopen, [ask], everything, js=here, **_QUIET)
    ask.undo(on.restore, None, everything, js=_telling(0), **_LAST)
    found.select(on.further, None, [found], js=_telling(0), **_QUIET)
    found.edit(on.keep, None, shown, js=_telling(0), **_QUIET)


def _telling(inputs: int) -> str:
    """Script that says that an answer is awaited, and hands on what was put in."""
    return f"(...given) => {{ {_WAIT}; return given.slice(0, {inputs}); }}"


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
    with gr.Row():
        under = gr.Dropdown([], label="Folder", **many)
        camera = gr.Dropdown([], label="Camera", **many)
        tag = gr.Dropdown([], label="Tags (all of them)", **many)
        kind = gr.Dropdown([], label="Format", **many)
    with gr.Row():
        after = gr.Textbox(label="Taken in or after", placeholder="2019-06", min_width=140)
        before = gr.Textbox(label="Taken in or before", placeholder="2020", min_width=140)
        shape = gr.Radio(ORIENTATIONS, value="", label="Shape", min_width=380)
        least = gr.Slider(0, 1, 0, step=0.05, label="Least confidence", min_width=240)
        diverse = gr.Checkbox(label="No near copies", min_width=140)
    return [under, camera, tag, kind, after, before, shape, least, diverse]


def _changes(filters: Sequence[Any]) -> list[Any]:
    """What tells that a filter is set: of a box for text, that it is done."""
    return [one.submit if isinstance(one, gr.Textbox) else one.input for one in filters]


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
        min_confidence=min(max(float(least or 0), 0.0), 1.0),
        diverse=bool(diverse),
    )


def _labelled(asked: Asked) -> Any:
    return gr.update(label=f"Filters ({asked.narrowed})" if asked.narrowed else "Filters")


def _filters_of(service: Service, asked: Asked) -> list[Any]:
    """The filters as they are asked for, with what each can be set to now."""
    try:
        known = service.facets()
    except RwkvSearchError:  # the answer says it
        return [gr.skip() for _ in range(9)]
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


def _read(asked: Any) -> tuple[Asked, str | None]:
    """What a browser says that it is asked; if that makes no sense nothing, and why."""
    try:
        return Asked.from_link(str(asked["link"])), None
    except RwkvSearchError as error:
        return Asked(), str(error)
    except (KeyError, TypeError):
        return Asked(), None
