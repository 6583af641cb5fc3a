"""`rwkvsearch index`, `forget` and `relocate`: what the library holds."""

import os
import sys
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.data.errors import DataError
from rwkvsearch.data.remote import absolute, is_remote
from rwkvsearch.indexer.address import Place, exists
from rwkvsearch.ui.options import (
    AnnOption,
    DeviceOption,
    FollowLinksOption,
    LibraryOption,
    MegabytesOption,
    MegapixelsOption,
    ModelOption,
    NiceOption,
    PrecisionOption,
    WorkersOption,
    flat,
    library_folder,
)
from rwkvsearch.ui.ray_options import RayOptions, embedding_on
from rwkvsearch.ui.stopping import stoppable
from rwkvsearch.ui.unattended import Record, UnattendedOptions

if TYPE_CHECKING:
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.indexer.protocols import SyncReport
    from rwkvsearch.indexer.sync import MakeEmbedding, SyncOptions
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.models import Precision

Captions = dict[Path, tuple[str, ...]]

_STOPPED = "stopped; what is done is kept, run the same command to go on"


@flat
def index(
    ray: RayOptions,
    unattended: UnattendedOptions,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders, pictures, .tar shards, a Karpathy or COCO .json, or - for paths on "
            "stdin; default: everything that was indexed before."
        ),
    ] = None,
    library: LibraryOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    ann: AnnOption = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of .gitignore to leave out in this run; repeatable."),
    ] = None,
    follow_links: FollowLinksOption = False,
    workers: WorkersOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures encoded at once.")] = 64,
    max_megapixels: MegapixelsOption = 128.0,
    max_megabytes: MegabytesOption = 1024.0,
    thumbnails: Annotated[
        bool,
        typer.Option("--thumbnails", help="Then make the small pictures that `serve` shows."),
    ] = False,
    nice: NiceOption = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Only predict time and space, out of 200 files; writes nothing."
        ),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print the time of each stage and the bottleneck.")
    ] = False,
) -> None:
    """Bring the library up to date with folders of pictures.

    Only what is new is read: a picture that was moved, renamed, copied or came back costs nothing.
    A picture that cannot be used is named with its reason and skipped. What a .rwkvsearchignore
    file names stays out. Stop with Ctrl-C at any time: what is done is kept, and the next run goes
    on from there.
    """
    if nice:
        os.nice(19)  # of this thread alone: all others, of torch too, start later and take it over
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.indexer.prepare import Limits
    from rwkvsearch.indexer.sync import SyncOptions
    from rwkvsearch.retrieval.choose import choose_model
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.ui.render import report_as_text
    from rwkvsearch.ui.speed import profile_as_text

    place = library_folder(library)
    roots, captions = _sort_out(paths)
    missing = [path for path in roots or [] if not is_remote(path) and not path.exists()]
    if missing and len(missing) == len(roots or []) and not exists(place):
        raise DataError(f"{missing[0]}: no such file or folder")
    options = SyncOptions(
        exclude=exclude or (),
        follow_links=follow_links,
        limits=Limits(max_megapixels, int(max_megabytes * (1 << 20))),
        workers=workers,
        batch_size=batch_size,
        ann=ann,
    )
    if estimate:
        _estimate(place, roots, (model, device, precision), options, captions, profile=profile)
        return
    record = Record(unattended)
    with record.errors(), (Library.create if paths else Library.open)(place) as opened:
        name, precision = choose_model(opened, model, precision)
        encoder = Encoder.load(name, device=device, precision=precision)
        with (
            stoppable(_STOPPED, record.log.tell if record.log else None),
            embedding_on(ray, workers, (name, precision), device) as embedding,
        ):
            report = _run(opened, roots, encoder, options, captions, embedding, record)
        typer.echo(report_as_text(report, opened.name))
        if profile:
            typer.echo(profile_as_text(report.profile))
        if thumbnails:
            _make_thumbnails(opened)
    if {path for path, _ in report.errors} & {path.resolve() for path in roots or []}:
        raise typer.Exit(1)  # a picture asked for by name, not one among others


