"""`rwkvsearch backup` and `restore`: a library as one file that is verified."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.ui.options import LibraryOption, library_folder
from rwkvsearch.ui.stopping import stoppable
from rwkvsearch.ui.telling import stages

if TYPE_CHECKING:
    from rwkvsearch.indexer.backup.file import Manifest


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write, such as library.tar.")],
    library: LibraryOption = None,
) -> None:
    """Write one file with all that the library holds, while others go on writing to it.

    It holds pictures' embeddings, texts, tags, albums, votes, settings and kept results, as they
    were at one moment; not the pictures, nor what is derived from the rest. A backup of that name
    is replaced once the new one is whole.
    """
    from rwkvsearch.indexer.backup.make import back_up
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.words import printable

    began = time.monotonic()
    with stoppable("stopped; no backup was written"), stages(scaled=True) as progress:
        with Library.open(library_folder(library)) as opened:
            made = back_up(opened, file, progress)
    size = f"{file.stat().st_size / 1e6:,.1f} MB; {time.monotonic() - began:.1f} s"
    typer.echo(f"{_counts(made)}; {size}\nbackup: {printable(file.absolute())}")


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `rwkvsearch backup` has written.")],
    library: LibraryOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only verify the file; nothing is written.")
    ] = False,
) -> None:
    """Make a library of a backup, where there is none.

    The file is verified first, and the library is there as a whole or not at all. Then the index is
    built. Where pictures lie elsewhere now, `rwkvsearch relocate` says so.
    """
    from rwkvsearch.indexer.backup.restore import check_backup, publish_all
    from rwkvsearch.indexer.backup.restore import restore as restore_into
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.words import printable

    began, place = time.monotonic(), library_folder(library)
    with stoppable("stopped; no library was made"), stages(scaled=True) as progress:
        made = check_backup(file, progress) if check else restore_into(file, place, progress)
    when = f"as of {made.made_at[:16].replace('T', ' ')} UTC, of {printable(made.library)}"
    typer.echo(f"{_counts(made)}; {when}; {time.monotonic() - began:.1f} s")
    if check:
        typer.echo(f"{printable(file)}: whole")
        return
    with stoppable("stopped; the library is there, `rwkvsearch index` builds its index"):
        with stages(scaled=True) as progress, Library.open(place) as opened:
            publish_all(opened, lambda model: progress(f"indexing {model}", 0, 0))
    typer.echo(f"library: {printable(str(place))}")


def _counts(made: "Manifest") -> str:
    from rwkvsearch.ui.words import counted

    nouns = {"images": "image", "files": "file", "embeddings": "embedding", "captions": "text"}
    nouns |= {"tags": "tag", "albums": "album"}
    some = [(made.rows.get(table, 0), noun) for table, noun in nouns.items()]
    return ", ".join(counted(number, noun) for number, noun in some if number) or "empty"
