"""`rwkvsearch dupes`: files that show the same picture."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.ui.options import JsonOption, LibraryOption, library_folder

if TYPE_CHECKING:
    from rwkvsearch.indexer.dupes import Copy, Duplicates, Group


def dupes(
    under: Annotated[
        Path | None, typer.Option("--under", help="Only files at or below this path.")
    ] = None,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Only copies of the same bytes.")
    ] = False,
    min_score: Annotated[
        float, typer.Option(min=-1, max=1, help="Least score of two near duplicates.")
    ] = 0.4,
    max_distance: Annotated[
        int,
        typer.Option(min=0, max=32, help="Most bits in which their perceptual hashes differ."),
    ] = 10,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which files show the same picture. Nothing is deleted or changed.

    Exact are copies of the same bytes. Near are other sizes, qualities and formats of a picture:
    both the embeddings and the perceptual hashes must agree, so that two pictures of one scene are
    not called duplicates. In each group the first is the one with the most pixels, then the oldest.
    """
    from rwkvsearch.indexer.dupes import find_duplicates
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.words import counted

    with Library.open(library_folder(library)) as opened:
        found = find_duplicates(
            opened,
            under=under,
            exact_only=exact_only,
            min_score=min_score,
            max_distance=max_distance,
        )
    typer.echo((duplicates_as_json if as_json else duplicates_as_text)(found))
    if found.unhashed:
        typer.echo(
            f"rwkvsearch: {counted(found.unhashed, 'picture')} could not be compared yet, only "
            "copies of them were looked for: run `rwkvsearch index`",
            err=True,
        )


def duplicates_as_text(found: "Duplicates") -> str:
    """Return the groups, one file a line, and how much they take."""
    from rwkvsearch.ui.words import counted

    lines = [line for group in found.groups for line in (*_lines(group), "")]
    spare = sum(group.spare_bytes for group in found.groups)
    number = sum(len(group.copies) - 1 for group in found.groups)
    groups = counted(len(found.groups), "group")
    total = f"{groups}: {counted(number, 'file')} beside the first of each, {_size(spare)}"
    among = f"among {counted(found.files, 'file')}"
    return "\n".join([*lines, f"{total}, {among}" if found.groups else f"no duplicates {among}"])


def duplicates_as_json(found: "Duplicates") -> str:
    """Return the same as one object."""
    groups = [
        {
            "kind": "exact" if group.exact else "near",
            "spare_bytes": group.spare_bytes,
            "files": [_as_object(copy) for copy in group.copies],
        }
        for group in found.groups
    ]
    counts = {"files": found.files, "images": found.images, "not_compared": found.unhashed}
    return json.dumps(counts | {"groups": groups}, indent=2)


def _lines(group: "Group") -> list[str]:
    from rwkvsearch.ui.words import printable

    best = group.copies[0].image_id
    lines: list[str] = []
    for copy in group.copies:
        same = "same bytes"
        if copy.image_id != best:
            same = f"score {copy.score:.3f}, {copy.distance} bits"
        how = "first" if not lines else same
        shape = f"{copy.width} x {copy.height}"
        lines.append(f"{how:<21}{shape:>13}{_size(copy.bytes):>11}  {printable(copy.path)}")
    return lines


def _as_object(copy: "Copy") -> dict[str, object]:
    return {
        "path": str(copy.path),
        "image_id": copy.image_id,
        "width": copy.width,
        "height": copy.height,
        "bytes": copy.bytes,
        "score": None if copy.score is None else round(copy.score, 6),
        "distance": copy.distance,
    }


def _size(number: int) -> str:
    return f"{number / 1e6:,.1f} MB" if number >= 1e5 else f"{number / 1e3:,.1f} kB"
