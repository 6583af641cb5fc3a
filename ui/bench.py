"""`rwkvsearch bench`: how good a model is on data of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.retrieval.models import EXACT, Precision
from rwkvsearch.ui.options import DeviceOption, JsonOption, LibraryOption, ModelOption
from rwkvsearch.ui.saving import SaveOption, check_saving, save

if TYPE_CHECKING:
    from rwkvsearch.indexer.results import MeasuredModel
    from rwkvsearch.retrieval.encoder import Encoder

bench_app = typer.Typer(no_args_is_help=True, help="Measure a model on your own data.")

BenchPrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="fp32 is exact; bf16 and int8 are faster.")
]


@bench_app.command("recall")
def bench_recall(
    data: Annotated[Path, typer.Option(help="Karpathy or COCO captions json, or its folder.")],
    split: Annotated[
        str | None, typer.Option(help="Default: test where there is one, else all images.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Put before every caption; default: the model's.")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: BenchPrecisionOption = EXACT,
    library: LibraryOption = None,
    to_save: SaveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure recall@1, 5 and 10, text to image and image to text."""
    from rwkvsearch.data.captions import load_captions
    from rwkvsearch.ui.render import counting, recall_as_json, recall_as_text, recall_object

    captions = load_captions(data, split)
    check_saving(library, to_save)

    from rwkvsearch.retrieval.benchmark import measure_recall
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.models import DEFAULT_MODEL

    encoder = Encoder.load(model or DEFAULT_MODEL, device=device, precision=precision)
    prefix = encoder.card.prompt if prefix is None else prefix
    total = len(captions.images) + sum(len(item.captions) for item in captions.images)
    with counting(total) as progress:
        result = measure_recall(encoder, captions, prefix, progress)
    typer.echo((recall_as_json if as_json else recall_as_text)(result, encoder.model_id))
    if to_save:
        from rwkvsearch.data.fingerprint import captions_fingerprint
        from rwkvsearch.indexer.results import MeasuredData

        print_of = captions_fingerprint(captions)
        counts = (result.images, result.captions, None)
        about = MeasuredData(captions.name, captions.split, *counts, print_of)
        settings = {"prefix": prefix, "ties": "pessimistic"} | _settings(encoder)
        figures = recall_object(result, encoder.model_id)
        save(library, "recall", _model(encoder), about, settings, figures)


@bench_app.command("classify")
def bench_classify(
    data: Annotated[str, typer.Option(help="WebDataset: a folder, a glob or one .tar.")],
    template: Annotated[
        list[str] | None, typer.Option(help="Sentence with {} for the class name; repeatable.")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: BenchPrecisionOption = EXACT,
    library: LibraryOption = None,
    to_save: SaveOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure zero-shot classification; the classes are the distinct texts of the shards."""
    if wrong := [sentence for sentence in template or [] if sentence.count("{}") != 1]:
        raise typer.BadParameter(f"a template holds {{}} once: {wrong[0]!r}")

    from rwkvsearch.data.shards import find_shards
    from rwkvsearch.ui.render import accuracy_as_json, accuracy_as_text, accuracy_object, counting

    find_shards(data)
    check_saving(library, to_save)

    from rwkvsearch.retrieval.benchmark import TEMPLATES, measure_accuracy
    from rwkvsearch.retrieval.encoder import Encoder
    from rwkvsearch.retrieval.models import DEFAULT_MODEL

    encoder = Encoder.load(model or DEFAULT_MODEL, device=device, precision=precision)
    with counting(None) as progress:
        result = measure_accuracy(encoder, data, template or TEMPLATES, progress)
    typer.echo((accuracy_as_json if as_json else accuracy_as_text)(result, encoder.model_id))
    if to_save:
        from rwkvsearch.data.fingerprint import shards_fingerprint
        from rwkvsearch.indexer.results import MeasuredData

        print_of = shards_fingerprint(data)
        about = MeasuredData(_name(data), None, result.images, None, result.classes, print_of)
        settings = {"templates": [*(template or TEMPLATES)]} | _settings(encoder)
        figures = accuracy_object(result, encoder.model_id)
        save(library, "classify", _model(encoder), about, settings, figures)


def _model(encoder: "Encoder") -> "MeasuredModel":
    from rwkvsearch.indexer.results import MeasuredModel

    return MeasuredModel(encoder.model_id, encoder.card.sha256, encoder.preprocessing_id)


def _settings(encoder: "Encoder") -> dict[str, str]:
    return {"precision": encoder.precision, "device": str(encoder.device)}


def _name(shards: str) -> str:
    """What a person would call them: the folder, or the tars without wildcards and numbers."""
    name = Path(shards).name.removesuffix(".tar").rstrip("*?[]0123456789-_.")
    return name or Path(shards).absolute().parent.name or "shards"
