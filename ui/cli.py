"""The command line: every command is a sentence about the library; heavy imports wait for use."""

import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.ui.albums import album_app
from rwkvsearch.ui.backup import backup, restore
from rwkvsearch.ui.bench import bench_app
from rwkvsearch.ui.copying import copy
from rwkvsearch.ui.daemon_commands import daemon_app
from rwkvsearch.ui.describe import describe
from rwkvsearch.ui.doctor import doctor
from rwkvsearch.ui.dupes import dupes
from rwkvsearch.ui.evaluate import evaluate
from rwkvsearch.ui.exchange import import_embeddings
from rwkvsearch.ui.exporting import export
from rwkvsearch.ui.indexing import forget, index, relocate
from rwkvsearch.ui.labels import classify, tag
from rwkvsearch.ui.model_export import model_export
from rwkvsearch.ui.options import JsonOption, LibraryOption, library_folder
from rwkvsearch.ui.query import query
from rwkvsearch.ui.ray_options import WithRay
from rwkvsearch.ui.serve import serve
from rwkvsearch.ui.training import train
from rwkvsearch.ui.tune import tune
from rwkvsearch.ui.watch import watch
from rwkvsearch.ui.words import printable

if TYPE_CHECKING:
    from rwkvsearch.ui.engines import Engines

app = typer.Typer(
    name="rwkvsearch",
    help="Find any picture in your folders by describing it, or by showing another one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # importing rich costs more than the rest of `--help`
)
model_app = typer.Typer(no_args_is_help=True, help="List, describe and fetch models.")
app.add_typer(model_app, name="model")
app.add_typer(bench_app, name="bench")
app.add_typer(daemon_app, name="daemon")
app.add_typer(album_app, name="album")

UnusedLibraryOption = Annotated[
    str | None,
    typer.Option("--library", help="Taken by every command; models are shared by all libraries."),
]


def main() -> None:
    """Run the command line: one line and exit code 1 for a mistake, 2 for wrong usage."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    warnings.filterwarnings("ignore", module="PIL")
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None when closed
        # As file names are decoded, so that each is printed byte for byte.
        stream.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")
    run()


def run(
    arguments: list[str] | None = None, name: str | None = None, engines: "Engines | None" = None
) -> None:
    """Run a command, by default that of this process, which always ends in `SystemExit`.

    `name` is what the program was called by; `engines` lends it engines that are kept open.
    """
    try:
        _command()(arguments, name, obj=engines)
    except (RwkvSearchError, OSError) as error:
        typer.echo(f"rwkvsearch: {printable(str(error))}", err=True)
        raise SystemExit(1) from None


@cache
def _command() -> Any:
    return typer.main.get_command(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"rwkvsearch {version('rwkvsearch')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


app.command(cls=WithRay)(index)


app.command()(query)
app.command()(export)
app.command("import")(import_embeddings)
app.command("eval")(evaluate)


@app.command()
def stats(library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """Show what the library holds."""
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.ui.render import stats_as_json, stats_as_text

    with Library.open(library_folder(library)) as opened:
        render = stats_as_json if as_json else stats_as_text
        typer.echo(render(opened.name, opened.stats()))


app.command()(copy)
app.command()(forget)
app.command()(relocate)
app.command()(watch)
app.command()(doctor)
app.command()(dupes)
app.command()(backup)
app.command()(restore)
app.command()(describe)
app.command()(classify)
app.command()(tag)
app.command()(serve)
app.command()(train)
app.command()(tune)


@model_app.command("list")
def model_list(_library: UnusedLibraryOption = None) -> None:
    """List the models of this version and those trained here."""
    from rwkvsearch.retrieval.models import is_present, known_models

    for spec in known_models().values():
        state = "installed" if is_present(spec) else "not installed"
        typer.echo(f"{spec.name:<14} {state:<14} {spec.summary}")


@model_app.command("info")
def model_info(
    name: Annotated[str, typer.Argument(help="See `rwkvsearch model list`.")] = "starter",
    _library: UnusedLibraryOption = None,
) -> None:
    """Describe an installed model: shape, source, licence, hash, engine."""
    from rwkvsearch.retrieval.graphs.choice import describe_engine
    from rwkvsearch.retrieval.models import describe, read_card

    facts, *rest = describe(name).split("\n\n", 1)
    typer.echo(
        "\n\n".join([f"{facts.rstrip()}\nengine     {describe_engine(read_card(name))}", *rest])
    )


model_app.command("export")(model_export)


@model_app.command("pull")
def model_pull(
    name: Annotated[str, typer.Argument(help="See `rwkvsearch model list`.")],
    revision: Annotated[
        str | None, typer.Option(help="Commit of the hub repository; default: the newest.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--from", help="Convert this checkpoint; nothing is downloaded.")
    ] = None,
    _library: UnusedLibraryOption = None,
) -> None:
    """Fetch official weights from the Hugging Face hub and convert them to safetensors.

    This goes out to the network. The download is checked against the hash that
    the hub states for it.
    """
    from rwkvsearch.retrieval.pull import pull

    typer.echo(f"installed {pull(name, revision=revision, file=file)}")
