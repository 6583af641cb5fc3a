"""The options of filters, as they are written on a command line."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rwkvsearch.data.errors import QueryError
from rwkvsearch.indexer.filters import Box, Filters
from rwkvsearch.ui.filtering import FilterOptions
from rwkvsearch.ui.options import flat


def read(line: str) -> Filters:
    """What a command with these options, and no others, is told."""
    app, told = typer.Typer(), []

    @app.command()
    @flat
    def command(chosen: FilterOptions) -> None:
        told.append(chosen.filters())

    result = CliRunner().invoke(app, shlex.split(line))
    if result.exit_code == 2:
        raise typer.BadParameter(result.output)
    if result.exception is not None:
        raise result.exception
    (filters,) = told
    return filters


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("", {}),
        ("--under /a --under /b/../c", {"folders": (Path("/a"), Path("/c"))}),
        ("--path '*.png' --path '!2019/**'", {"globs": ("*.png", "!2019/**")}),
        ("--after 2019 --before 2020-06", {"after": "2019", "before": "2020-06"}),
        (
            "--min-width 640 --min-height 480 --min-megapixels 1.5",
            {"min_width": 640, "min_height": 480, "min_megapixels": 1.5},
        ),
        ("--orientation portrait", {"orientation": "portrait"}),
        ("--camera canon --camera 'EOS 5D'", {"cameras": ("canon", "EOS 5D")}),
        ("--format jpg --format .heic", {"formats": ("jpg", ".heic")}),
        ("--captioned", {"captioned": True}),
        ("--not-captioned", {"captioned": False}),
        ("--gps -20,170,-10,-170", {"box": Box(-20, 170, -10, -170)}),
        ("--tag cat --tag sea", {"tags": ("cat", "sea")}),
    ],
)
def test_each_option(line: str, asked: dict[str, Any]) -> None:
    assert read(line) == Filters(**asked)
    assert bool(read(line)) == bool(asked)


def test_paths_are_those_of_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "in [1]"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = read(
        "--under one --under .. --path './*.png' --path '!../x/**' --path '~/b' --path 'c/d'"
    )
    assert found.folders == (here / "one", tmp_path)
    plain = rf"{tmp_path}/in \[1]"
    assert found.globs == (f"{plain}/*.png", f"!{tmp_path}/x/**", f"{tmp_path}/b", "c/d")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("--after yesterday", "'yesterday' is no time: write 2019"),
        ("--gps 1,2,3", "'1,2,3' is no box: write SOUTH,WEST,NORTH,EAST"),
        ("--format docx", "'docx' is no format"),
    ],
)
def test_what_makes_no_sense(line: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        read(line)


@pytest.mark.parametrize("line", ["--orientation tall", "--min-width -1", "--min-width x"])
def test_wrong_usage(line: str) -> None:
    with pytest.raises(typer.BadParameter):
        read(line)
