"""`--save`: a result is kept in the library, for the page of `rwkvsearch serve` to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkvsearch.indexer.address import folder_of
from rwkvsearch.ui.options import library_folder
from rwkvsearch.ui.words import printable

if TYPE_CHECKING:
    from rwkvsearch.indexer.results import MeasuredData, MeasuredModel

SaveOption = Annotated[
    bool, typer.Option("--save", help="Keep the result in the library, in benchmarks/.")
]


def check_saving(library: str | None, to_save: bool) -> None:
    """Complain before anything is measured where the result could not be kept."""
    if to_save:
        from rwkvsearch.indexer.results import check_room

        check_room(library_folder(library))


def save(
    library: str | None,
    kind: str,
    model: MeasuredModel | None,
    data: MeasuredData | None,
    settings: dict[str, Any],
    figures: dict[str, Any],
) -> None:
    """Keep a result, and say where, on stderr."""
    from datetime import UTC, datetime

    from rwkvsearch.indexer.machine import describe_machine
    from rwkvsearch.indexer.results import Result, keep_result

    now = datetime.now(UTC)
    result = Result(kind, now, model, data, settings, figures, describe_machine())
    path = keep_result(folder_of(library_folder(library)), result)
    typer.echo(f"kept: {printable(path)}", err=True)
