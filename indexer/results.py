"""Kept results of measurements: one JSON file each, below `benchmarks/` of a library.

A file says all that is needed to compare it with another: of what kind it is, and what was
measured, on which data, how, and on which machine. `docs/library.md` has the format.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy import select

from rwkvsearch.data.errors import LibraryError
from rwkvsearch.data.files import replacing
from rwkvsearch.data.images import system_reason
from rwkvsearch.indexer.address import Place, exists, folder_of
from rwkvsearch.indexer.library import IS_LIVE, Library, ModelInfo
from rwkvsearch.indexer.tables import EmbeddingRow, ImageRow

FORMAT = 1
FOLDER = "benchmarks"
_LARGEST = 4 << 20  # bytes
_LONGEST_SLUG = 40
_MOST_ALIKE = 1000
_PATIENCE = 60.0  # seconds

Json = dict[str, Any]


@dataclass(frozen=True)
class MeasuredModel:
    """The model a result is of."""

    id: str
    weights_sha256: str
    preprocessing: str


@dataclass(frozen=True)
class MeasuredData:
    """What it was measured on; results with the same `fingerprint` are on the same data."""

    name: str
    split: str | None
    images: int
    captions: int | None
    classes: int | None
    fingerprint: str


@dataclass(frozen=True)
class Result:
    """A measurement of some `kind`: `recall`, `classify`, `tune` or one that comes later.

    `results` are the figures as `--json` prints them, `settings` what changes them, `machine` what
    it ran on. A measurement may need no model or no data.
    """

    kind: str
    when: datetime
    model: MeasuredModel | None
    data: MeasuredData | None
    settings: Json
    results: Json
    machine: Json


@dataclass(frozen=True)
class Kept:
    """A result and the name of its file."""

    file: str
    result: Result


@dataclass(frozen=True)
class Unreadable:
    """A file that holds no result for us, and why; `newer` if a later version wrote it."""

    file: str
    reason: str
    newer: bool = False


def check_room(place: Place) -> None:
    """Make sure, before something long is measured, that its result can be kept.

    Raises:
        LibraryError: there is no library at this place, or its folder cannot be written.
    """
    home = folder_of(place)
    if not exists(place):
        raise LibraryError(f"no library at {home} to keep a result; `rwkvsearch index` makes one")
    probe = home / FOLDER / ".probe"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(home, error) from error


def keep_result(home: Path, result: Result) -> Path:
    """Write a result into the library in the directory `home`, beside all others; its file.

    Raises:
        LibraryError: it cannot be written.
    """
    text = json.dumps(_as_json(result), indent=2, allow_nan=False) + "\n"
    try:
        (home / FOLDER).mkdir(parents=True, exist_ok=True)
        path = _new_file(home / FOLDER, result)
        try:
            with replacing(path) as file:
                file.write(text.encode())
        except BaseException:
            with suppress(OSError):
                path.unlink()  # the name alone, without a result
            raise
    except OSError as error:
        raise _unwritable(home, error) from error
    return path


def kept_results(home: Path) -> tuple[list[Kept], list[Unreadable]]:
    """All results of the library in the directory `home`, newest first, and what is none."""
    kept, unreadable = [], []
    for path in _files(home):
        read = _read(path)
        if isinstance(read, Unreadable):
            unreadable.append(read)
        else:
            kept.append(read)
    return sorted(kept, key=lambda one: (one.result.when, one.file), reverse=True), unreadable


def searched_contents(library: Library, model: ModelInfo) -> list[str]:
    """The content hashes of all images that a search of the library can find."""
    row = select(ImageRow.content_hash).join(EmbeddingRow, EmbeddingRow.image_id == ImageRow.id)
    with library.read() as session:
        return [*session.scalars(row.where(EmbeddingRow.model == model.key, IS_LIVE))]


def interrupted(home: Path) -> list[Path]:
    """Parts of files whose writing began a while ago and was not finished."""
    before = time.time() - _PATIENCE
    try:
        parts = [*(home / FOLDER).glob(".*.json.part")]
        return sorted(part for part in parts if part.stat().st_mtime < before)
    except OSError:
        return []


def _files(home: Path) -> list[Path]:
    try:
        return sorted(path for path in (home / FOLDER).glob("*.json") if path.name[0] != ".")
    except OSError:
        return []


def _read(path: Path) -> Kept | Unreadable:
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST >> 20} megabytes")
        document = json.loads(path.read_bytes(), parse_constant=_refuse)
        if not isinstance(document, dict) or not isinstance(document.get("format"), int):
            raise ValueError("not the result of a measurement")
        if document["format"] > FORMAT:
            return Unreadable(path.name, f"of a newer version (format {document['format']})", True)
        return Kept(path.name, _from_json(document))
    except OSError as error:
        return Unreadable(path.name, f"cannot be read: {system_reason(error)}")
    except (ValueError, RecursionError) as error:
        why = "not JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        return Unreadable(path.name, f"damaged: {why}")


def _as_json(result: Result) -> Json:
    when = result.when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"format": FORMAT} | asdict(result) | {"when": when}


def _from_json(document: Json) -> Result:
    """A result of what is in a file; `ValueError` where it is not as it should be."""
    model, data = _table(document, "model", True), _table(document, "data", True)
    when = datetime.fromisoformat(_value(document, "when", str))
    if when.tzinfo is None:
        raise ValueError("`when` has no time zone")
    return Result(
        kind=_value(document, "kind", str),
        when=when.astimezone(UTC),
        model=None if model is None else _model(model),
        data=None if data is None else _data(data),
        settings=_table(document, "settings") or {},
        results=_table(document, "results") or {},
        machine=_table(document, "machine") or {},
    )


def _model(table: Json) -> MeasuredModel:
    names = ("id", "weights_sha256", "preprocessing")
    return MeasuredModel(*(_value(table, name, str) for name in names))


def _data(table: Json) -> MeasuredData:
    return MeasuredData(
        name=_value(table, "name", str),
        split=_value(table, "split", str, None),
        images=_value(table, "images", int),
        captions=_value(table, "captions", int, None),
        classes=_value(table, "classes", int, None),
        fingerprint=_value(table, "fingerprint", str),
    )


def _value(table: Json, name: str, *kinds: type | None) -> Any:
    """What stands under a name, of one of `kinds`; None among them: it may lack."""
    found = table.get(name)
    if found is None and None in kinds:
        return None
    if not isinstance(found, tuple(kind for kind in kinds if kind)) or isinstance(found, bool):
        raise ValueError(f"`{name}` is missing or of the wrong type")
    return found


def _table(document: Json, name: str, may_lack: bool = False) -> Json | None:
    table: Json | None = _value(document, name, dict, *([None] if may_lack else []))
    return table


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _new_file(folder: Path, result: Result) -> Path:
    """An empty file of a name that was free: whoever comes at the same moment takes the next."""
    for name in _names(result):
        try:
            (folder / name).open("xb").close()
        except FileExistsError:
            continue
        return folder / name
    raise LibraryError(f"{folder}: more than {_MOST_ALIKE:,} results of one second")


def _names(result: Result) -> Iterator[str]:
    when = result.when.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    about = [result.data.name, result.data.split or ""] if result.data else []
    about = about or [result.model.id if result.model else "machine"]
    base = "-".join(filter(None, (when, _slug(result.kind), _slug(" ".join(about)))))
    yield f"{base}.json"
    yield from (f"{base}-{number}.json" for number in range(2, _MOST_ALIKE + 1))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_LONGEST_SLUG].strip("-")


def _unwritable(home: Path, error: OSError) -> LibraryError:
    reason = system_reason(error)
    return LibraryError(f"cannot keep a result in {home / FOLDER}: {reason}; see --library")
