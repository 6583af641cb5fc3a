"""The map: the whole collection on a plane, what is alike close together."""

from __future__ import annotations

import gradio as gr

from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.assets import read_static
from rwkvsearch.ui.web.navigation import page


def add(pages: gr.Blocks, _service: Service) -> None:
    """Put the page into `pages`; it asks `/api/v1/map` and draws by itself."""
    with page(pages, "Map", "map"):
        gr.HTML(
            html_template=read_static("map.html"),
            css_template=read_static("map.css"),
            js_on_load=read_static("dom.js", "map_view.js", "map_pictures.js", "map.js"),
            apply_default_css=False,
            elem_id="map",
        )
