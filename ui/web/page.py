"""All pages as one Gradio app, in one look."""

from __future__ import annotations

import os
import warnings

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from fastapi import FastAPI

from rwkvsearch.ui.api.service import Service
from rwkvsearch.ui.web import benchmarks, duplicates, health, search, tools
from rwkvsearch.ui.web import map as map_page
from rwkvsearch.ui.web.assets import read_static
from rwkvsearch.ui.web.navigation import navigation

_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]


def build(service: Service) -> gr.Blocks:
    """Return the pages of a server."""
    with gr.Blocks(title="rwkvsearch", analytics_enabled=False, fill_width=True) as pages:
        navigation()
        search.add(pages, service)
        tools.add(service)
    for other in (map_page, duplicates, health, benchmarks):
        other.add(pages, service)
    pages.queue(api_open=False)
    return pages


def mount(app: FastAPI, pages: gr.Blocks) -> FastAPI:
    """Put the pages at the root of `app`, behind all routes that it has already."""
    look = gr.themes.Base(primary_hue="indigo", neutral_hue="slate", font=_FONTS, font_mono=_MONO)
    look.set(  # readable: 4.5 to 1 at least
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
    )
    with warnings.catch_warnings():  # several pages exclude what is switched off anyway
        warnings.filterwarnings("ignore", "SSR mode")
        gr.mount_gradio_app(
            app,
            pages,
            path="/",
            footer_links=[],
            ssr_mode=False,
            show_error=False,
            mcp_server=tools.are_there(),
            run_history=False,
            pwa=False,
            enable_monitoring=False,
            theme=look,
            css=read_static("page.css"),
        )
    return app