def forget(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders, there or not.")
    ] = None,
    gone: Annotated[
        bool, typer.Option("--gone", help="Everything that is not there any more.")
    ] = False,
    library: LibraryOption = None,
    ann: AnnOption = None,
) -> None:
    """Drop pictures from the library, with their embeddings and texts; no file is touched.

    Files that went away are not shown, but remembered in case they come back. This forgets them,
    too.
    """
    from rwkvsearch.indexer import edit
    from rwkvsearch.indexer.cluster.mirror import mirror_again
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.words import counted

    if not paths and not gone:
        raise typer.BadParameter("name files or folders, or give --gone")
    with Library.open(library_folder(library)) as opened:
        number = sum(edit.forget(opened, path) for path in paths or [])
        number += edit.forget_gone(opened) if gone else 0
        if ann:
            mirror_again(opened, ann)
    typer.echo(f"{counted(number, 'file')} forgotten")


def relocate(
    old: Annotated[Path, typer.Argument(help="Folder or file as it was indexed.")],
    new: Annotated[Path, typer.Argument(help="Where it is now.")],
    library: LibraryOption = None,
) -> None:
    """Tell the library that a folder lies elsewhere now, such as after a disk got another name.

    `index` finds moves by itself when it is run on the new place; this does it without reading.
    """
    from rwkvsearch.indexer import edit
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.words import counted, printable

    with Library.open(library_folder(library)) as opened:
        number = edit.relocate(opened, old, new)
    typer.echo(f"{counted(number, 'file')} now below {printable(new.resolve())}")


def _sort_out(paths: list[Path] | None) -> tuple[list[Path] | None, Captions]:
    """The roots, None for all that are known, and the captions of the caption sets among them."""
    if not paths:
        return None, {}
    from rwkvsearch.data.captions import EVERY_SPLIT, load_captions

    roots: list[Path] = []
    captions: Captions = {}
    for path in paths:
        path = absolute(path)
        if str(path) == "-":
            roots += _paths_on_stdin()
        elif path.suffix.lower() == ".json" and path.is_file():
            images = load_captions(path, EVERY_SPLIT).images
            captions |= {item.path.resolve(): item.captions for item in images}
        else:
            roots.append(path)
    return roots, captions


def _paths_on_stdin() -> list[Path]:
    """One path a line; NUL instead of line ends where there is one, as `find -print0` writes."""
    data = sys.stdin.buffer.read()
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [absolute(Path(os.fsdecode(line))) for line in lines if line.strip()]


def _run(
    library: "Library",
    roots: list[Path] | None,
    encoder: "Encoder",
    options: "SyncOptions",
    captions: Captions,
    embedding: "MakeEmbedding | None",
    record: Record,
) -> "SyncReport":
    from rwkvsearch.indexer.sync import sync
    from rwkvsearch.ui.render import SyncProgress

    with closing(record.log or SyncProgress()) as progress:
        run = partial(sync, library, roots, encoder, options, captions=captions)
        return record.sync(library, partial(run, progress=progress, embedding=embedding))


def _make_thumbnails(library: "Library") -> None:
    from rwkvsearch.indexer.thumbnails import Thumbnails
    from rwkvsearch.ui.render import counting
    from rwkvsearch.ui.words import counted, printable

    began = time.monotonic()
    thumbnails = Thumbnails(library)
    todo = thumbnails.lacking()
    with stoppable(_STOPPED), counting(len(todo)) as progress:
        done = thumbnails.warm(todo, progress=progress)
    for fault in done.failed:
        typer.echo(f"no thumbnail of {printable(fault)}", err=True)
    typer.echo(f"{counted(done.made, 'thumbnail')} made; {time.monotonic() - began:.1f} s")


def _estimate(
    place: Place,
    roots: list[Path] | None,
    asked: tuple[str | None, str | None, "Precision | None"],
    options: "SyncOptions",
    captions: Captions,
    *,
    profile: bool,
) -> None:
    from rwkvsearch.indexer.estimate import estimate
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.choose import choose_model
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.ui.render import SyncProgress
    from rwkvsearch.ui.speed import estimate_as_text, profile_as_text

    model, device, precision = asked
    there = exists(place) or roots is None
    with stoppable("stopped"), ExitStack() as stack:
        library = stack.enter_context(Library.open(place)) if there else None
        name, precision = choose_model(library, model, precision)
        encoder = Encoder.load(name, device=device, precision=precision)
        progress = stack.enter_context(closing(SyncProgress()))
        found = estimate(library, roots, encoder, options, captions=captions, progress=progress)
        progress.close()
        typer.echo(estimate_as_text(found))
        if profile:
            typer.echo(profile_as_text(found.profile))
