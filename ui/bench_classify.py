"""`rwkvsearch bench classify`: zero-shot classification of labelled pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rwkvsearch.retrieval.models import EXACT
from rwkvsearch.ui.bench_options import (
    BenchPrecisionOption,
    PerClassOption,
    encoder_settings,
    measured_model,
)
from rwkvsearch.ui.options import DeviceOption, JsonOption, LibraryOption, ModelOption
from rwkvsearch.ui.saving import SaveOption, check_saving, save

if TYPE_CHECKING:
    from rwkvsearch.retrieval.zero_shot import ZeroShotResult

Json = dict[str, Any]
DATA_HELP = "A folder of class folders; .tar shards: a folder, glob or file; or path,label .csv."


def bench_classify(
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    classes: Annotated[
        Path | None,
        typer.Option(help="Names of the classes, one a line: label<TAB>name, or a .json object."),
    ] = None,
    template: Annotated[
        list[str] | None, typer.Option(help="Sentence with {} for the class name; repeatable.")
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            help="Sentences that ship, for a data set: general, imagenet, cifar10, food101, ..."
        ),
    ] = None,
    per_class: PerClassOption = False,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: BenchPrecisionOption = EXACT,
    library: LibraryOption = None,
    to_save: SaveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure zero-shot classification: each picture gets the class whose name is nearest.

    The classes are the folders, or the distinct texts or labels, unless --classes
    names them. With several sentences a class is the mean of all.
    """
    if wrong := [sentence for sentence in template or [] if sentence.count("{}") != 1]:
        raise typer.BadParameter(f"a template holds {{}} once: {wrong[0]!r}")

    from rwkvsearch.data.class_names import class_names
    from rwkvsearch.data.labelled import open_labelled
    from rwkvsearch.retrieval.templates import find_templates
    from rwkvsearch.ui.accuracies import tell_unreadable

    known = find_templates(templates) if templates is not None else None
    sentences = [*dict.fromkeys([*(template or []), *(known.sentences if known else [])])]
    labelled = open_labelled(data)
    names = class_names(labelled, classes)
    check_saving(library, to_save)

    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.models import DEFAULT_MODEL
    from rwkvsearch.retrieval.zero_shot import TEMPLATES, measure_zero_shot
    from rwkvsearch.ui.render import counting

    sentences = sentences or [*TEMPLATES]
    encoder = Encoder.load(model or DEFAULT_MODEL, device=device, precision=precision)
    prompts = len(sentences) * sum(map(len, names.values()))
    with counting(None if labelled.count is None else labelled.count + prompts) as progress:
        result = measure_zero_shot(encoder, labelled, names, sentences, progress)
    tell_unreadable(result.unreadable)
    figures = _object(encoder.model_id, result, len(sentences), per_class)
    text = json.dumps(figures, indent=2) if as_json else _text(figures, result, per_class)
    typer.echo(text)
    if to_save:
        from rwkvsearch.data.fingerprint import fingerprint
        from rwkvsearch.indexer.results import MeasuredData

        counts = (result.accuracy.images, None, result.accuracy.classes)
        about = MeasuredData(labelled.name, None, *counts, result.fingerprint)
        of_names = fingerprint((label, *its) for label, its in names.items())
        settings = {"templates": sentences, "class_names": of_names} | encoder_settings(encoder)
        save(library, "classify", measured_model(encoder), about, settings, figures)


def _object(model_id: str, result: ZeroShotResult, templates: int, per_class: bool) -> Json:
    from rwkvsearch.ui.accuracies import accuracy_object

    values = accuracy_object(result.accuracy, result.unreadable, per_class)
    return {"model": model_id} | values | {"templates": templates, "ties": "pessimistic"}


def _text(figures: Json, result: ZeroShotResult, per_class: bool) -> str:
    from rwkvsearch.ui.accuracies import classes_of, figures_as_text, left_out, pictures_of, shown
    from rwkvsearch.ui.words import counted

    accuracy = result.accuracy
    counts = (
        pictures_of(accuracy),
        classes_of(accuracy),
        counted(figures["templates"], "template"),
    )
    lines = [
        f"{figures['model']}: {figures_as_text(accuracy)}",
        f"{', '.join(counts)}{left_out(result.unreadable)}",
    ]
    return shown(lines, accuracy, per_class)
