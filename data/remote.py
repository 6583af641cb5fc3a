"""Pictures in S3 and what speaks like it: `s3://bucket/key`, inside known as `/s3:/bucket/key`.

So written, an address is an absolute path like any other: it is joined, compared and stored as one.
Nothing here goes out unless such a path was named. Credentials, region and `AWS_ENDPOINT_URL` come
from where AWS tools look for them; Arrow does the talking.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from rwkvsearch.data.errors import DataError

if TYPE_CHECKING:
    from rwkvsearch.data.walk import Listing, OnError

_FOLDED = "s3:"
_PATIENCE = 20.0  # seconds until a server has to answer


def absolute(path: Path) -> Path:
    """`s3://bucket/key`, which pathlib has folded to `s3:/bucket/key`, as an absolute path."""
    return Path("/") / path if path.parts[:1] == (_FOLDED,) and len(path.parts) > 1 else path


def is_remote(path: Path) -> bool:
    """Whether an absolute path is an address."""
    return path.parts[1:2] == (_FOLDED,) and len(path.parts) > 2


def shown(path: Path | str) -> str:
    """A path as a person writes it, an address as such."""
    text = str(path)
    start = f"/{_FOLDED}/"
    return f"s3://{text[len(start) :]}" if text.startswith(start) else text


def open_binary(path: Path) -> BinaryIO:
    """The bytes of a file, wherever it lies; `OSError` as `Path.open` has it."""
    if not is_remote(path):
        return path.open("rb")
    with _said_shortly():
        return cast(BinaryIO, _system(path.parts[2]).open_input_file(_key(path)))


def stat_of(path: Path) -> os.stat_result:
    """`Path.stat`, wherever the file lies; see `_status`."""
    if not is_remote(path):
        return path.stat()
    from pyarrow.fs import FileType

    with _said_shortly():
        info = _system(path.parts[2]).get_file_info(_key(path))
    if info.type != FileType.File:
        raise FileNotFoundError(errno.ENOENT, "no such object", shown(path))
    return _status(path, info)


def walk_remote(
    folder: Path, exclude: Sequence[str], top: Path, on_error: OnError
) -> Iterator[Listing]:
    """As `data.walk.walk`, of everything with the prefix; `.rwkvsearchignore` is not looked for.

    `exclude` is relative to `top`. A key that no path can stand for, with `//` in it, is an error.
    """
    from pathspec import GitIgnoreSpec

    spec = GitIgnoreSpec.from_lines(exclude)
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            listing, inner = _look_in(place, on_error)
        except OSError as error:
            on_error(place, error.strerror or str(error))
            continue
        below = "" if place == top else f"{place.relative_to(top)}/"
        for name in [*listing.pictures]:
            if spec.match_file(below + name):
                del listing.pictures[name]
        waiting += [place / name for name in inner if not spec.match_file(f"{below}{name}/")]
        if listing.pictures:
            yield listing


def list_remote(files: Sequence[Path], on_error: OnError) -> Iterator[Listing]:
    """As `data.walk.list_files`, of single objects, each in a listing of its own."""
    from rwkvsearch.data.walk import Listing

    for path in files:
        try:
            yield Listing(path.parent, {path.name: stat_of(path)}, {})
        except FileNotFoundError:
            continue
        except OSError as error:
            on_error(path, error.strerror or str(error))


def _look_in(folder: Path, on_error: OnError) -> tuple[Listing, list[str]]:
    """One level below a prefix, and the names of those below it, last first."""
    from pyarrow.fs import FileSelector, FileType

    from rwkvsearch.data.walk import Listing, is_image_name, is_text_name

    found: dict[str, tuple[dict[str, os.stat_result], Any]] = {}
    listing, inner = Listing(folder, {}, {}), []
    key = _key(folder)
    system = _system(folder.parts[2])
    with _said_shortly():
        infos = system.get_file_info(FileSelector(key, allow_not_found=True))
        if not infos and system.get_file_info(folder.parts[2]).type == FileType.NotFound:
            raise FileNotFoundError(errno.ENOENT, "no such bucket")
    for info in infos:
        name = info.path[len(key) + 1 :]
        if name.startswith("."):
            continue
        if not name or "/" in name:
            on_error(folder, f"an empty name in the key {info.path}")
        elif info.type == FileType.Directory:
            inner.append(name)
        elif is_image_name(name):
            found[name] = (listing.pictures, info)
        elif is_text_name(name):
            found[name] = (listing.texts, info)
    for name in sorted(found):
        kind, info = found[name]
        kind[name] = _status(folder / name, info)
    return listing, sorted(inner, reverse=True)


def _status(path: Path, info: Any) -> os.stat_result:
    """Size and time as the server has them; the inode is a hash of the address.

    So no two addresses look like one file that was moved.
    """
    inode = int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=7).digest())
    seconds = info.mtime_ns // 1_000_000_000
    whole = (0o100644, inode, 0, 1, 0, 0, info.size, seconds, seconds, seconds)
    return os.stat_result(whole, {"st_mtime_ns": info.mtime_ns})


def _key(path: Path) -> str:
    """As Arrow has it: the bucket and the key."""
    return "/".join(path.parts[2:])


@lru_cache
def _system(bucket: str) -> Any:
    try:
        from pyarrow.fs import S3FileSystem, resolve_s3_region
    except ImportError as error:
        raise DataError("s3:// needs Arrow: pip install 'rwkvsearch[remote]'") from error
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region and not endpoint:
        with _said_shortly():
            region = resolve_s3_region(bucket)
    return S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        connect_timeout=_PATIENCE,
        request_timeout=_PATIENCE,
    )


@contextmanager
def _said_shortly() -> Iterator[None]:
    """Cut what Arrow tells of an error to what a line of a table takes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        text = " ".join(str(error).split())
        said = text[max(text.find("AWS Error"), 0) :].partition(";")[0][:120]
        raise OSError(error.errno or errno.EIO, said) from error
