"""`rwkvsearch watch`: keep the library current until stopped."""

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.data.errors import DataError, LibraryBusy
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
from rwkvsearch.ui.unattended import Record, UnattendedOptions

if TYPE_CHECKING:
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.indexer.protocols import SyncEvent, SyncReport
    from rwkvsearch.indexer.sync import SyncOptions
    from rwkvsearch.retrieval.encoder import Encoder


@flat
def watch(
    unattended: UnattendedOptions,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders; default: all folders that were indexed before."),
    ] = None,
    library: LibraryOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    ann: AnnOption = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of .gitignore to leave out; repeatable."),
    ] = None,
    follow_links: FollowLinksOption = False,
    workers: WorkersOption = None,
    max_megapixels: MegapixelsOption = 128.0,
    max_megabytes: MegabytesOption = 1024.0,
    nice: NiceOption = False,
    poll: Annotated[
        bool,
        typer.Option("--poll", help="Look every 5 s: network drives do not tell of changes."),
    ] = False,
) -> None:
    """Keep the library current: index what is added, changed, moved or deleted, as it happens.

    It starts with a look at everything, and takes another one each hour. Bursts are waited for, and
    so are files that are still being written. Other commands can be used meanwhile. Stop it with
    Ctrl-C.
    """
    from rwkvsearch.data.remote import is_remote
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.indexer.prepare import Limits
    from rwkvsearch.indexer.sync import SyncOptions
    from rwkvsearch.indexer.watch import Watching, import_watchdog
    from rwkvsearch.retrieval.choose import choose_model
    from rwkvsearch.retrieval.encoder import Encoder

    import_watchdog()
    record = Record(unattended)
    tell = record.log.tell if record.log else _tell
    for path in paths or []:
        if not path.is_dir():
            raise DataError(f"{path}: not a folder: `watch` takes folders")
    if nice:
        os.nice(19)
    signal.signal(signal.SIGTERM, _end)
    options = SyncOptions(
        exclude=exclude or (),
        follow_links=follow_links,
        limits=Limits(max_megapixels, int(max_megabytes * (1 << 20))),
        workers=workers,
        ann=ann,
    )
    with (
        record.errors(),
        (Library.create if paths else Library.open)(library_folder(library)) as opened,
    ):
        roots = [path.resolve() for path in paths or opened.folders() if not is_remote(path)]
        if not roots:
            raise DataError("no folder was indexed before: name one")
        name, precision = choose_model(opened, model, precision)
        encoder = Encoder.load(name, device=device, precision=precision)
        syncing = _Syncing(opened, encoder, options, record)
        skip = opened.path.resolve() / "thumbs"
        whole = bool(exclude) or follow_links
        try:
            Watching(roots, syncing, tell, skip, whole, poll).run()
        except KeyboardInterrupt:
            tell("stopped")
            raise typer.Exit(130) from None


class _Syncing:
    """A sync of some folders, and a line on stdout if anything has changed."""

    def __init__(
        self, library: "Library", encoder: "Encoder", options: "SyncOptions", record: Record
    ) -> None:
        self._library = library
        self._record = record
        self._encoder = encoder
        self._options = options
        self._said: set[str] = set()
        self._skipped = 0
        self._first = True

    def __call__(self, folders: list[Path]) -> None:
        from rwkvsearch.indexer.sync import sync

        self._skipped = 0
        try:
            report = self._record.sync(
                self._library,
                lambda: sync(
                    *(self._library, folders, self._encoder, self._options),
                    progress=self._record.log or self._progress,
                ),
                (LibraryBusy, DataError),
            )
        except DataError as error:  # no pictures there yet
            self._say(str(error))
            return
        line = changes_as_text(report, self._skipped)
        if self._record.log is None and (line or self._first):
            typer.echo(f"{_clock()} {line or f'{report.unchanged:,} unchanged'}")
        self._first = False

    def _progress(self, event: "SyncEvent") -> None:
        from rwkvsearch.ui.words import printable

        if event.path is not None:
            self._say(f"skipped {printable(event.path)}: {event.reason}")

    def _say(self, line: str) -> None:
        """Once: a sync names every folder that cannot be read each time."""
        if line not in self._said:
            self._said.add(line)
            self._skipped += 1
            (self._record.log.tell if self._record.log else _tell)(line)


def changes_as_text(report: "SyncReport", skipped: int) -> str:
    """Return what a sync has changed, empty if nothing."""
    counts = {
        "embedded": report.added,
        "already known": report.reused,
        "gone": report.removed,
        "skipped": skipped,
        "texts": report.texts,
    }
    return ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)


def _tell(line: str) -> None:
    typer.echo(f"{_clock()} {line}", err=True)


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _end(_number: int, _frame: object) -> None:
    raise SystemExit(0)
