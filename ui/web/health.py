"""The page of the library: what it holds, what could not be used, and whether it is whole."""

from __future__ import annotations

import gradio as gr

from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.assets import read_static
from rwkvsearch.ui.web.navigation import page
from rwkvsearch.ui.web.syncing import sync_panel


def add(pages: gr.Blocks, _service: Service) -> None:
    """Put the page into `pages`; it asks the API for the stats, roots, errors and the doctor."""
    with page(pages, "Library", "library"):
        sync_panel()
        gr.HTML(
            html_template='<div class="health"></div>',
            css_template=read_static("health.css"),
            js_on_load=read_static("dom.js", "words.js", "health.js"),
            apply_default_css=False,
            elem_id="health",
        )
