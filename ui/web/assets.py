"""Scripts and styles of the pages."""

from __future__ import annotations

from importlib.resources import files


def read_static(*names: str) -> str:
    """Return the text of files in `static/`, one behind the other."""
    folder = files("rwkvsearch.ui.web") / "static"
    return "\n".join((folder / name).read_text("utf-8") for name in names)
