"""The route of what was measured and kept, beside what others have published."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.results import Kept, MeasuredData, MeasuredModel, kept_results
from rwkvsearch.retrieval.models import home_folder
from rwkvsearch.retrieval.published import (
    PublishedAccuracy,
    PublishedRecall,
    comparable,
    published_accuracy,
    published_recall,
)
from rwkvsearch.ui.api.replies import reply

router = APIRouter(tags=["benchmarks"])

_COMMANDS = {
    "How often the right picture, or the right words, come first": "bench recall --data SET",
    "How often a picture is told by the name of its class": "bench classify --data SHARDS",
    "How fast each kind of index is here, and how much it finds": "tune",
    "How fast this computer encodes, indexes and answers": "bench speed",
}


@dataclass(frozen=True)
class KeptAnswer:
    """A kept result. `published_set` names the published rows that are of the same data.

    None, and `published_note` says why there are none; both are None for other kinds than `recall`.
    """

    file: str
    kind: str
    when: str
    model: MeasuredModel | None
    data: MeasuredData | None
    settings: dict[str, Any]
    results: dict[str, Any]
    machine: dict[str, Any]
    published_set: str | None
    published_note: str | None


@dataclass(frozen=True)
class UnreadableAnswer:
    """A file that holds no result, and why; `newer` if a later version of rwkvsearch wrote it."""

    file: str
    reason: str
    newer: bool


@dataclass(frozen=True)
class PublishedSetAnswer:
    """Published recall in percent on a split of a set."""

    name: str
    split: str
    images: int
    rows: list[PublishedRecall]


@dataclass(frozen=True)
class CommandAnswer:
    """A command that measures something and keeps it."""

    what: str
    command: str


@dataclass(frozen=True)
class BenchmarksAnswer:
    """What was kept, newest first, and all that is known beside it."""

    results: list[KeptAnswer]
    unreadable: list[UnreadableAnswer]
    published_recall: list[PublishedSetAnswer]
    published_accuracy: list[PublishedAccuracy]
    commands: list[CommandAnswer]


@router.get("/benchmarks", response_model=BenchmarksAnswer)
def benchmarks(request: Request) -> Response:
    """Results that `bench` and `tune` have kept in the library with `--save`."""
    library: Library = request.app.state.service.library
    kept, unreadable = kept_results(library.path)
    return reply(
        BenchmarksAnswer(
            results=[_kept(one) for one in kept],
            unreadable=[UnreadableAnswer(one.file, one.reason, one.newer) for one in unreadable],
            published_recall=[
                PublishedSetAnswer(one.name, one.split, one.images, list(one.rows))
                for one in published_recall()
            ],
            published_accuracy=list(published_accuracy()),
            commands=_commands(library),
        )
    )


def _kept(kept: Kept) -> KeptAnswer:
    one = kept.result
    name, why = None, None
    if one.kind == "recall" and one.data is not None:
        rows, reason = comparable(one.data.name, one.data.split, one.data.images)
        name, why = (rows.name, None) if rows else (None, reason)
    when = one.when.isoformat(timespec="seconds").replace("+00:00", "Z")
    about = (one.model, one.data, one.settings, one.results, one.machine)
    return KeptAnswer(kept.file, one.kind, when, *about, name, why)


def _commands(library: Library) -> list[CommandAnswer]:
    able = {what: do for what, do in _COMMANDS.items() if do != "tune" or not library.is_shared}
    return [CommandAnswer(what, _command(do, library)) for what, do in able.items()]


def _command(do: str, library: Library) -> str:
    own = library.place == home_folder().absolute()
    return f"rwkvsearch {do} --save" + ("" if own else f" --library {shlex.quote(library.name)}")
