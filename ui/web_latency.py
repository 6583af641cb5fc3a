"""How quick a server is, in a browser and under load: `python -m rwkvsearch.ui.web_latency`.

Starts `rwkvsearch serve` on a copy of the library. In chromium: the page, and the time from Enter
to the first row of thumbnails, their files made in that moment or before. Then the API, asked by
1, 8 and 32 clients. What can be compared are the ratios of one run; the time of the server's
processor is changed less by other work on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rwkvsearch.ui.web_browser import asked, browser
from rwkvsearch.ui.web_library import enlarge
from rwkvsearch.ui.web_load import quantiles
from rwkvsearch.ui.web_server import Server, served, slope

SAMPLES = Path(__file__).parents[1] / "data" / "samples" / "photos"
_WORDS = "dog beach car snow child river street horse ball night".split()
_numbers = count()

Row = dict[str, Any]


def main() -> None:
    """Print what is measured, one line each, as it is measured."""
    asked_for = argparse.ArgumentParser(
        prog="python -m rwkvsearch.ui.web_latency", description=__doc__
    )
    asked_for.add_argument("library", type=Path, help="of 8,000 pictures, say; it is copied")
    asked_for.add_argument("--rows", type=int, default=0, help="enlarge it to so many first")
    asked_for.add_argument("--pictures", type=Path, default=SAMPLES, help="what --rows consists of")
    asked_for.add_argument("--queries", type=int, default=30, help="in the browser; 0: no browser")
    asked_for.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32])
    asked_for.add_argument("--seconds", type=float, default=5, help="of each load")
    asked_for.add_argument("--minutes", type=float, default=0, help="of a mixed load at the end")
    asked_for.add_argument("--json", action="store_true", help="one object a line")
    options = asked_for.parse_args()
    with TemporaryDirectory(prefix="rwkvsearch-", dir=options.library.absolute().parent) as name:
        os.environ["RWKVSEARCH_HOME"] = str(Path(name) / "home")
        for row in measured(options, Path(name)):
            sys.stdout.write((json.dumps(row) if options.json else as_line(row)) + "\n")
            sys.stdout.flush()


def measured(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Everything, as rows with `what` and its figures."""
    yield {"what": "machine", "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    pictures = sorted(path for path in options.pictures.rglob("*.jpg"))
    if options.rows:
        library = enlarge(options.library, folder, options.rows, _copied(pictures, folder))
    else:
        library = folder / "library"
        shutil.copytree(options.library, library, ignore=shutil.ignore_patterns("thumbs"))
    with served(library) as server:
        if options.queries:
            yield from in_browser(server, options.queries)
        for clients in options.clients:
            for kind in ("known", "new", "thumb", "mixed"):
                yield under_load(server, kind, clients, options.seconds, pictures[0])
        if options.minutes:
            yield for_long(server, options.minutes, max(options.clients), pictures[0])
        yield {"what": "machine", "load": round(os.getloadavg()[0], 1)}


def in_browser(server: Server, queries: int) -> Iterator[Row]:
    """The page, then words that are new or known, with thumbnails that are there or not."""
    with browser(server.address) as page:
        loaded = page.load()
        yield {"what": "page", "ms": round(loaded.milliseconds), "requests": loaded.requests} | {
            "megabytes": round(loaded.bytes / 1e6, 2)
        }
        page.ask(_new())
        cold = [_new() for _ in range(queries)]
        yield from _stages("new words, thumbnails not made", asked(page, cold))
    with browser(server.address) as page:  # another: this one has the pictures in its memory
        page.load()
        page.ask(cold[-1])
        yield from _stages("known words, thumbnails made", asked(page, cold))
    with browser(server.address) as page:
        page.load()
        page.ask(cold[-1])
        near = [f"{words} " for words in cold]  # other words to the cache, the same hits or nearly
        yield from _stages("new words, thumbnails made", asked(page, [f"{one}." for one in near]))


def under_load(server: Server, kind: str, clients: int, seconds: float, picture: Path) -> Row:
    """So many clients that ask for one kind of thing."""
    command = [sys.executable, "-m", "rwkvsearch.ui.web_load", server.address, "--kind", kind]
    command += ["--clients", str(clients), "--seconds", str(seconds), "--picture", str(picture)]
    before = server.processor()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Row = json.loads(done.stdout)
    each = 1000 * (server.processor() - before) / max(1, found["requests"])
    found |= {"processor_ms": round(each, 1), "megabytes": round(server.megabytes())}
    return {"what": f"{kind}, {clients} clients", **found}


def for_long(server: Server, minutes: float, clients: int, picture: Path) -> Row:
    """A mixed load, and whether memory grows."""
    with server.watched():
        row = under_load(server, "mixed", clients, 60 * minutes, picture)
    sizes = [megabytes for _, megabytes in server.memory]
    said = {"least": round(min(sizes)), "most": round(max(sizes)), "last": round(sizes[-1])}
    return (
        row
        | {"what": f"{row['what']}, long", "memory": said}
        | {
            "megabytes_a_minute": round(slope(server.memory), 2),
            "load": round(os.getloadavg()[0], 1),
        }
    )


def as_line(row: Row) -> str:
    """A row for people."""
    said = {key: value for key, value in row.items() if key != "what"}
    return f"{row['what']:<46}" + ", ".join(f"{key} {_said(one)}" for key, one in said.items())


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_said(one)}" for key, one in value.items()) or "none"
    return f"{value}"


def _stages(what: str, found: dict[str, list[float]]) -> Iterator[Row]:
    for stage, milliseconds in found.items():
        yield {"what": f"{what}: {stage}", **quantiles(milliseconds)}


def _new() -> str:
    number = next(_numbers)
    return f"a {_WORDS[number % 10]} and a {_WORDS[number // 10 % 10]} in picture {number}"


def _copied(pictures: Sequence[Path], folder: Path) -> list[Path]:
    """The pictures where hard links can be made to them."""
    place = folder / "originals"
    place.mkdir()
    return [Path(shutil.copy(picture, place)) for picture in pictures]


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch and faiss are imported
    main()
