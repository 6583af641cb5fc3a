"""Options that many commands share, and what they stand for."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from rwkvsearch.indexer.address import Place, place_of
from rwkvsearch.retrieval.models import Precision, home_folder

LibraryOption = Annotated[
    str | None,
    typer.Option(
        "--library",
        envvar="RWKVSEARCH_LIBRARY",
        help="Folder of the library, or postgresql://USER@HOST/DATABASE.",
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Model by name; see `rwkvsearch model list`.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1, ...; default: $RWKVSEARCH_DEVICE, else cpu."),
]
AnnOption = Annotated[
    str | None,
    typer.Option(
        "--ann",
        envvar="RWKVSEARCH_ANN",
        show_envvar=False,
        help="Milvus proposes: milvus://HOST:PORT/COLLECTION; default: $RWKVSEARCH_ANN, else none.",
    ),
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


def library_folder(asked: str | Path | None) -> Place:
    """Where the library lies: what is asked for, else `$RWKVSEARCH_HOME` or its default."""
    return place_of(asked) if asked else home_folder()


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take the fields of its dataclass parameters as parameters of their own.

    So commands share groups of options: each field is an annotated option with a default.
    """
    groups: dict[str, type] = {}
    parameters: list[Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in signature(command).parameters.items():
        hint = hints[name]
        if not is_dataclass(hint):
            parameters.append(parameter.replace(annotation=hint, kind=Parameter.KEYWORD_ONLY))
            continue
        groups[name] = hint  # type: ignore[assignment]
        of_group = get_type_hints(hint, include_extras=True)
        parameters += [
            Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=of_group[field.name],
            )
            for field in fields(hint)
        ]

    @wraps(command)
    def gathered(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    gathered.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    gathered.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return gathered
