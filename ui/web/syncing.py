"""Progress of a sync as a part of a page: it asks the API by itself, nothing has to be wired."""

from __future__ import annotations

import gradio as gr

from rwkvsearch.ui.web.assets import read_static


def sync_line() -> gr.HTML:
    """One line, hidden unless a sync runs or has just ended."""
    return _sync('<div class="sync compact"></div>', "sync-line")


def sync_panel() -> gr.HTML:
    """The button that starts a sync, its progress, and how the last one ended."""
    return _sync('<div class="sync"></div>', "sync")


def _sync(template: str, name: str) -> gr.HTML:
    return gr.HTML(
        html_template=template,
        css_template=read_static("sync.css"),
        js_on_load=read_static("dom.js", "words.js", "sync.js"),
        apply_default_css=False,
        elem_id=name,
    )
