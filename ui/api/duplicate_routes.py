"""Routes of the duplicates: groups a page at a time, and paths to hand to other programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response

from rwkvsearch.data.remote import shown
from rwkvsearch.indexer.details import content_hashes
from rwkvsearch.indexer.dupes import MAX_DISTANCE, MIN_SCORE, Copy, Duplicates, Group
from rwkvsearch.ui.api.duplicate_searches import AskedDuplicates, DuplicateSearches
from rwkvsearch.ui.api.jobs import Job
from rwkvsearch.ui.api.path_lists import Form, path_list
from rwkvsearch.ui.api.replies import reply
from rwkvsearch.ui.api.searching import thumb_of

router = APIRouter(tags=["duplicates"])
_AT_MOST = 10.0  # seconds that a request waits


@dataclass(frozen=True)
class CopyAnswer:
    """A file; `score` and `distance` (bits) compare its picture with that of the first.

    `score` is null where the content is the same; `thumb` is null where there is no picture.
    """

    path: str
    image_id: int
    width: int
    height: int
    bytes: int
    modified_at: str | None
    score: float | None
    distance: int
    thumb: str | None


@dataclass(frozen=True)
class GroupAnswer:
    """Files that show the same picture, the best first: the most pixels, then the oldest."""

    number: int
    kind: Literal["exact", "near"]
    spare_bytes: int
    files: list[CopyAnswer]


@dataclass(frozen=True)
class DuplicatesAnswer:
    """A page of groups, those that take most space first; `next` is the offset of the next.

    `state`: `running` until they are found, then `ready`, or `failed`. The totals are of all
    groups: `spare_files` and `spare_bytes` leave out the first of each. `current` is whether they
    are of the library as it is now; if not, they are being looked for again.
    """

    state: Literal["running", "ready", "failed"]
    error: str | None = None
    current: bool = False
    seconds: float | None = None
    found_at: str | None = None
    files: int = 0
    images: int = 0
    not_compared: int = 0
    total: int = 0
    exact: int = 0
    near: int = 0
    spare_files: int = 0
    spare_bytes: int = 0
    groups: tuple[GroupAnswer, ...] = ()
    next: int | None = None


def _asked(
    under: Annotated[str | None, Query(max_length=4096, description="A known folder.")] = None,
    exact_only: bool = False,
    min_score: Annotated[float, Query(ge=-1, le=1)] = MIN_SCORE,
    max_distance: Annotated[int, Query(ge=0, le=32)] = MAX_DISTANCE,
) -> AskedDuplicates:
    return AskedDuplicates(Path(under) if under else None, exact_only, min_score, max_distance)


Asked = Annotated[AskedDuplicates, Depends(_asked)]
Wait = Annotated[float, Query(ge=0, le=_AT_MOST, description="Seconds to wait for an answer.")]
Kind = Annotated[Literal["all", "exact", "near"], Query()]


@router.get("/duplicates", response_model=DuplicatesAnswer)
def duplicates(
    request: Request,
    asked: Asked,
    kind: Kind = "all",
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 20,
    wait: Wait = 1.0,
) -> Response:
    """Groups of files that show the same picture. Nothing is deleted, here or elsewhere."""
    job = _job(request, asked, wait)
    if job.answer is None:
        failed = not job.running and job.error is not None
        return reply(DuplicatesAnswer("failed" if failed else "running", job.error))
    searches: DuplicateSearches = request.app.state.service.duplicates
    answer = _totals(job, job.answer, current=searches.is_current(job))
    chosen = list(_of_kind(job.answer, kind))
    page = chosen[offset : offset + limit]
    end = offset + len(page)
    groups = _groups(request, page)
    return reply(replace(answer, groups=groups, next=end if page and end < len(chosen) else None))


@router.get(
    "/duplicates/paths",
    responses={200: {"content": {"text/plain": {}, "application/octet-stream": {}}}},
    response_class=Response,
)
def duplicate_paths(
    request: Request,
    asked: Asked,
    kind: Kind = "all",
    form: Annotated[Form, Query(alias="as")] = "lines",
    group: Annotated[int | None, Query(ge=0, le=1 << 31)] = None,
    wait: Wait = _AT_MOST,
) -> Response:
    """The paths of all but the first of each group, or of one group by its number.

    As `lines`, ended by `nul` for `xargs -0`, or as words for a `shell`.
    """
    job = _job(request, asked, wait)
    if job.answer is None:
        raise HTTPException(503, job.error or "the duplicates are still being looked for")
    groups = [one for number, one in _of_kind(job.answer, kind) if group in (None, number)]
    paths = (copy.path for one in groups for copy in one.copies[1:])
    name = f"duplicates.{'nul' if form == 'nul' else 'txt'}"
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }
    media_type = "application/octet-stream" if form == "nul" else "text/plain; charset=utf-8"
    return Response(path_list(paths, form), headers=headers, media_type=media_type)


def _job(request: Request, asked: AskedDuplicates, wait: float) -> Job[Duplicates]:
    searches: DuplicateSearches = request.app.state.service.duplicates
    return searches.ask(asked, wait)


def _of_kind(found: Duplicates, kind: str) -> Iterator[tuple[int, Group]]:
    """The groups of a kind, each with its number among all."""
    for number, group in enumerate(found.groups):
        if kind in ("all", "exact" if group.exact else "near"):
            yield number, group


def _totals(job: Job[Duplicates], found: Duplicates, *, current: bool) -> DuplicatesAnswer:
    exact = sum(group.exact for group in found.groups)
    finished = datetime.fromtimestamp(job.finished or 0, UTC)
    return DuplicatesAnswer(
        state="ready",
        current=current,
        seconds=round(job.seconds, 2),
        found_at=finished.isoformat(timespec="milliseconds"),
        files=found.files,
        images=found.images,
        not_compared=found.unhashed,
        total=len(found.groups),
        exact=exact,
        near=len(found.groups) - exact,
        spare_files=sum(len(group.copies) - 1 for group in found.groups),
        spare_bytes=sum(group.spare_bytes for group in found.groups),
    )


def _groups(request: Request, page: list[tuple[int, Group]]) -> tuple[GroupAnswer, ...]:
    ids = sorted({copy.image_id for _, group in page for copy in group.copies})
    hashes = content_hashes(request.app.state.service.library, ids)
    return tuple(
        GroupAnswer(
            number,
            "exact" if group.exact else "near",
            group.spare_bytes,
            [_copy(copy, hashes.get(copy.image_id)) for copy in group.copies],
        )
        for number, group in page
    )


def _copy(copy: Copy, content_hash: str | None) -> CopyAnswer:
    modified = None
    with suppress(ValueError, OverflowError, OSError):  # a time that no calendar has
        if copy.mtime_ns >= 0:  # else the file is still to be read again
            moment = datetime.fromtimestamp(copy.mtime_ns // 10**9, UTC)
            modified = moment.isoformat(timespec="seconds")
    return CopyAnswer(
        path=shown(copy.path),
        image_id=copy.image_id,
        width=copy.width,
        height=copy.height,
        bytes=copy.bytes,
        modified_at=modified,
        score=None if copy.score is None else round(copy.score, 6),
        distance=copy.distance,
        thumb=content_hash and thumb_of(content_hash),
    )
