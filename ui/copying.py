"""`rwkvsearch copy`: a library in another place, such as the one that a team shares."""

from typing import Annotated

import typer

from rwkvsearch.ui.options import LibraryOption, library_folder
from rwkvsearch.ui.stopping import stoppable
from rwkvsearch.ui.telling import stages


def copy(
    to: Annotated[str, typer.Argument(help="An empty folder, or postgresql://USER@HOST/DATABASE.")],
    library: LibraryOption = None,
) -> None:
    """Copy the library to another place: into the database that a team shares, or out of it.

    Nothing is read or embedded again; the pictures stay where they are. The copy is there as a
    whole or not at all.
    """
    from rwkvsearch.indexer.copying import copy_library
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.words import counted, printable

    place = library_folder(to)
    with stoppable("stopped; nothing was copied"), stages(" rows") as progress:
        with Library.open(library_folder(library)) as opened:
            images = copy_library(opened, place, progress)
    typer.echo(f"{counted(images, 'image')} copied\nlibrary: {printable(str(place))}")
