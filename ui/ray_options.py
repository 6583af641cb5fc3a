"""`index --ray`: the options, and the embedding on a Ray cluster that they ask for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from threading import current_thread
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from rwkvsearch.indexer.sync import MakeEmbedding
    from rwkvsearch.retrieval.models import Precision


@dataclass(frozen=True)
class RayOptions:
    """Where pictures are embedded, if not in this process."""

    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[ADDRESS]",
            help="Embed on a Ray cluster: HOST:PORT of its head, auto for the one of this "
            "machine; without an address, on processes of this machine alone.",
        ),
    ] = None
    ray_actors: Annotated[
        int | None, typer.Option(min=1, help="Processes that embed; default: as many as fit.")
    ] = None
    ray_gpus: Annotated[
        float | None,
        typer.Option(
            min=0, help="GPUs of each process, such as 0.5; default: 1 where the cluster has any."
        ),
    ] = None


class WithRay(TyperCommand):
    """A command whose `--ray` may stand alone: the next word counts if it is an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a `--ray` that stands alone its value."""
        from rwkvsearch.indexer.distributed.cluster import LOCAL, is_address

        end = args.index("--") if "--" in args else len(args)
        for at, word in enumerate(args[:end]):
            if word == "--ray" and not (at + 1 < len(args) and is_address(args[at + 1])):
                args = [*args[:at], f"--ray={LOCAL}", *args[at + 1 :]]
        return super().parse_args(ctx, args)


@contextmanager
def embedding_on(
    options: RayOptions,
    workers: int | None,
    model: tuple[str, Precision],
    device: str | None,
) -> Iterator[MakeEmbedding | None]:
    """What embeds a model (name, precision) as the options say; None for this very process.

    Raises:
        ClusterError: the cluster cannot be used.
    """
    if options.ray is None:
        if options.ray_actors is not None or options.ray_gpus is not None:
            raise typer.BadParameter("--ray-actors and --ray-gpus go with --ray")
        yield None
        return
    from rwkvsearch.indexer.distributed.cluster import Share, check
    from rwkvsearch.indexer.distributed.ray_pipeline import OnRay
    from rwkvsearch.retrieval.encoder import Encoder

    share = Share(options.ray_actors, workers or 1, options.ray_gpus)
    name, precision = model
    check(options.ray)
    with _only_our_words():
        load = partial(Encoder.load, name, precision=precision)
        yield OnRay(options.ray, share, load, device)


class _Ours:
    """A stream that drops what the threads of Ray write: each retry, in ten lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As any stream."""
        by_ray = current_thread().name.startswith("ray_")
        return len(text) if by_ray else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _only_our_words() -> Iterator[None]:
    """Drop what Ray says to nobody in particular, in C++ or in threads."""
    python, number = sys.stderr, os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    try:
        with (
            open(os.dup(number), "w", 1, python.encoding, python.errors) as stream,  # noqa: PTH123
            redirect_stderr(cast(TextIO, _Ours(stream))),
            redirect_stdout(cast(TextIO, _Ours(sys.stdout))),
        ):
            yield
    finally:
        os.dup2(number, 2)
        os.close(number)
