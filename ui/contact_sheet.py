"""A page with the hits and small pictures, whole in one file: nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.data.files import is_file, replacing
from rwkvsearch.ui.words import counted, printable

if TYPE_CHECKING:
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.query import Hit

SIDE = 360
"""Of the largest thumbnail, in pixels."""

_HEAD = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title} - rwkvsearch</title>
<style>
:root {{ --page: #fafaf8; --card: #fff; --ink: #1d1d1b; --soft: #63635e; --line: #e2e2dc }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #161615; --card: #20201f; --ink: #ececea; --soft: #a3a39c; --line: #363633 }}
}}
* {{ box-sizing: border-box }}
body {{ margin: 0 auto; max-width: 90rem; padding: clamp(1rem, 3vw, 2.5rem);
  background: var(--page); color: var(--ink); font: 1rem/1.45 system-ui, sans-serif }}
h1 {{ margin: 0; font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere }}
header p {{ margin: .3rem 0 1.5rem; color: var(--soft) }}
ol {{ display: grid; gap: 1rem; margin: 0; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)) }}
li {{ display: flex; flex-direction: column; overflow: hidden; background: var(--card);
  border: 1px solid var(--line); border-radius: .6rem }}
.picture {{ display: grid; place-items: center; aspect-ratio: 4 / 3; background: var(--line);
  color: var(--soft); font-size: .85rem; text-align: center; text-decoration: none }}
.picture span {{ padding: .8rem }}
.picture img {{ width: 100%; height: 100%; object-fit: contain }}
.about {{ padding: .7rem .8rem .8rem }}
.figures {{ display: flex; gap: .8rem; margin: 0 0 .3rem; color: var(--soft); font-size: .85rem;
  font-variant-numeric: tabular-nums }}
.figures b {{ color: var(--ink) }}
.path {{ margin: 0; font-size: .8rem; overflow-wrap: anywhere }}
.path + .path {{ margin-top: .25rem; color: var(--soft) }}
a {{ color: inherit }}
a:focus-visible {{ outline: 2px solid currentColor; outline-offset: 2px }}
</style>
<header>
<h1>{title}</h1>
<p>{about}</p>
</header>
<main>
<ol>
"""


def write_contact_sheet(
    path: Path, hits: Sequence[Hit], query: dict[str, Any], library: Library
) -> None:
    """Write the page to `path`, replaced whole or not at all.

    Its title is the `query`, `image` or both of `query`. A picture that cannot be read has its
    reason in its place.

    Raises:
        RwkvSearchError: it cannot be written.
    """
    try:
        with replacing(path) as file:
            for part in contact_sheet(hits, query, library):
                file.write(part.encode())
    except OSError as error:
        raise RwkvSearchError(f"cannot write {printable(path)}: {error.strerror}") from error


def contact_sheet(hits: Sequence[Hit], query: dict[str, Any], library: Library) -> Iterator[str]:
    """Give the page in parts, one picture decoded at a time."""
    asked = [str(query[name]) for name in ("query", "image") if query.get(name)]
    model = f", {query['model']}" if query.get("model") else ""
    about = f"{counted(len(hits), 'picture')}{model}"
    yield _HEAD.format(title=_text(" + ".join(asked) or "Pictures"), about=_text(about))
    for hit in hits:
        yield _card(hit, library)
    yield "</ol>\n</main>\n</html>\n"


def _card(hit: Hit, library: Library) -> str:
    breaking = {path: _text(path).replace("/", "/<wbr>") for path in hit.paths}
    files = "\n".join(
        f'<p class="path">{_linked(path, text)}</p>' for path, text in breaking.items()
    )
    return (
        f"<li>\n{_linked(hit.path, _picture(hit, library), 'picture')}\n"
        f'<div class="about">\n<p class="figures"><b>{hit.rank}</b>'
        f"<span>score {hit.score:.3f}</span><span>confidence {hit.confidence:.2f}</span></p>\n"
        f"{files}\n</div>\n</li>\n"
    )


def _picture(hit: Hit, library: Library) -> str:
    try:
        data = base64.b64encode(_thumbnail(hit, library)).decode()
    except RwkvSearchError as error:
        return f"<span>{_text(str(error))}</span>"
    return f'<img src="data:image/jpeg;base64,{data}" alt="{_text(hit.path.name)}">'


def _thumbnail(hit: Hit, library: Library) -> bytes:
    """JPEG."""
    from rwkvsearch.data.images import read_image

    with library.open_image(hit.image_id) as stream:
        image = read_image(stream, min_side=SIDE // 2)
    image.thumbnail((SIDE, SIDE))
    small = io.BytesIO()
    image.save(small, "JPEG", quality=80, optimize=True)
    return small.getvalue()


def _linked(path: Path, content: str, kind: str = "") -> str:
    """The content as a link to the file; without one where no file can be opened, as in a shard."""
    name = f' class="{kind}"' if kind else ""
    if not is_file(path):
        return f"<span{name}>{content}</span>" if kind else content
    return f'<a{name} href="{escape(path.absolute().as_uri())}">{content}</a>'


def _text(text: Path | str) -> str:
    return escape(printable(text))
