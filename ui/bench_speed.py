"""`rwkvsearch bench speed`: how fast this machine encodes, indexes and answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkvsearch.data.errors import DataError, RwkvSearchError
from rwkvsearch.retrieval.models import DEFAULT_MODEL, Precision, checked_precision
from rwkvsearch.ui.bench_options import measured_model
from rwkvsearch.ui.options import DeviceOption, JsonOption, LibraryOption, ModelOption
from rwkvsearch.ui.saving import SaveOption, check_saving, save
from rwkvsearch.ui.stopping import stoppable

if TYPE_CHECKING:
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.speed_times import Tell

Json = dict[str, Any]

PHOTOGRAPHS = 120
"""So many of 12 megapixels are made where no folder is named."""
QUERIES = 100
COLD_ROUNDS = 5
"""New processes of each kind, at least."""


class Part(StrEnum):
    """What can be measured alone."""

    encoder = "encoder"
    indexing = "indexing"
    queries = "queries"
    ann = "ann"


@dataclass(frozen=True)
class _Asked:
    """What all parts need to know."""

    encoder: Encoder
    precisions: list[Precision]
    data: Path | None
    rounds: int
    full: bool


def bench_speed(
    only: Annotated[
        list[Part] | None, typer.Option(help="Measure only this part; repeatable.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="B/16 and 1,000,000 embeddings as well.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder to index again and again; default: the sample photographs, made larger "
            "and altered."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions; the figure is the median.")] = 3,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="Repeatable; default: fp32, and on a GPU bf16 as well."),
    ] = None,
    library: LibraryOption = None,
    to_save: SaveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine: images and texts a second, indexing, latency of queries, the ann.

    Our B/32 stands beside a transformer of CLIP's shape in the same engine. Nothing is read from
    the library or written to it, but for the result with --save. A quarter of an hour on two cores.
    """
    if data is not None and not data.is_dir():
        raise DataError(f"{data}: no such folder")
    check_saving(library, to_save)
    with stoppable("stopped; nothing is kept"):
        precisions = [checked_precision(name) for name in precision or []]
        asked = _asked(model, device, precisions, data, rounds, full)
        found = _measure(asked, only or list(Part))
    if to_save:
        settings = {"parts": only or list(Part), "full": full, "rounds": rounds}
        settings |= {"precision": asked.encoder.precision, "device": str(asked.encoder.device)}
        save(library, "speed", measured_model(asked.encoder), None, settings, found)
    from rwkvsearch.ui.speeds import speed_as_text

    typer.echo(json.dumps(found, indent=2) if as_json else speed_as_text(found))


def _asked(
    model: str | None,
    device: str | None,
    precisions: list[Precision],
    data: Path | None,
    rounds: int,
    full: bool,
) -> _Asked:
    from rwkvsearch.retrieval.encoder import Encoder

    first = precisions[0] if precisions else "fp32"
    encoder = Encoder.load(model or DEFAULT_MODEL, device=device, precision=first)
    return _Asked(encoder, precisions, data, rounds, full)


def _measure(asked: _Asked, parts: list[Part]) -> Json:
    from rwkvsearch.retrieval.speed_encoder import describe_device
    from rwkvsearch.ui.telling import telling

    measures: dict[Part, Callable[[_Asked, Tell], Json]] = {
        Part.encoder: _encoder,
        Part.indexing: _indexing,
        Part.queries: _queries,
        Part.ann: _ann,
    }
    began, found = time.perf_counter(), {"machine": describe_device(asked.encoder.device)}
    with telling() as tell:
        for part, measure in measures.items():
            if part not in parts:
                continue
            try:
                found[part.value] = measure(asked, tell)
            except RwkvSearchError as error:
                if len(parts) == 1:
                    raise
                tell(f"nothing more of {part.value}: {error}")
                found.setdefault("left_out", {})[part.value] = str(error)
    found["machine"]["load_after"] = describe_device(asked.encoder.device)["load"]
    return found | {"seconds": round(time.perf_counter() - began, 1)}


def _encoder(asked: _Asked, tell: Tell) -> Json:
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.speed_encoder import (
        FULL,
        SHAPES,
        EncoderOptions,
        measure_model,
        measure_shapes,
    )
    from rwkvsearch.retrieval.speed_times import Effort

    shapes = FULL if asked.full else SHAPES
    effort = Effort(least=asked.rounds)
    options = EncoderOptions(asked.encoder.device, asked.precisions, shapes=shapes, effort=effort)
    models = {}
    for precision in options.all_precisions():
        encoder = asked.encoder
        if precision != encoder.precision:
            name, device = encoder.card.name, str(encoder.device)
            encoder = Encoder.load(name, device=device, precision=precision)
        models[precision] = measure_model(encoder, options, tell)
    return {"models": models} | measure_shapes(options, tell)


def _indexing(asked: _Asked, tell: Tell) -> Json:
    from rwkvsearch.retrieval.index_speed import make_photographs
    from rwkvsearch.retrieval.speed_indexing import measure_indexing

    if asked.data is not None:
        found = measure_indexing(asked.encoder, asked.data, asked.rounds, tell)
        return {"pictures": str(asked.data)} | found
    with TemporaryDirectory(prefix="rwkvsearch-") as temporary:
        folder = Path(temporary) / "photographs"
        tell(f"making {PHOTOGRAPHS} photographs of 4000 x 3000 pixels")
        make_photographs(folder, PHOTOGRAPHS)
        found = measure_indexing(asked.encoder, folder, asked.rounds, tell)
    return {"pictures": "altered sample photographs, 4000 x 3000 pixels"} | found


def _queries(asked: _Asked, tell: Tell) -> Json:
    from rwkvsearch.ui.speed_queries import Asking, measure_queries

    name, device = asked.encoder.card.name, str(asked.encoder.device)
    return measure_queries(Asking(name, device, max(asked.rounds, COLD_ROUNDS), QUERIES), tell)


def _ann(asked: _Asked, tell: Tell) -> Json:
    from rwkvsearch.retrieval.speed_ann import FULL_ROWS, ROWS, measure_ann

    sizes = FULL_ROWS if asked.full else ROWS
    return {str(rows): measure_ann(rows, QUERIES, asked.rounds, tell) for rows in sizes}
