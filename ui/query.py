"""`rwkvsearch query`: what is asked on the command line, and the answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import typer

from rwkvsearch.data.errors import ImageError, LibraryError, QueryError
from rwkvsearch.indexer.address import Place
from rwkvsearch.retrieval.models import Precision
from rwkvsearch.ui.filtering import FilterOptions
from rwkvsearch.ui.options import (
    AnnOption,
    DeviceOption,
    LibraryOption,
    ModelOption,
    PrecisionOption,
    flat,
    library_folder,
)
from rwkvsearch.ui.results import OutputOptions

if TYPE_CHECKING:
    from rwkvsearch.retrieval.engine import SearchEngine
    from rwkvsearch.retrieval.query import Hit, Query, Term

_LONGEST_STEM = 50
"""Characters of a name that is kept: four bytes each leave room in the 255 of a file system."""


@dataclass(frozen=True)
class AskOptions:
    """What is looked for."""

    text: Annotated[
        str | None,
        typer.Argument(help='What the picture shows: "a dog", "2:dog + ./beach.jpg - snow".'),
    ] = None
    image: Annotated[
        list[str] | None,
        typer.Option(help="A picture like those wanted: a file, a URL, or - for standard input."),
    ] = None
    clipboard: Annotated[
        bool, typer.Option("--clipboard", help="The picture in the clipboard.")
    ] = False
    crop: Annotated[
        str | None,
        typer.Option(help="Only this part of the picture: LEFT,TOP,RIGHT,BOTTOM, such as 0,0,1,.5"),
    ] = None
    also: Annotated[
        list[str] | None,
        typer.Option("--and", help="This has to hold as well: words, or a picture as ./FILE."),
    ] = None
    without: Annotated[
        list[str] | None,
        typer.Option("--not", help="Turn away from this: words, or a picture as ./FILE."),
    ] = None
    plain: Annotated[
        bool, typer.Option("--plain", help="Take the words as they are: no +, - or weights.")
    ] = False

    def terms(self) -> tuple[Term, ...]:
        """The terms of the query, pictures that are no files already read.

        Raises:
            typer.BadParameter: nothing is asked for.
            QueryError: the query makes no sense.
        """
        from rwkvsearch.retrieval.grammar import parse, parse_term
        from rwkvsearch.retrieval.query import Term

        pictures = [*(self.image or ()), *(["clipboard"] if self.clipboard else [])]
        if self.text is None and not pictures and not self.also:
            raise typer.BadParameter("give words, --image FILE, or both")
        if self.crop and len(pictures) != 1:
            raise typer.BadParameter("--crop needs exactly one --image")
        terms: list[Term] = []
        if self.text is not None and self.plain:
            terms += [Term(self.text)]
        elif self.text is not None:
            terms += parse(self.text)
        terms += [self._picture(where) for where in self.image or ()]
        terms += [self._picture(None)] if self.clipboard else []
        terms += [parse_term(text) for text in self.also or ()]
        return (*terms, *(parse_term(text, "-") for text in self.without or ()))

    def _picture(self, where: str | None) -> Term:
        from rwkvsearch.data.files import expanded
        from rwkvsearch.retrieval.query import Term
        from rwkvsearch.ui.pictures import is_address, parse_crop, read_clipboard, read_given

        crop = parse_crop(self.crop) if self.crop else None
        if where is None:
            return Term(image=read_clipboard(), crop=crop)
        if where == "-" or is_address(where):
            return Term(image=read_given(where), crop=crop)
        return Term(path=expanded(where), crop=crop)


@dataclass(frozen=True)
class KeptOptions:
    """How much of the answer, whichever page of it; an album keeps these."""

    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Number of hits.")] = 10
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Only hits with at least this confidence.")
    ] = 0.0
    diverse: Annotated[
        bool, typer.Option("--diverse", help="Of a burst or of near copies only the best.")
    ] = False


@dataclass(frozen=True)
class HowManyOptions(KeptOptions):
    """How much of the answer, and which page."""

    offset: Annotated[int, typer.Option(min=0, help="Pass over so many of the best hits.")] = 0


@dataclass(frozen=True)
class EngineOptions:
    """Where it is looked for, and by which model."""

    library: LibraryOption = None
    model: ModelOption = None
    device: DeviceOption = None
    precision: PrecisionOption = None
    ann: AnnOption = None


class Engines(Protocol):
    """What lends engines to commands: a daemon keeps them open from one to the next."""

    def engine(
        self,
        place: Place,
        model: str | None,
        device: str | None,
        precision: Precision | None,
        ann: str | None,
    ) -> AbstractContextManager[SearchEngine]:
        """An engine, for the time of a `with` statement."""


@contextmanager
def open_engine(ctx: typer.Context, options: EngineOptions) -> Iterator[SearchEngine]:
    """Give the engine that the options name: one that is kept open, else a new one."""
    from rwkvsearch.indexer.cluster.address import is_of_one_process
    from rwkvsearch.retrieval.engine import SearchEngine

    place = library_folder(options.library)
    engines: Engines | None = ctx.obj
    if engines is not None and not is_of_one_process(options.ann):
        with engines.engine(
            place, options.model, options.device, options.precision, options.ann
        ) as engine:
            yield engine
        return
    with SearchEngine.open(
        place,
        model=options.model,
        device=options.device,
        precision=options.precision,
        ann=options.ann,
        once=True,
    ) as engine:
        yield engine


def to_query(ask: AskOptions, many: HowManyOptions, filters: FilterOptions) -> Query:
    """Return what the options ask for; `QueryError` or `typer.BadParameter` if nothing can be."""
    from rwkvsearch.retrieval.query import Query

    return Query(
        ask.terms(),
        every=bool(ask.also),
        filters=filters.filters(),
        k=many.k,
        offset=many.offset,
        min_confidence=many.min_confidence,
        diverse=many.diverse,
    )


@flat
def query(
    ctx: typer.Context,
    ask: AskOptions,
    many: HowManyOptions,
    filters: FilterOptions,
    output: OutputOptions,
    where: EngineOptions,
    to: Annotated[
        Literal["image", "text"], typer.Option(help="What is looked for: pictures or texts.")
    ] = "image",
    captions: Annotated[
        Path | None,
        typer.Option(help="With --to text: a file of texts, one a line, instead of the library's."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how the query was understood, on stderr.")
    ] = False,
    why: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each hit with a heat map of what fits into DIR."),
    ] = None,
    daemon: Annotated[
        bool, typer.Option("--daemon", help="Keep a program warm for this and further queries.")
    ] = False,
) -> None:
    """Find pictures by words, by pictures, or both.

    Terms are joined by " + " and " - ", with spaces around; a number before a term is its weight, a
    term that begins with ./ ../ / or ~/ is a picture: "2:dog + ./beach.jpg - snow".
    """
    if daemon and ctx.obj is None:
        from rwkvsearch.ui.daemon_client import hand_over

        hand_over()
    output.check(texts=to == "text")
    if captions and to != "text":
        raise typer.BadParameter("--captions is for --to text")
    if why and to == "text":
        raise typer.BadParameter("--why is for pictures, not for --to text")
    asked = to_query(ask, many, filters)
    corpus = read_corpus(captions) if captions else None
    with open_engine(ctx, where) as engine:
        if explain:
            typer.echo(explained(engine, asked), err=True)
        if to == "text":
            output.show(engine.texts(asked, corpus), facts(engine, ask, asked), engine.library)
            return
        hits = engine.run(asked)
        output.show(hits, facts(engine, ask, asked), engine.library)
        if why:
            write_reasons(engine, asked, hits, why)
    if line := doubt(asked, hits):
        typer.echo(f"rwkvsearch: {line}", err=True)


def read_corpus(file: Path) -> list[str]:
    """Return the texts in a file, one a line; `QueryError` if there are none."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"{file}: cannot be read as text: {error}") from error
    texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not texts:
        raise QueryError(f"{file}: no texts in it: write one a line")
    return texts


