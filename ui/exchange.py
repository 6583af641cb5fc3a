"""Embeddings out of a library and into it: `export --to embeddings` and `import`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.ui.options import (
    LibraryOption,
    MegabytesOption,
    MegapixelsOption,
    WorkersOption,
    library_folder,
)
from rwkvsearch.ui.stopping import stoppable

if TYPE_CHECKING:
    from rwkvsearch.indexer.exchange.read import Imported
    from rwkvsearch.ui.query import EngineOptions


def export_embeddings(folder: Path, where: EngineOptions) -> None:
    """Write the embeddings of all pictures, as clip-retrieval keeps them."""
    from rwkvsearch.indexer.exchange.write import model_named, write_embeddings
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.render import counting
    from rwkvsearch.ui.words import counted, printable

    with Library.open(library_folder(where.library)) as library:
        model = model_named(library, where.model, where.precision)
        with stoppable("stopped; nothing was exported"), counting(model.embeddings) as advance:
            done = [0]

            def progress(now: int, _total: int) -> None:
                advance(now - done[0])
                done[0] = now

            number = write_embeddings(library, model, folder, progress)
    typer.echo(
        f"{counted(number, 'embedding')} of {model.model_id} in {printable(folder)}", err=True
    )


def import_embeddings(
    folder: Annotated[
        Path, typer.Argument(help="Where img_emb/ and metadata/ are, as clip-retrieval writes it.")
    ],
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders, pictures or .tar shards that were embedded; default: the paths in the "
            "metadata."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="What made the embeddings, such as ViT-B/32; ours say it themselves."),
    ] = None,
    library: LibraryOption = None,
    workers: WorkersOption = None,
    max_megapixels: MegapixelsOption = 128.0,
    max_megabytes: MegabytesOption = 1024.0,
) -> None:
    """Bring pictures into the library with embeddings that were computed elsewhere.

    Each picture is read once, for its content and size; no model runs. Words and pictures are
    compared with the embeddings of a model that `rwkvsearch model list` knows; those of other
    models serve `dupes`, the map and `export`.
    """
    from rwkvsearch.data.remote import absolute
    from rwkvsearch.indexer.exchange.read import Given, read_embeddings
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.indexer.prepare import Limits
    from rwkvsearch.indexer.sync import SyncOptions
    from rwkvsearch.ui.render import SyncProgress, report_as_text

    limits = Limits(max_megapixels, int(max_megabytes * (1 << 20)))
    options = SyncOptions(limits=limits, workers=workers)
    roots = [absolute(path) for path in pictures or ()]
    given = Given.open(folder, model)
    with Library.create(library_folder(library)) as opened:
        with (
            stoppable("stopped; what is done is kept, run the same command to go on"),
            closing(SyncProgress()) as progress,
        ):
            done = read_embeddings(opened, given, roots, options, progress)
        typer.echo(report_as_text(done.report, opened.name))
        typer.echo(_summary(done))


def _summary(done: Imported) -> str:
    from rwkvsearch.retrieval.models import known_models
    from rwkvsearch.ui.words import counted

    name = done.origin.model_id
    lines = [f"{counted(done.rows, 'embedding')} of {name}, {done.found:,} of them new here"]
    if not any(name.startswith(f"{known}-") for known in known_models()):
        lines.append(
            f"{name} is no model of rwkvsearch: no words or other pictures can be compared with "
            "these; `dupes`, the map and `export` use them"
        )
    return "\n".join(lines)
