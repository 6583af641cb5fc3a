"""Pages beside the search page, with the same navigation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr


def navigation() -> None:
    """Put the links to all pages at the top of the one within whose block this is called."""
    gr.Navbar(main_page_name="Search")


@contextmanager
def page(pages: gr.Blocks, name: str, path: str) -> Iterator[None]:
    """Add a page; what is made within the `with` statement stands on it."""
    with pages.route(name, path):
        navigation()
        yield
