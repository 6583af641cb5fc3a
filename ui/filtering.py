"""The options that say which pictures a search is among."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rwkvsearch.data.remote import absolute

if TYPE_CHECKING:
    from rwkvsearch.indexer.filters import Filters


@dataclass(frozen=True)
class FilterOptions:
    """Only pictures that are like this."""

    under: Annotated[
        list[Path] | None,
        typer.Option(help="Only files at or below this path; repeatable: one of them."),
    ] = None
    path: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Only files that a pattern of .gitignore fits: '*.png', '2019/**', '/photos/**', "
            "'!*.gif'; repeatable: the last one that fits decides.",
        ),
    ] = None
    after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only taken in or after 2019, 2019-06, 2019-06-30T12:00."
        ),
    ] = None
    before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only taken in or before 2020, 2020-06, 2020-06-30."),
    ] = None
    min_width: Annotated[int, typer.Option(min=0, help="Only so many pixels wide or more.")] = 0
    min_height: Annotated[int, typer.Option(min=0, help="Only so many pixels high or more.")] = 0
    min_megapixels: Annotated[
        float, typer.Option(min=0.0, help="Only so many million pixels or more.")
    ] = 0.0
    orientation: Annotated[
        Literal["landscape", "portrait", "square"] | None,
        typer.Option(help="Only upright pictures of this shape."),
    ] = None
    camera: Annotated[
        list[str] | None,
        typer.Option(help="Only by a camera with this in its name; repeatable: one of them."),
    ] = None
    format: Annotated[
        list[str] | None,
        typer.Option(help="Only jpeg, png, heic, raw, ...; repeatable: one of them."),
    ] = None
    captioned: Annotated[
        bool | None,
        typer.Option(
            "--captioned/--not-captioned", help="Only with, or without, a text of its own."
        ),
    ] = None
    gps: Annotated[
        str | None,
        typer.Option(
            metavar="SOUTH,WEST,NORTH,EAST",
            help="Only taken there, in degrees, such as 47.2,5.9,55.1,15.1.",
        ),
    ] = None
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Only with this label of `rwkvsearch tag`; repeatable: all of them."),
    ] = None

    def filters(self) -> Filters:
        """What is asked for, with every path absolute.

        Raises:
            QueryError: a value that no picture can have.
        """
        from rwkvsearch.indexer.filters import Box, Filters

        return Filters(
            folders=tuple(
                Path(os.path.normpath(Path.cwd() / absolute(path))) for path in self.under or ()
            ),
            globs=tuple(map(_absolute, self.path or ())),
            after=self.after,
            before=self.before,
            min_width=self.min_width,
            min_height=self.min_height,
            min_megapixels=self.min_megapixels,
            orientation=self.orientation,
            cameras=tuple(self.camera or ()),
            formats=tuple(self.format or ()),
            captioned=self.captioned,
            box=None if self.gps is None else Box.read(self.gps),
            tags=tuple(self.tag or ()),
        )


def _whole(path: Path) -> Path:
    return Path(os.path.normpath(Path.cwd() / absolute(path)))


def _absolute(glob: str) -> str:
    """A pattern that begins with `./`, `../` or `~/`, as a shell would complete it if it could."""
    sign, body = ("!", glob[1:]) if glob.startswith("!") else ("", glob)
    starts = {"./": Path.cwd(), "../": Path.cwd().parent, "~/": Path.home()}
    for start, folder in starts.items():
        if body.startswith(start):
            from rwkvsearch.indexer.globs import escaped_path

            return f"{sign}{escaped_path(str(folder)).rstrip('/')}/{body.removeprefix(start)}"
    return glob
