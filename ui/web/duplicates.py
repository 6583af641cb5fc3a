"""The page of duplicates: files that show the same picture, side by side. Nothing is deleted."""

from __future__ import annotations

import gradio as gr

from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.assets import read_static
from rwkvsearch.ui.web.navigation import page


def add(pages: gr.Blocks, _service: Service) -> None:
    """Put the page into `pages`; it asks `/api/v1/duplicates`."""
    with page(pages, "Duplicates", "duplicates"):
        gr.HTML(
            html_template='<div class="duplicates"></div>',
            css_template=read_static("duplicates.css"),
            js_on_load=read_static("dom.js", "words.js", "duplicates.js"),
            apply_default_css=False,
            elem_id="duplicates",
        )
