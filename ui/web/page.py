"""All pages as one Gradio app, in one look."""

from __future__ import annotations

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from fastapi import FastAPI

from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web import benchmarks, duplicates, health, search
from rwkvsearch.ui.web import map as map_page
from rwkvsearch.ui.web.assets import read_static

FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
THEME = gr.themes.Base(
    primary_hue="indigo",
    neutral_hue="slate",
    font=FONTS,
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
)


def build(service: Service) -> gr.Blocks:
    """Return the pages of a server."""
    with gr.Blocks(title="rwkvsearch", analytics_enabled=False, fill_width=True) as pages:
        gr.Navbar(main_page_name="Search")
        search.add(pages, service)
    for page in (map_page, duplicates, health, benchmarks):
        page.add(pages, service)
    pages.queue(api_open=False)
    return pages


def mount(app: FastAPI, pages: gr.Blocks) -> FastAPI:
    """Put the pages at the root of `app`, behind all routes that it has already."""
    return gr.mount_gradio_app(
        app,
        pages,
        path="/",
        footer_links=[],
        ssr_mode=False,
        show_error=False,
        run_history=False,
        pwa=False,
        enable_monitoring=False,
        theme=THEME,
        css=read_static("page.css"),
    )