def facts(engine: SearchEngine, ask: AskOptions, query: Query) -> dict[str, Any]:
    """Return what JSON says of a query."""
    from rwkvsearch.retrieval.grammar import unparse

    return {
        "query": ask.text,
        "image": ask.image[0] if ask.image else None,
        "terms": unparse(query.terms),
        "model": engine.encoder.model_id,
    }


def doubt(query: Query, hits: list[Hit]) -> str | None:
    """Return what has to be said about the hits, None if nothing."""
    from rwkvsearch.retrieval.confidence import LIKELY

    if query.offset:  # the best ones were on a page before
        return None if hits else f"there are not more than {query.offset:,} hits"
    if hits:
        best = max(hit.confidence for hit in hits)
        among = "those that pass the filters" if query.filters else "the library"
        doubtful = f"no confident match: the best of {among} is at {best:.2f}"
        return doubtful if best < LIKELY else None
    if query.min_confidence:
        return f"no picture reaches a confidence of {query.min_confidence:g}"
    if query.filters:
        return "no picture passes these filters"
    return "none of the pictures in the library is there any more"


def explained(engine: SearchEngine, query: Query) -> str:
    """Return how a query was understood, one fact a line."""
    from rwkvsearch.indexer.filters import filters_to_json

    lines = [
        f"{'is not' if term.weight < 0 else 'is':<8}{abs(term.weight):>5g} x "
        f"{'words  ' if term.text else 'picture'} {term.name!r}"
        for term in query.terms
    ]
    lines += ["all of them have to hold: the weakest counts"] if query.every else []
    if query.filters:
        given = filters_to_json(query.filters)
        lines.append(f"only    {', '.join(f'{name} {value}' for name, value in given.items())}")
    return "\n".join([*lines, f"model   {engine.encoder.model_id}", f"search  {engine.how}"])


def write_reasons(engine: SearchEngine, query: Query, hits: list[Hit], folder: Path) -> None:
    """Write each hit with its heat map into `folder`, and say in words what contributed what."""
    from rwkvsearch.data.files import replacing
    from rwkvsearch.ui.words import printable

    if folder.exists() and not folder.is_dir():
        raise QueryError(f"{folder} is no folder: --why writes a picture for each hit into one")
    folder.mkdir(parents=True, exist_ok=True)
    faults = 0
    for hit in hits:
        try:
            picture, words = engine.why(query, hit)
        except (LibraryError, ImageError) as error:
            typer.echo(f"rwkvsearch: {printable(str(error))}", err=True)
            faults += 1
            continue
        file = folder / f"{hit.rank:03} {hit.path.stem[:_LONGEST_STEM]}.jpg"
        with replacing(file) as stream:
            picture.save(stream, "JPEG", quality=90)
        typer.echo(f"{hit.rank:>4}  {words}\n      {printable(file)}", err=True)
    if faults:
        raise typer.Exit(1)
