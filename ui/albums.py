"""`rwkvsearch album`: queries that are kept under a name, and asked anew each time."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkvsearch.ui.filtering import FilterOptions
from rwkvsearch.ui.options import JsonOption, LibraryOption, flat, library_folder
from rwkvsearch.ui.query import (
    AskOptions,
    EngineOptions,
    HowManyOptions,
    KeptOptions,
    open_engine,
    to_query,
)
from rwkvsearch.ui.results import OutputOptions

if TYPE_CHECKING:
    from rwkvsearch.indexer.albums import Album
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.query import Query

album_app = typer.Typer(no_args_is_help=True, help="Keep queries, ask them again, vote on hits.")

NameArgument = Annotated[str, typer.Argument(help="Name of the album.", show_default=False)]


@dataclass(frozen=True)
class VoteOptions:
    """What the owner says of the hits; kept with the album."""

    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE", help="This one is right: an image id or a path. Repeatable; kept."
        ),
    ] = None
    dislike: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="This one is wrong: it is not shown again."),
    ] = None
    forget_votes: Annotated[
        bool, typer.Option("--forget-votes", help="Forget all votes given so far.")
    ] = False


@album_app.command("save")
@flat
def album_save(
    name: NameArgument,
    ask: AskOptions,
    many: KeptOptions,
    filters: FilterOptions,
    where: EngineOptions,
    replace_it: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of an album of that name.")
    ] = False,
    *,
    ctx: typer.Context,
) -> None:
    """Keep a query, with all that `rwkvsearch query` takes, under a name.

    Pictures are kept by their path; one that is no file, as the model sees it.
    """
    from rwkvsearch.indexer.albums import save_album
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.query_json import query_to_json, without_pictures
    from rwkvsearch.ui.words import printable

    how_many = HowManyOptions(many.k, many.min_confidence, many.diverse)
    query = to_query(ask, how_many, filters)
    _check(query)
    if any(term.image is not None for term in query.terms):
        with open_engine(ctx, where) as engine:
            query = without_pictures(query, engine.encoder.encode_images)
            kept = query_to_json(query, engine.encoder.model_id)
    else:
        kept = query_to_json(query)
    with Library.open(library_folder(where.library)) as library:
        save_album(library, name, kept, replace=replace_it)
    typer.echo(f"saved {printable(name)}: {printable(described(query))}")


@album_app.command("show")
@flat
def album_show(
    name: NameArgument,
    k: Annotated[
        int | None, typer.Option("--k", "-k", min=1, help="Number of hits; default: as saved.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Pass over so many of the best hits.")] = 0,
    *,
    ctx: typer.Context,
    votes: VoteOptions,
    output: OutputOptions,
    where: EngineOptions,
) -> None:
    """Ask the query of an album anew, turned towards what was liked and away from the rest."""
    from rwkvsearch.indexer.albums import forget_votes, read_album, vote
    from rwkvsearch.retrieval.grammar import unparse
    from rwkvsearch.retrieval.query_json import query_from_json
    from rwkvsearch.ui.query import doubt

    output.check()
    with open_engine(ctx, where) as engine:
        library = engine.library
        query = query_from_json(read_album(library, name).query, engine.encoder.model_id)
        right, wrong = _images(library, votes.like), _images(library, votes.dislike)
        if votes.forget_votes:
            forget_votes(library, name)
        if right or wrong:
            vote(library, name, right, wrong)
        album = read_album(library, name)
        liked, disliked = album.liked, album.disliked
        query = replace(query, k=k or query.k, offset=offset, liked=liked, disliked=disliked)
        hits = engine.run(query)
        votes_given = {"liked": liked, "disliked": disliked}
        facts = {"album": name, "terms": unparse(query.terms), "model": engine.encoder.model_id}
        output.show(hits, facts | votes_given, library)
    if line := doubt(query, hits):
        typer.echo(f"rwkvsearch: {line}", err=True)


@album_app.command("list")
def album_list(library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """List the albums with their queries and votes."""
    from rwkvsearch.indexer.albums import read_albums
    from rwkvsearch.indexer.library import Library

    with Library.open(library_folder(library)) as opened:
        albums = read_albums(opened)
    if as_json:
        typer.echo(json.dumps({"albums": [as_object(album) for album in albums]}, indent=2))
    elif albums:
        typer.echo(albums_as_table(albums))
    else:
        typer.echo("rwkvsearch: no albums; make one with `rwkvsearch album save`", err=True)


@album_app.command("delete")
def album_delete(name: NameArgument, library: LibraryOption = None) -> None:
    """Forget an album and its votes; no picture is touched."""
    from rwkvsearch.indexer.albums import delete_album
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.words import printable

    with Library.open(library_folder(library)) as opened:
        delete_album(opened, name)
    typer.echo(f"deleted {printable(name)}")


@album_app.command("rename")
def album_rename(
    name: NameArgument,
    new: Annotated[str, typer.Argument(help="Its new name.", show_default=False)],
    library: LibraryOption = None,
) -> None:
    """Give an album another name."""
    from rwkvsearch.indexer.albums import rename_album
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.words import printable

    with Library.open(library_folder(library)) as opened:
        rename_album(opened, name, new)
    typer.echo(f"renamed {printable(name)} to {printable(new)}")


def albums_as_table(albums: list[Album]) -> str:
    """Return one line an album: its votes, its name, what it asks."""
    from rwkvsearch.ui.words import printable

    width = max(len("name"), *(len(printable(album.name)) for album in albums))
    lines = [f"{'liked':>5}  {'disliked':>8}  {'name':<{width}}  query"]
    for album in albums:
        votes = f"{len(album.liked):>5}  {len(album.disliked):>8}"
        lines.append(f"{votes}  {printable(album.name):<{width}}  {printable(words_of(album))}")
    return "\n".join(lines)


def described(query: Query) -> str:
    """Return a query on one line: its terms, then what differs from the usual."""
    from rwkvsearch.indexer.filters import filters_to_json
    from rwkvsearch.retrieval.grammar import unparse

    parts = [unparse(query.terms)]
    parts += ["all have to hold"] if query.every else []
    for name, value in filters_to_json(query.filters).items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        parts.append(f"{name.replace('_', ' ')} {shown}")
    if query.min_confidence:
        parts.append(f"confidence at least {query.min_confidence:g}")
    return "; ".join([*parts, *(["diverse"] if query.diverse else [])])


def words_of(album: Album) -> str:
    """Return what an album asks on one line, or in brackets why nobody knows."""
    from rwkvsearch.data.errors import QueryError
    from rwkvsearch.retrieval.query_json import query_from_json

    try:
        return described(query_from_json(album.query))
    except QueryError as error:
        return f"({error})"


def as_object(album: Album) -> dict[str, Any]:
    """Return what JSON says of an album; a damaged query is the text that it is."""
    query = album.query
    with suppress(ValueError):
        query = json.loads(album.query)
    return {
        "name": album.name,
        "query": query,
        "liked": list(album.liked),
        "disliked": list(album.disliked),
        "created_at": datetime.fromtimestamp(album.created_at, UTC).isoformat(),
    }


def _check(query: Query) -> None:
    """Refuse to keep what cannot be asked."""
    from rwkvsearch.data.errors import QueryError
    from rwkvsearch.data.files import is_file

    for term in query.terms:
        if term.path is not None and not is_file(term.path):
            raise QueryError(f"{term.path}: no such file")
        if term.path is None and term.image is None and not term.text.strip():
            raise QueryError("the query is empty: describe what the picture shows")


def _images(library: Library, given: list[str] | None) -> list[int]:
    """The image ids that are voted on, by id or by path."""
    from rwkvsearch.data.errors import LibraryError
    from rwkvsearch.data.files import expanded
    from rwkvsearch.indexer.places import images_at

    paths = {text: expanded(text) for text in given or () if not _is_id(text)}
    there = images_at(library, paths.values())
    if lost := [text for text, path in paths.items() if path not in there]:
        raise LibraryError(f"{lost[0]}: no picture of the library; name a path or an image id")
    return [there[paths[text]] if text in paths else int(text) for text in given or ()]


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 18  # more digits than SQLite counts to are no id
