"""The page of benchmarks: what `bench` and `tune` have kept, beside what others have published."""

from __future__ import annotations

import gradio as gr

from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web.assets import read_static
from rwkvsearch.ui.web.navigation import page


def add(pages: gr.Blocks, _service: Service) -> None:
    """Put the page into `pages`; it asks `/api/v1/benchmarks`."""
    with page(pages, "Benchmarks", "benchmarks"):
        gr.HTML(
            html_template='<div class="benchmarks"></div>',
            css_template=read_static("benchmarks.css"),
            js_on_load=read_static("dom.js", "words.js", "charts.js", "benchmarks.js"),
            apply_default_css=False,
            elem_id="benchmarks",
        )
