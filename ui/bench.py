"""`rwkvsearch bench`: how good a model is on data of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from rwkvsearch.retrieval.models import EXACT
from rwkvsearch.ui.bench_classify import bench_classify
from rwkvsearch.ui.bench_options import BenchPrecisionOption, encoder_settings, measured_model
from rwkvsearch.ui.options import DeviceOption, JsonOption, LibraryOption, ModelOption
from rwkvsearch.ui.saving import SaveOption, check_saving, save

bench_app = typer.Typer(no_args_is_help=True, help="Measure a model on your own data.")


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
        settings = {"prefix": prefix, "ties": "pessimistic"} | encoder_settings(encoder)
        figures = recall_object(result, encoder.model_id)
        save(library, "recall", measured_model(encoder), about, settings, figures)


bench_app.command("classify")(bench_classify)
