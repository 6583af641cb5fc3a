"""`rwkvsearch bench recall`: retrieval in both directions on a captioned set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.retrieval.models import EXACT
from rwkvsearch.ui.bench_options import BenchPrecisionOption, encoder_settings, measured_model
from rwkvsearch.ui.options import DeviceOption, JsonOption, LibraryOption, ModelOption, flat
from rwkvsearch.ui.saving import SaveOption, check_saving, save

if TYPE_CHECKING:
    from rwkvsearch.data.captions import CaptionSet
    from rwkvsearch.indexer.ann.kinds import Kind
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.ui.recalls import MeasuredRecall

DATA_HELP = (
    "A captioned set, its file or folder: Karpathy, COCO or ALBEF json, Flickr tokens, csv, tsv; "
    "or .tar shards."
)
NO_ANN = "none"


@dataclass(frozen=True)
class SetOptions:
    """Which pictures and captions."""

    split: Annotated[
        str | None, typer.Option(help="Default: test where there is one, else all images.")
    ] = None
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the pictures, if not where such sets have it.")
    ] = None
    captions_per_image: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many of each; default: all.")
    ] = None


@dataclass(frozen=True)
class HowOptions:
    """What is measured of them."""

    prefix: Annotated[
        str | None, typer.Option(help="Put before every caption; default: the model's.")
    ] = None
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Also the mean over so many parts; COCO's 1K figures: 5."),
    ] = None
    ann: Annotated[
        str | None,
        typer.Option(
            help="Kind of ann that the search through a library is measured with, or none; "
            "default: that of 20,000 pictures."
        ),
    ] = None


@flat
def bench_recall(
    data: Annotated[Path, typer.Option(help=DATA_HELP)],
    of: SetOptions,
    how: HowOptions,
    model: ModelOption = None,
    models: Annotated[
        str | None, typer.Option(help="Several models by name, with commas between: a row each.")
    ] = None,
    device: DeviceOption = None,
    precision: BenchPrecisionOption = EXACT,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with plots; needs matplotlib.")
    ] = None,
    library: LibraryOption = None,
    to_save: SaveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure recall@1, 5 and 10, median and mean rank and MRR, text to image and image to text.

    Below each model: what ties, a library with an exact and an approximate search, and scaled
    decoding change, and what was published of the same set.
    """
    names = _names(model, models)
    kind = _kind(how.ann)
    if html is not None:
        from rwkvsearch.ui.recall_page import check_page

        check_page(html)
    captions = _load(data, of)
    if how.folds and how.folds > len(captions.images):
        raise typer.BadParameter(f"{how.folds} folds of {len(captions.images)} images")
    check_saving(library, to_save)

    from rwkvsearch.retrieval.models import read_card
    from rwkvsearch.ui.recalls import beside, recall_as_text, recall_object, whole_object

    for name in names:
        read_card(name)  # a wrong one is found before the first is measured
    about = beside(captions, of.captions_per_image)
    measured = []
    for name in names:
        from rwkvsearch.retrieval.encoder import Encoder

        encoder = Encoder.load(name, device=device, precision=precision)
        measured.append(_measure(encoder, captions, how, kind))
        if to_save:
            _save(library, encoder, captions, measured[-1], recall_object(measured[-1], about))
    whole = whole_object(measured, about)
    typer.echo(json.dumps(whole, indent=2) if as_json else recall_as_text(measured, about))
    if html is not None:
        from rwkvsearch.ui.recall_page import write_page

        write_page(html, measured, about)


def _names(model: str | None, models: str | None) -> list[str]:
    from rwkvsearch.retrieval.models import DEFAULT_MODEL

    if model and models:
        raise typer.BadParameter("--model and --models exclude each other")
    names = [name.strip() for name in (models or model or DEFAULT_MODEL).split(",")]
    return list(dict.fromkeys(filter(None, names))) or [DEFAULT_MODEL]


def _kind(asked: str | None) -> Kind | None:
    """The kind of ann; none, and a word about it, where faiss is not installed."""
    from importlib.util import find_spec

    from rwkvsearch.indexer.ann.kinds import SMALL, Kind, default_kind

    if asked == NO_ANN:
        return None
    if asked is None and find_spec("faiss") is None:
        typer.echo("not measured through a library: faiss is not installed", err=True)
        return None
    return Kind.parse(asked) if asked else default_kind(SMALL)


def _load(data: Path, of: SetOptions) -> CaptionSet:
    from rwkvsearch.data.captions import load_captions

    captions = load_captions(data, of.split, pictures=of.pictures)
    return captions.shortened(of.captions_per_image) if of.captions_per_image else captions


def _measure(
    encoder: Encoder, captions: CaptionSet, how: HowOptions, kind: Kind | None
) -> MeasuredRecall:
    from rwkvsearch.retrieval.recall import measure_recall
    from rwkvsearch.ui.recalls import MeasuredRecall
    from rwkvsearch.ui.render import counting

    prefix = encoder.card.prompt if how.prefix is None else how.prefix
    total = len(captions.images) + sum(len(item.captions) for item in captions.images)
    with counting(total) as progress:
        result = measure_recall(encoder, captions, prefix, progress, ann=kind, folds=how.folds)
    return MeasuredRecall(
        encoder.model_id, encoder.card.name, encoder.precision, str(encoder.device), result
    )


def _save(
    library: str | None,
    encoder: Encoder,
    captions: CaptionSet,
    measured: MeasuredRecall,
    figures: dict[str, object],
) -> None:
    from rwkvsearch.data.fingerprint import captions_fingerprint
    from rwkvsearch.indexer.results import MeasuredData

    result = measured.result
    counts = (result.images, result.captions, None)
    about = MeasuredData(captions.name, captions.split, *counts, captions_fingerprint(captions))
    settings = {"prefix": result.prefix, "ties": "pessimistic"} | encoder_settings(encoder)
    save(library, "recall", measured_model(encoder), about, settings, figures)
