"""Hits for people, for pipes and for programs: what is asked for, and how it is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.data.files import is_file
from rwkvsearch.data.remote import shown
from rwkvsearch.ui.words import csv_line, printable

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.query import Hit, TextHit

Format = Literal["table", "json", "jsonl", "csv", "paths", "null"]
Hits = Sequence["Hit"] | Sequence["TextHit"]


@dataclass(frozen=True)
class OutputOptions:
    """What becomes of the hits."""

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print a JSON object a line.")] = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False
    as_paths: Annotated[bool, typer.Option("--paths", help="Print paths only.")] = False
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Print paths only, each ended by a NUL.")
    ] = False
    open_hits: Annotated[
        bool, typer.Option("--open", help="Open the hits in the viewer of this computer.")
    ] = False
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with the hits and small pictures."),
    ] = None
    thumbnails: Annotated[
        bool | None,
        typer.Option(
            "--thumbnails/--no-thumbnails",
            help="Small pictures in the table; default: where the terminal can show them.",
        ),
    ] = None

    def check(self, *, texts: bool = False) -> None:
        """Refuse what cannot be done, before anything is searched; `texts`: the hits are texts.

        Raises:
            typer.BadParameter: the options contradict one another.
            RwkvSearchError: thumbnails are asked for, and what draws them is not installed.
        """
        self.format()
        if texts and (self.html or self.open_hits):
            raise typer.BadParameter("--html and --open are for pictures, not for --to text")
        if self.html and self.html.suffix.lower() not in (".html", ".htm"):
            raise typer.BadParameter(f"--html writes a page: name it {self.html}.html")
        if self.thumbnails:
            from rwkvsearch.ui.thumbnails import require

            require()

    def format(self) -> Format:
        """How the hits are written; `typer.BadParameter` if asked for in two ways."""
        asked: dict[Format, bool] = {
            "json": self.as_json,
            "jsonl": self.as_jsonl,
            "csv": self.as_csv,
            "null": self.null,
            "paths": self.as_paths and not self.null,
        }
        names = [name for name, wanted in asked.items() if wanted]
        if len(names) > 1:
            raise typer.BadParameter("give one of --json, --jsonl, --csv and --paths (or -0)")
        return names[0] if names else "table"

    def show(self, hits: Hits, query: dict[str, Any], library: Library) -> None:
        """Write the hits to stdout and as a page, and open them, as asked.

        `query` is what JSON says of the query. Call `check` before searching.
        """
        pictures = [hit for hit in hits if not is_text(hit)]
        if self.html:
            from rwkvsearch.ui.contact_sheet import write_contact_sheet

            write_contact_sheet(self.html, pictures, query, library)
        if self.format() == "table" and pictures and self._with_thumbnails():
            from rwkvsearch.ui.thumbnails import table_with_thumbnails

            for part in table_with_thumbnails(pictures, library):
                typer.echo(part, nl=False)
        else:
            typer.echo(render(hits, query, self.format()), nl=False)
        if self.open_hits:
            open_hits(pictures)

    def _with_thumbnails(self) -> bool:
        if self.thumbnails is False or not sys.stdout.isatty():
            return False
        from rwkvsearch.ui.thumbnails import are_usual

        return self.thumbnails or are_usual()


def render(hits: Hits, query: dict[str, Any], form: Format) -> str:
    """Return the hits, each line or path ended; no hits are no lines.

    Paths of images are the first file's, paths of texts the texts themselves.
    """
    if form in ("paths", "null"):
        end = "\0" if form == "null" else "\n"
        return "".join(f"{hit.text if is_text(hit) else shown(hit.path)}{end}" for hit in hits)
    if form == "json":
        return hits_as_json(query, hits) + "\n"
    if form == "jsonl":
        return "".join(json.dumps(_as_object(hit)) + "\n" for hit in hits)
    if form == "csv":
        return hits_as_csv(hits)
    return hits_as_table(hits) + "\n" if hits else ""


def hits_as_table(hits: Hits) -> str:
    """Return one line a hit; further files of the same content below it."""
    if not hits:
        return ""
    return "\n".join([table_head(is_text(hits[0])), *(line for hit in hits for line in rows(hit))])


def table_head(texts: bool = False) -> str:
    """Return the names of the columns."""
    score = f"{'rank':>4}  {'score':>6}"
    return f"{score}  text" if texts else f"{score}  {'confidence':>10}  path"


def rows(hit: Hit | TextHit) -> list[str]:
    """Return the lines of a hit in the table."""
    first = f"{hit.rank:>4}  {hit.score:>6.3f}"
    if is_text(hit):
        return [f"{first}  {printable(hit.text)}"]
    further = [f"{'':>4}  {'same':>6}  {'':>10}  {printable(path)}" for path in hit.paths[1:]]
    return [f"{first}  {hit.confidence:>10.2f}  {printable(hit.path)}", *further]


def hits_as_json(query: dict[str, Any], hits: Hits) -> str:
    """Return one object: the query, the library's model, and `hits`."""
    return json.dumps(query | {"hits": [_as_object(hit) for hit in hits]}, indent=2)


def hits_as_csv(hits: Hits) -> str:
    """Return a line of names and one a hit, of images with their first file only."""
    names = ["rank", "score", "confidence", "path", "image_id"]
    if hits and is_text(hits[0]):
        names = ["rank", "score", "text"]
    found = [_as_object(hit) for hit in hits]
    return "".join(map(csv_line, [names, *([row[name] for name in names] for row in found)]))


def _as_object(hit: Hit | TextHit) -> dict[str, Any]:
    first = {"rank": hit.rank, "score": round(hit.score, 6)}
    if is_text(hit):
        return first | {"text": hit.text, "image_ids": list(hit.image_ids)}
    return first | {
        "confidence": round(hit.confidence, 6),
        "path": shown(hit.path),
        "image_id": hit.image_id,
        "paths": [shown(path) for path in hit.paths],
        "terms": [round(score, 6) for score in hit.terms],
    }


def is_text(hit: Hit | TextHit) -> TypeIs[TextHit]:
    """Whether a hit is a text."""
    from rwkvsearch.retrieval.query import TextHit

    return isinstance(hit, TextHit)


def open_hits(hits: Sequence[Hit]) -> None:
    """Open each picture in the viewer of this computer, and name those that it cannot open."""
    for hit in hits:
        path = next((path for path in hit.paths if is_file(path)), None)
        if path is None:
            why = "inside a shard, or not there any more; `rwkvsearch export` gets it out"
            typer.echo(f"rwkvsearch: not opened {printable(hit.path)}: {why}", err=True)
        elif typer.launch(str(path)) != 0:
            raise RwkvSearchError(
                f"{printable(path)}: no program to open pictures with (xdg-open) on this computer"
            )
