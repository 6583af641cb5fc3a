"""`rwkvsearch model export`: both towers as files for other engines."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def model_export(
    name: Annotated[str, typer.Argument(help="See `rwkvsearch model list`.")],
    folder: Annotated[Path, typer.Argument(help="Where the files go; made if missing.")],
    to: Annotated[
        Literal["onnx", "openvino"], typer.Option("--to", help="What reads the files.")
    ] = "openvino",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Fixed size of a batch; default: any size.")
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Weights as float16, half the size (openvino only).")
    ] = False,
    _library: Annotated[
        Path | None, typer.Option("--library", help="Taken by every command.")
    ] = None,
) -> None:
    """Write both towers for OpenVINO or ONNX Runtime: pixels or ids in, features out.

    Pixels and ids are what `Encoder.preprocess` and the tokenizer make. The
    features are not normalised.
    """
    from rwkvsearch.retrieval.encoder import load_model
    from rwkvsearch.retrieval.graphs.files import ANY, export, need

    need(to)
    model, card = load_model(name)
    for path in export(model, card, folder, to, batch=batch or ANY, half=half):
        typer.echo(path)
