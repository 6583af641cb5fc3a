"""`rwkvsearch export`: the hits of a query as files in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rwkvsearch.ui.exchange import export_embeddings
from rwkvsearch.ui.filtering import FilterOptions
from rwkvsearch.ui.options import flat
from rwkvsearch.ui.query import AskOptions, EngineOptions, HowManyOptions, open_engine, to_query


@flat
def export(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    ask: AskOptions,
    many: HowManyOptions,
    filters: FilterOptions,
    where: EngineOptions,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files; the default.")] = False,
    symlink: Annotated[bool, typer.Option("--symlink", help="Link to the files.")] = False,
    to: Annotated[
        Literal["files", "embeddings"],
        typer.Option(help="embeddings: those of all pictures, as clip-retrieval keeps them."),
    ] = "files",
) -> None:
    """Put the hits of a query into a folder, named by rank: `001 beach.jpg`.

    Nothing is overwritten. Members of tar shards are copied out in either case. With `--to
    embeddings` no query is asked: all pictures go out, as numbers, for `rwkvsearch import` or
    clip-retrieval.
    """
    if copy and symlink:
        raise typer.BadParameter("give either --copy or --symlink")
    if to == "embeddings":
        if ask.text or ask.image or copy or symlink:
            raise typer.BadParameter("--to embeddings takes no query, --copy or --symlink")
        export_embeddings(folder, where)
        return

    from rwkvsearch.ui.export import export_hits
    from rwkvsearch.ui.render import counting
    from rwkvsearch.ui.words import counted, printable

    query = to_query(ask, many, filters)
    with open_engine(ctx, where) as engine:
        hits = engine.run(query)
        with counting(len(hits)) as progress:
            done = export_hits(
                hits, engine.library, folder, "symlink" if symlink else "copy", progress
            )
    for fault in done.faults:
        typer.echo(f"rwkvsearch: {fault}", err=True)
    copied = f", {counted(done.extracted, 'file')} out of shards" if done.extracted else ""
    typer.echo(f"{counted(len(done.files), 'file')}{copied} in {printable(folder)}", err=True)
    if done.faults:
        raise typer.Exit(1)
