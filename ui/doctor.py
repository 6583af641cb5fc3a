"""`rwkvsearch doctor`: is the library whole, and what puts it right."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.ui.options import (
    AnnOption,
    DeviceOption,
    JsonOption,
    LibraryOption,
    ModelOption,
    PrecisionOption,
    library_folder,
)

if TYPE_CHECKING:
    from rwkvsearch.indexer.doctor.run import Report
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.indexer.protocols import ImageEncoder
    from rwkvsearch.indexer.stats import LibraryStats
    from rwkvsearch.retrieval.models import Precision


def doctor(
    full: Annotated[
        bool,
        typer.Option("--full", help="Every file, with its content, instead of a sample of 200."),
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Put right what can be; no picture is ever touched.")
    ] = False,
    embed: Annotated[
        int, typer.Option(min=0, help="Embed this many pictures again and compare.")
    ] = 0,
    library: LibraryOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    ann: AnnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that the library is whole: database, embeddings, index, files and weights agree.

    The exit code is 0 if it is, and 1 if there is a fault. With --fix, what is derived is built
    again, what nothing leads to is dropped, and what only `index` can make is left to its next run;
    then everything is checked again. With --ann, the mirror in Milvus is compared as well.
    """
    from rwkvsearch.indexer.doctor.run import Checkup, diagnose, repair
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.installed import check_installed

    with Library.open(library_folder(library)) as opened, _telling() as on_check:
        encoder = _encoder(opened, model, device, precision) if embed else None
        checkup = Checkup(full, check_installed, encoder, embed, ann)
        refused = None
        try:
            report = (repair if fix else diagnose)(opened, checkup, on_check)
        except LibraryError as error:
            if not fix:
                raise
            refused = f"nothing can be put right: {error}"
            report = diagnose(opened, checkup, on_check)
        stats = opened.stats() if _is_readable(report) else None
    render = report_as_json if as_json else report_as_text
    typer.echo(render(opened.name, report, stats))
    if refused:
        typer.echo(f"rwkvsearch: {refused}", err=True)
    if not report.clean or refused:
        raise typer.Exit(1)


def report_as_text(library: str, report: "Report", stats: "LibraryStats | None") -> str:
    """Return a line for each finding, what was done, and what it comes to."""
    from rwkvsearch.ui.words import counted, printable

    lines = []
    for finding in report.findings:
        lines.append(f"{finding.state:<6} {finding.check:<11} {finding.text}")
        if finding.remedy and finding.state != "ok":
            how = "--fix: " if finding.fix else ""
            lines.append(f"{'':<18} {how}{finding.remedy}")
    lines += [f"fixed  {line}" for line in report.done]
    lines += [f"failed {line}" for line in report.failed]
    faults = sum(finding.state == "fault" for finding in report.findings)
    if stats:
        embeddings = sum(model.embeddings for model in stats.models)
        rows = sum(ann.rows for ann in stats.anns)
        bad = counted(stats.errors, "bad file")
        lines.append(
            f"{stats.images:,} images in {counted(stats.files, 'file')}, {embeddings:,} "
            f"embeddings, {rows:,} rows of ann, {stats.gone:,} gone, {bad}"
        )
    verdict = f"{counted(faults, 'fault')}" if faults else "clean"
    return "\n".join([*lines, f"{printable(library)}: {verdict}"])


def report_as_json(library: str, report: "Report", stats: "LibraryStats | None") -> str:
    """Return the same as one object."""
    counts = (
        {}
        if stats is None
        else {
            "images": stats.images,
            "files": stats.files,
            "gone": stats.gone,
            "errors": stats.errors,
            "embeddings": sum(model.embeddings for model in stats.models),
            "ann_rows": sum(ann.rows for ann in stats.anns),
        }
    )
    checks = [
        {
            "check": finding.check,
            "state": finding.state,
            "text": finding.text,
            "remedy": finding.remedy or None,
            "fixable": finding.fix is not None,
        }
        for finding in report.findings
    ]
    about = {"library": library, "clean": report.clean}
    return json.dumps(
        about | counts | {"checks": checks, "fixed": report.done, "failed": report.failed}, indent=2
    )


def _encoder(
    library: "Library", model: str | None, device: str | None, precision: "Precision | None"
) -> "ImageEncoder":
    from rwkvsearch.retrieval.choose import choose_model
    from rwkvsearch.retrieval.encoder import Encoder

    name, precision = choose_model(library, model, precision)
    return Encoder.load(name, device=device, precision=precision)


def _is_readable(report: "Report") -> bool:
    return not any("cannot be checked" in finding.text for finding in report.findings)


@contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """On a terminal, which check is running and for how long."""
    from tqdm import tqdm

    with tqdm(bar_format="{desc} ({elapsed})", disable=not sys.stderr.isatty(), leave=False) as bar:
        yield lambda name: bar.set_description_str(f"checking {name}")
