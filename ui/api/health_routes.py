"""Routes that tell how a library is: its roots, its bad files, and what the doctor finds."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from rwkvsearch.indexer.bad_files import bad_files
from rwkvsearch.indexer.doctor.findings import State
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.roots import root_states
from rwkvsearch.ui.api.checkups import Checkups
from rwkvsearch.ui.api.remedies import remedy
from rwkvsearch.ui.api.replies import reply

router = APIRouter(tags=["library"])


@dataclass(frozen=True)
class RootAnswer:
    """A folder or shard; `loose` stands for all files that were named one by one."""

    path: str
    kind: str
    files: int
    errors: int
    gone: int
    synced_at: str | None
    is_there: bool


@dataclass(frozen=True)
class RootsAnswer:
    """Where the pictures come from."""

    roots: list[RootAnswer]


@dataclass(frozen=True)
class ReasonAnswer:
    """Why `files` files could not be used, and what helps."""

    reason: str
    files: int
    remedy: str


@dataclass(frozen=True)
class ReasonsAnswer:
    """Every reason, the most frequent first."""

    files: int
    reasons: list[ReasonAnswer]


@dataclass(frozen=True)
class BadFileAnswer:
    """A file that could not be used."""

    path: str
    reason: str
    bytes: int


@dataclass(frozen=True)
class BadFilesAnswer:
    """A page of such files out of `total`; `next` is the offset of the next page."""

    total: int
    files: list[BadFileAnswer]
    next: int | None


@dataclass(frozen=True)
class FindingAnswer:
    """A line of the report; `fixable` by the command that `repair` is."""

    check: str
    state: State
    text: str
    remedy: str | None
    fixable: bool


@dataclass(frozen=True)
class DoctorAnswer:
    """The last diagnosis, `clean` None if there is none; `check` is what is looked at now."""

    running: bool
    check: str | None
    clean: bool | None
    findings: list[FindingAnswer]
    error: str | None
    seconds: float | None
    finished_at: str | None
    repair: str


def _library(request: Request) -> Library:
    library: Library = request.app.state.service.library
    return library


@router.get("/roots", response_model=RootsAnswer)
def roots(request: Request) -> Response:
    """The folders and shards that were indexed, and whether they are there."""
    found = [
        RootAnswer(
            *(str(root.path), root.kind, root.files, root.errors, root.gone),
            root.synced_at.isoformat(timespec="seconds") if root.synced_at else None,
            root.is_there,
        )
        for root in root_states(_library(request))
    ]
    return reply(RootsAnswer(found))


@router.get("/errors", response_model=ReasonsAnswer)
def errors(request: Request) -> Response:
    """Why files could not be used, and what helps."""
    reasons = _library(request).stats().errors_by_reason
    found = [ReasonAnswer(reason, number, remedy(reason)) for reason, number in reasons.items()]
    return reply(ReasonsAnswer(sum(reasons.values()), found))


@router.get("/errors/files", response_model=BadFilesAnswer)
def error_files(
    request: Request,
    reason: Annotated[str | None, Query(max_length=1000)] = None,
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> Response:
    """The files that could not be used, for one reason or any."""
    found, total = bad_files(_library(request), reason, offset=offset, limit=limit)
    files = [BadFileAnswer(str(file.path), file.reason, file.bytes) for file in found]
    end = offset + len(files)
    return reply(BadFilesAnswer(total, files, end if files and end < total else None))


@router.get("/doctor", response_model=DoctorAnswer)
def doctor(request: Request) -> Response:
    """What the doctor has found; nothing is started."""
    return reply(_diagnosis(request))


@router.post("/doctor", status_code=202, response_model=DoctorAnswer)
def start_doctor(request: Request) -> Response:
    """Look at the library as `rwkvsearch doctor` does, in the background; nothing is changed."""
    _checkups(request).start()
    return reply(_diagnosis(request), 202)


def _checkups(request: Request) -> Checkups:
    checkups: Checkups = request.app.state.service.checkups
    return checkups


def _diagnosis(request: Request) -> DoctorAnswer:
    checkups = _checkups(request)
    job = checkups.job()
    report = job.answer
    findings = [
        FindingAnswer(f.check, f.state, f.text, f.remedy or None, f.fix is not None)
        for f in (report.findings if report else [])
    ]
    return DoctorAnswer(
        running=job.running,
        check=checkups.check,
        clean=report.clean if report else None,
        findings=findings,
        error=job.error,
        seconds=round(job.seconds, 1) if job.finished else None,
        finished_at=_time(job.finished),
        repair=f"rwkvsearch doctor --fix --library {shlex.quote(_library(request).name)}",
    )


def _time(moment: float | None) -> str | None:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds") if moment else None
