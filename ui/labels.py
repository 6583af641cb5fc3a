"""`rwkvsearch classify` and `tag`: which labels fit a picture."""

import json
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.data.errors import DataError, ImageError
from rwkvsearch.ui.options import (
    DeviceOption,
    JsonOption,
    LibraryOption,
    ModelOption,
    PrecisionOption,
    library_folder,
)

if TYPE_CHECKING:
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
    from rwkvsearch.retrieval.models import Precision
    from rwkvsearch.retrieval.tagging import Tagging
    from rwkvsearch.ui.label_rows import Classified

LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Labels with commas between, or a file with one a line; default: 540 everyday words.",
    ),
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Sentence with {} for the label; repeatable, the mean is taken. "
        "Default: a photo of it, in the grammar of the label."
    ),
]


def classify(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Pictures or folders.")],
    labels: LabelsOption = None,
    template: TemplateOption = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Labels of a picture at most.")] = 3,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Labels below are left out.")
    ] = 0.0,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    library: Annotated[
        str | None, typer.Option("--library", help="Use the model of this library.")
    ] = None,
    as_json: JsonOption = False,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print an object a picture.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
) -> None:
    """Say what pictures show, whether they are in the library or not.

    With --labels one of them has to fit: a confidence of 0 is no more than by chance, 1 is certain.
    Without, it is everyday words, and broader ones where it is open which of their kinds it is.
    """
    if as_json + as_jsonl + as_csv > 1:
        raise typer.BadParameter("give one of --json, --jsonl and --csv")
    templates = _checked(template)

    from rwkvsearch.retrieval.labels import Labels, choice, one_of
    from rwkvsearch.ui import label_rows

    words = choice(labels) if labels is None else one_of(choice(labels))
    encoder = _encoder_of(library, model, device, precision).encoder
    fitting = Labels(encoder, words, templates=templates)

    def found() -> Iterator["Classified"]:
        from rwkvsearch.retrieval.classify import embed_files

        path = None
        for path, embedding in embed_files(encoder, chain.from_iterable(map(_files, paths))):
            if isinstance(embedding, ImageError):
                yield path, embedding
            else:
                yield path, fitting.tags(embedding[None], min_confidence, k)[0]
        if path is None:
            raise DataError(f"{', '.join(map(str, paths))}: no picture there")

    seen = label_rows.Seen(found())
    if as_json:
        lines = label_rows.as_json(seen, encoder.model_id)
    elif as_jsonl:
        lines = label_rows.as_jsonl(seen)
    else:
        lines = label_rows.as_csv(seen) if as_csv else label_rows.as_lines(seen)
    for line in lines:
        typer.echo(line)
    if seen.bad.keys() & {*paths}:
        raise typer.Exit(1)  # a picture asked for by name, not one among others


def tag(
    labels: LabelsOption = None,
    template: TemplateOption = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Labels below are not given.")
    ] = 0.5,
    every: Annotated[
        bool, typer.Option("--all", help="Also what has been tagged already.")
    ] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="Only show the labels, and how many pictures have each.")
    ] = False,
    library: LibraryOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the pictures of the library labels to filter by; no picture is opened.

    Only new pictures are looked at, unless labels or confidence are others than before: then all
    tags are replaced. Your own labels compete with everyday words, so that a picture that none of
    them fits gets none. Stop with Ctrl-C at any time: what is done is kept.
    """
    templates = _checked(template)
    from rwkvsearch.indexer.library import Library

    with Library.open(library_folder(library)) as opened:
        if listed:
            typer.echo(_list(opened, as_json=as_json))
            return
        from rwkvsearch.retrieval.choose import choose_model
        from rwkvsearch.retrieval.labels import choice
        from rwkvsearch.retrieval.lazy_encoder import LazyEncoder
        from rwkvsearch.retrieval.tagging import Tagging

        tagging = Tagging(choice(labels), templates, min_confidence)
        name, chosen = choose_model(opened, model, precision)
        encoder = LazyEncoder.of(name, device, chosen)
        typer.echo(_tag(opened, encoder, tagging, every=every, as_json=as_json))


def _tag(
    library: "Library", encoder: "LazyEncoder", tagging: "Tagging", *, every: bool, as_json: bool
) -> str:
    from rwkvsearch.indexer.tags import Tagged
    from rwkvsearch.ui.render import counting
    from rwkvsearch.ui.words import counted

    began = time.monotonic()
    waiting = tagging.count(library, encoder)
    total = library.model(encoder.model_id, encoder.preprocessing_id).embeddings
    done = Tagged(0, 0, 0)
    if waiting or every:
        with counting(total if every else waiting) as progress:
            done = tagging.run(library, encoder, anew=every, progress=progress)
    if as_json:
        counts = {"images": done.images, "with_tags": done.with_tags, "tags": done.tags}
        return json.dumps({"model": encoder.model_id} | counts, indent=2)
    if not done.images:
        return f"{counted(total, 'image')}: nothing to do; --all tags them anew"
    without = done.images - done.with_tags
    found = f"{counted(done.tags, 'tag')}, {without:,} without one"
    return f"{counted(done.images, 'image')}: {found}; {time.monotonic() - began:.1f} s"


def _list(library: "Library", *, as_json: bool) -> str:
    from rwkvsearch.indexer.tags import count_tags

    tags = count_tags(library)
    if as_json:
        rows = [{"label": label, "images": images} for label, images in tags]
        return json.dumps({"tags": rows}, indent=2)
    if not tags:
        return "no tags: `rwkvsearch tag` gives some"
    return "\n".join(f"{images:>7,}  {label}" for label, images in tags)


def _encoder_of(
    library: str | None, model: str | None, device: str | None, precision: "Precision | None"
) -> "LazyEncoder":
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.choose import choose_model
    from rwkvsearch.retrieval.lazy_encoder import LazyEncoder

    if library is None:
        name, chosen = choose_model(None, model, precision)
    else:
        with Library.open(library_folder(library)) as opened:
            name, chosen = choose_model(opened, model, precision)
    return LazyEncoder.of(name, device, chosen)


def _files(path: Path) -> Iterator[Path]:
    """The pictures below a folder; whatever else is named counts as one."""
    from rwkvsearch.data.walk import find_images
    from rwkvsearch.ui.label_rows import tell_bad

    return find_images(path, on_error=tell_bad) if path.is_dir() else iter([path])


def _checked(templates: list[str] | None) -> list[str]:
    if wrong := [sentence for sentence in templates or [] if sentence.count("{}") != 1]:
        raise typer.BadParameter(f"a template holds {{}} once: {wrong[0]!r}")
    return templates or []
