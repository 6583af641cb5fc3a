"""Options that many commands share, and what they stand for."""

from pathlib import Path
from typing import Annotated

import typer

from rwkvsearch.retrieval.models import Precision, home_folder

LibraryOption = Annotated[
    Path | None,
    typer.Option("--library", help="Folder of the library."),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Model by name; see `rwkvsearch model list`.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1, ...; default: $RWKVSEARCH_DEVICE, else cpu."),
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option(
        "--precision",
        help="fp32 is exact, bf16 and int8 are faster where the processor has them; "
        "default: that of the library, else fp32.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def library_folder(path: Path | None) -> Path:
    """The folder of the library: what is asked for, else `$RWKVSEARCH_HOME` or its default."""
    return path or home_folder()
