"""Files that are replaced whole or not at all, and names that may be no files."""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class NamedBytes(io.BytesIO):
    """Bytes that still know which file they are of."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once it is whole and on the disk.

    After an error, which is passed on, the old file is still there and nothing else.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def expanded(name: str) -> Path:
    """The path with the home folder for a `~` before it; as it is where nobody has such a home."""
    with suppress(RuntimeError):
        return Path(name).expanduser()
    return Path(name)


def open_file(path: Path) -> BinaryIO:
    """Open a file to read its bytes; `OSError` for what is none, such as a pipe, never a wait."""
    stream = open(path, "rb", opener=_at_once)  # noqa: PTH123, SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise FileNotFoundError(errno.ENOENT, "not a file", str(path))
    return stream


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def is_file(path: Path) -> bool:
    """Whether there is a file; what may not be looked at, or is a circle of links, is none."""
    with suppress(OSError):
        return path.is_file()
    return False
