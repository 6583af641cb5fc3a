"""The map of a library: where each image lies on a plane; derived, one file a model in `maps/`.

What lies near is alike. How it is computed is in `retrieval/mapping.py`; here it is kept: written
whole or not at all, and taken only if it was made of this model and is what was written.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwkvsearch.data.errors import LibraryBusy, LibraryError
from rwkvsearch.data.files import replacing
from rwkvsearch.indexer.blocks import Floats, Ids
from rwkvsearch.indexer.library import Library, ModelInfo

FORMAT = 1
LAID_OUT, PLACED, ADDED = 0, 1, 2
"""How an image came on the map: laid out against others, or put beside them then or later."""
_ARRAYS = ("ids", "points", "how", "about")

Kinds = NDArray[np.uint8]


@dataclass(frozen=True)
class CollectionMap:
    """Where the images `ids` `[M]`, ascending, lie: `points` `[M, 2]`, both from 0 to 1.

    `how` `[M]` is `LAID_OUT`, `PLACED` or `ADDED`.
    """

    ids: Ids
    points: Floats
    how: Kinds
    made_of: int
    """How many there were when they were laid out."""
    made_at: float
    """When all were laid out, in seconds since 1970."""
    seconds: float
    """That this took."""


def map_path(library: Library, model: ModelInfo) -> Path:
    """Where the map of a model is kept, whether or not there is one."""
    whole = f"{model.model_id} {model.preprocessing_id} {model.weights_sha256}"
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", model.model_id)[:80]
    return library.path / "maps" / f"{name}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}.npz"


def read_map(library: Library, model: ModelInfo) -> CollectionMap | None:
    """The map of a model; None if there is none, or it is damaged or of something else."""
    try:
        with map_path(library, model).open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            ids, points, how, about = (file[name] for name in _ARRAYS)
        said = json.loads(bytes(about))
        told = int(said["made_of"]), float(said["made_at"]), float(said["seconds"])
        found = CollectionMap(ids, points, how, *told)
        return found if said["of"] == _origin(model) and _is_sound(found) else None
    # Only a cache: whatever is wrong with it, it is made anew.
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def write_map(library: Library, model: ModelInfo, made: CollectionMap) -> None:
    """Keep a map in the place of the one before.

    Raises:
        LibraryError: it cannot be written.
    """
    told = {"made_of": made.made_of, "made_at": made.made_at, "seconds": made.seconds}
    said = {"of": _origin(model)} | told
    about = np.frombuffer(json.dumps(said).encode(), np.uint8)
    path = map_path(library, model)
    try:
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as file:
            np.savez(file, ids=made.ids, points=made.points, how=made.how, about=about)
    except OSError as error:
        raise LibraryError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def mapper(library: Library) -> Iterator[None]:
    """Be the one process that makes a map. The kernel lifts the lock when a process dies.

    Raises:
        LibraryBusy: another one is making one.
        LibraryError: the library cannot be written.
    """
    folder = library.path / "maps"
    try:
        folder.mkdir(exist_ok=True)
        stream = (folder / "lock").open("a+")
    except OSError as error:
        raise LibraryError(f"cannot write to {folder}: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LibraryBusy(
                f"another rwkvsearch is making a map of {library.name}; wait until it is done"
            ) from error
        yield


def unused_maps(library: Library) -> list[Path]:
    """Files in `maps/` that no model of the library leads to, or that a killed run has left.

    None while a map is being made: its file is not in its place yet.
    """
    folder = library.path / "maps"
    if not folder.is_dir() or _is_being_made(folder):
        return []
    used = {map_path(library, model).name for model in library.models()} | {"lock"}
    return sorted(path for path in folder.iterdir() if path.name not in used)


def damaged_maps(library: Library) -> list[Path]:
    """Maps of the library's models that cannot be read as such."""
    models = [model for model in library.models() if map_path(library, model).exists()]
    return [map_path(library, model) for model in models if read_map(library, model) is None]


def _is_being_made(folder: Path) -> bool:
    try:
        with (folder / "lock").open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _origin(model: ModelInfo) -> list[object]:
    return [FORMAT, model.model_id, model.preprocessing_id, model.weights_sha256]


def _is_sound(one: CollectionMap) -> bool:
    rows = len(one.ids)
    return (
        one.ids.dtype == np.int64
        and one.points.dtype == np.float32
        and one.how.dtype == np.uint8
        and (one.ids.shape, one.points.shape, one.how.shape) == ((rows,), (rows, 2), (rows,))
        and bool((np.diff(one.ids) > 0).all())
        and bool(((one.points >= 0) & (one.points <= 1)).all())
    )
