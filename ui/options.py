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
FollowLinksOption = Annotated[
    bool, typer.Option("--follow-links", help="Follow symbolic links, never in circles.")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Threads that decode; default: one per core.")
]
MegapixelsOption = Annotated[float, typer.Option(min=0.001, help="Larger pictures are skipped.")]
MegabytesOption = Annotated[float, typer.Option(min=0.001, help="Larger files are skipped.")]
NiceOption = Annotated[
    bool, typer.Option("--nice", help="Leave the machine to others when they need it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def library_folder(path: Path | None) -> Path:
    """The folder of the library: what is asked for, else `$RWKVSEARCH_HOME` or its default."""
    return path or home_folder()
