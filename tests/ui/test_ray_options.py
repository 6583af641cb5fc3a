"""What `index --ray` makes of the words after it."""

from pathlib import Path
from typing import Any

import pytest
import typer

from rwkvsearch.ui.cli import app


@pytest.fixture(scope="module")
def index() -> Any:
    return typer.main.get_command(app).commands["index"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "address", "paths"),
    [
        (["photos"], None, ["photos"]),
        (["--ray"], "local", []),
        (["--ray", "photos"], "local", ["photos"]),
        (["--ray", "--nice", "photos"], "local", ["photos"]),
        (["photos", "--ray"], "local", ["photos"]),
        (["--ray", "auto", "photos"], "auto", ["photos"]),
        (["--ray", "10.0.0.1:6379", "photos"], "10.0.0.1:6379", ["photos"]),
        (["--ray=head:6379", "photos"], "head:6379", ["photos"]),
        (["--ray", "s3://bucket/a"], "local", ["s3:/bucket/a"]),
        (["--ray", "--", "auto"], "local", ["auto"]),
        (["--", "--ray"], None, ["--ray"]),
    ],
)
def test_an_address_may_follow(
    index: Any, words: list[str], address: str | None, paths: list[str]
) -> None:
    with index.make_context("index", [*words]) as context:
        assert context.params["ray"] == address
        assert [*(context.params["paths"] or ())] == [Path(path) for path in paths]


def test_shares_go_with_ray(run: Any, photos: Path) -> None:
    outcome = run("index", photos, "--ray-actors", "2")
    assert outcome.code == 2
    assert "--ray-actors and --ray-gpus go with --ray" in outcome.err
