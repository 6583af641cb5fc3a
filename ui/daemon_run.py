"""One command, run in the daemon as its client would have run it: same place, same output."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any

from rwkvsearch.ui.engines import Engines

if TYPE_CHECKING:
    from rwkvsearch.ui.terminal import Terminal

BOUND = ("PYTHONHOME", "PYTHONPATH", "LD_", "DYLD_", "OMP_", "MKL_", "OPENBLAS_", "CUDA_")
"""Beginnings of variables that are read once, when a process or a library in it starts."""


class Refused(Exception):
    """A question that the client has to answer by itself."""


class NeedsTerminal(Exception):
    """A question that only the process on the terminal can answer."""


@dataclass(frozen=True)
class Question:
    """A command and all of its surroundings that it can notice."""

    argv: list[str]
    cwd: str
    place: list[int]
    """Device and inode of `cwd`: it may be another folder here, or have been moved."""
    umask: int
    encoding: str
    environ: dict[str, str]
    terminal: list[bool]
    """Whether stdout and stderr are one."""
    shown: list[Any] | None
    """What the client has found out about it; None if it was not asked to."""

    @classmethod
    def read(cls, message: dict[str, Any]) -> Question:
        """Read what a client sent; `Refused` if it is malformed."""
        found: dict[str, Any] = {name: message.get(name) for name in cls.__annotations__}
        environ = found["environ"]
        if not isinstance(environ, dict):
            raise Refused("malformed: environ")
        sound = {
            "argv": _are(found["argv"], str) and bool(found["argv"]),
            "cwd": isinstance(found["cwd"], str),
            "place": _are(found["place"], int, 2),
            "umask": isinstance(found["umask"], int),
            "encoding": isinstance(found["encoding"], str),
            "environ": _are([*environ, *environ.values()], str),
            "terminal": _are(found["terminal"], bool, 2),
            "shown": found["shown"] is None or _are(found["shown"], str | int, 4),
        }
        if wrong := [name for name, good in sound.items() if not good]:
            raise Refused(f"malformed: {', '.join(wrong)}")
        return cls(**found)


def _are(values: object, kind: type | UnionType, number: int | None = None) -> bool:
    return (
        isinstance(values, list)
        and number in (None, len(values))
        and all(isinstance(value, kind) for value in values)
    )


def bound(environ: dict[str, str]) -> dict[str, str]:
    """The variables that a running process cannot take over from its client."""
    return {name: value for name, value in environ.items() if name.startswith(BOUND)}


class _Stream(io.RawIOBase):
    """Keeps what is written to one of two streams in the order of both."""

    def __init__(self, number: int, written: list[tuple[int, bytes]]) -> None:
        self._number = number
        self._written = written

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._written.append((self._number, content))
        return len(content)


class _Text(io.TextIOWrapper):
    """A text stream that is a terminal if the client's is one."""

    def __init__(self, number: int, written: list[tuple[int, bytes]], terminal: bool) -> None:
        binary = io.BufferedWriter(_Stream(number, written))
        super().__init__(binary, sys.getfilesystemencoding(), "surrogateescape")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def run_as_client(question: Question, engines: Engines, start: dict[str, str]) -> dict[str, Any]:
    """Run the command; its exit code, and what it wrote to stdout (1) and stderr (2), in order.

    `start` holds the variables that this process was started with.

    Raises:
        Refused: it would not do here what it does there, or it has failed unexpectedly.
    """
    from rwkvsearch.ui import terminal
    from rwkvsearch.ui.cli import run

    if question.encoding != sys.getfilesystemencoding():
        raise Refused("another encoding of file names")
    if bound(question.environ) != bound(start):
        raise Refused("another environment")
    written: list[tuple[int, bytes]] = []
    code = 0
    terminal.instead = lambda: _shown(question)
    with _surroundings(question, written):
        try:
            run(question.argv[1:], os.path.basename(question.argv[0]), engines)  # noqa: PTH119
        except NeedsTerminal:
            return {"ask": "terminal"}
        except SystemExit as stop:
            if not isinstance(stop.code, int | None):
                raise Refused("an exit with a text") from None
            code = stop.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
    output = [(to, text.decode("utf-8", "surrogateescape")) for to, text in _joined(written)]
    return {"code": code, "output": output}


def _shown(question: Question) -> Terminal:
    """What the client has said of its terminal."""
    from rwkvsearch.ui.terminal import Terminal

    if question.shown is None:
        raise NeedsTerminal
    graphics, columns, width, height = question.shown
    if graphics not in ("kitty", "sixel", "blocks"):
        raise Refused("malformed: shown")
    if drawing := sys.modules.get("textual_image._terminal"):  # it asks one terminal, once
        vars(drawing.get_cell_size).pop("_result", None)
    return Terminal(graphics, columns, (width, height))


def _joined(written: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Pieces of one stream as one, so that no character is cut in two."""
    from itertools import groupby

    for to, pieces in groupby(written, lambda piece: piece[0]):
        yield to, b"".join(content for _, content in pieces)


@contextmanager
def _surroundings(question: Question, written: list[tuple[int, bytes]]) -> Iterator[None]:
    """Take the client's place; the folder is left again, so that it can be unmounted."""
    streams, mask = (sys.stdout, sys.stderr), os.umask(question.umask & 0o777)
    try:
        os.chdir(question.cwd)
        here = os.stat(".")  # noqa: PTH116
        if [here.st_dev, here.st_ino] != question.place:
            raise Refused("another folder of the same name")
        _take_over(question.environ)
        sys.stdout, sys.stderr = (
            _Text(number, written, terminal) for number, terminal in enumerate(question.terminal, 1)
        )
        yield
    except (OSError, ValueError) as error:  # ValueError: a variable that cannot be set
        raise Refused(f"{type(error).__name__} outside of the command") from None
    finally:
        sys.stdout, sys.stderr = streams
        os.umask(mask)
        os.chdir("/")


def _take_over(environ: dict[str, str]) -> None:
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    time.tzset()
    tempfile.tempdir = None  # it is found out once
