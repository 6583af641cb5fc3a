"""Prove that a library is whole: rows, embeddings, ann and files agree; and repair what does not.

The catalog is the truth about what was embedded, the disk about what is there. So a repair builds
the derived again, drops what nothing leads to, and marks for the next sync what only that can
make. It never touches a file of the user. Each check is described in `docs/library.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rwkvsearch.data.errors import RwkvSearchError, ServerGone
from rwkvsearch.indexer.doctor.ann import check_ann
from rwkvsearch.indexer.doctor.database import (
    check_duplicates,
    check_orphans,
    check_pages,
    check_references,
)
from rwkvsearch.indexer.doctor.embeddings import check_coverage, check_embeddings
from rwkvsearch.indexer.doctor.files import check_files
from rwkvsearch.indexer.doctor.findings import Finding, WeightsCheck, fault
from rwkvsearch.indexer.doctor.leftovers import check_leftovers
from rwkvsearch.indexer.doctor.mirror import check_mirror
from rwkvsearch.indexer.doctor.models import check_by_embedding, check_weights
from rwkvsearch.indexer.doctor.results import check_results
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import ImageEncoder

_ROUNDS = 4  # a repair may bring another fault to light
_SAMPLE = 200


@dataclass(frozen=True)
class Checkup:
    """How thoroughly to look.

    `full`: every file, with its content, every index of the database and every row of an exact
    ann, instead of samples. `embed` pictures are embedded again by `encoder`. `ann` is the address
    of a cluster whose mirror is looked at too.
    """

    full: bool = False
    weights: WeightsCheck | None = None
    encoder: ImageEncoder | None = None
    embed: int = 0
    ann: str | None = None


@dataclass(frozen=True)
class Report:
    """What was found, what was done about it, and why something could not be done."""

    findings: list[Finding]
    done: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether there is no fault."""
        return all(finding.state != "fault" for finding in self.findings)


def diagnose(
    library: Library, checkup: Checkup, on_check: Callable[[str], None] | None = None
) -> Report:
    """Look, and change nothing; `on_check` is told the name of each check before it starts."""
    return Report(list(_look(library, checkup, on_check, is_writer=False)))


def repair(
    library: Library, checkup: Checkup, on_check: Callable[[str], None] | None = None
) -> Report:
    """Look, put right what can be, and look again; the findings are those of the last look.

    Raises:
        LibraryError: another writer, or the library cannot be written.
    """
    done: list[str] = []
    failed: list[str] = []
    with library.writer():
        findings = list(_look(library, checkup, on_check, is_writer=True))
        for _ in range(_ROUNDS):
            todo = [finding for finding in findings if finding.fix is not None]
            todo = [finding for finding in todo if _told(finding) not in (*done, *failed)]
            if not todo:
                break
            for finding in todo:
                _put_right(library, finding, done, failed)
            findings = list(_look(library, checkup, on_check, is_writer=True))
    return Report(findings, done, failed)


def _put_right(library: Library, finding: Finding, done: list[str], failed: list[str]) -> None:
    try:
        if finding.fix is not None:
            finding.fix(library)
    except (RwkvSearchError, OSError) as error:
        failed.append(f"{_told(finding)}: {error}")
    else:
        done.append(_told(finding))


def _told(finding: Finding) -> str:
    return f"{finding.text}: {finding.remedy}"


def _look(
    library: Library,
    checkup: Checkup,
    on_check: Callable[[str], None] | None,
    *,
    is_writer: bool,
) -> Iterator[Finding]:
    for name, check in _checks(library, checkup, is_writer).items():
        if on_check is not None:
            on_check(name)
        try:
            yield from check()
        except ServerGone:  # all the others would say the same
            raise
        except RwkvSearchError as error:  # such as a damaged page in the way of this one check
            yield fault(name, f"cannot be checked: {error}", "")


def _checks(
    library: Library, checkup: Checkup, is_writer: bool
) -> dict[str, Callable[[], Iterator[Finding]]]:
    full, weights, encoder = checkup.full, checkup.weights, checkup.encoder
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "database": lambda: check_pages(library, full=full),
        "references": lambda: check_references(library),
        "duplicates": lambda: check_duplicates(library),
        "orphans": lambda: check_orphans(library),
        "embeddings": lambda: check_embeddings(library),
        "files": lambda: check_files(library, None if full else _SAMPLE, contents=full),
        "coverage": lambda: check_coverage(library),
        "ann": lambda: check_ann(library, 5 * _SAMPLE if full else _SAMPLE, full=full),
        "leftovers": lambda: check_leftovers(library, is_writer=is_writer),
        "results": lambda: check_results(library),
    }
    if library.is_shared:
        from rwkvsearch.indexer.doctor import server  # needs psycopg

        checks["database"] = lambda: server.check_server(library, full=full)
        checks["references"] = lambda: server.check_kept_references(library)
        checks["ann"] = lambda: server.check_hnsw(library, 5 * _SAMPLE if full else _SAMPLE)
    if (ann := checkup.ann) is not None:
        checks["mirror"] = lambda: check_mirror(library, ann, 5 * _SAMPLE if full else _SAMPLE)
    if weights is not None:
        checks["weights"] = lambda: check_weights(library, weights)
    if encoder is not None and checkup.embed:
        checks["embedding"] = lambda: check_by_embedding(library, encoder, checkup.embed)
    return checks
