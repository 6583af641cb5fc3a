"""Where the console script begins: a `query` is answered by the daemon, if one runs.

What is imported here is all that a warm query costs beside the start of Python: nothing of typer,
nothing of the package. Whatever goes wrong before there is an answer, the command runs as it would
without a daemon, so that no query is lost.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # its import alone takes a millisecond or more

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
VERSION = f"1 {sys.version_info[0]}.{sys.version_info[1]} {sys.prefix} {HERE}"
"""Of the protocol, of Python, its environment and the package: a daemon answers only its own."""
MOST_ASKED = 1 << 20  # bytes
MOST_ANSWERED = 1 << 28  # bytes
PATIENCE = 5.0
"""Seconds until the daemon has to begin with a query; it has one at a time."""
DEFAULTS = {"OMP_WAIT_POLICY": "passive"}
"""Variables that every command sets unless they are set."""
_STAYS_HERE = ("-", "--open")
"""Words of a command that reads stdin, or starts a program in this session."""
_OF_THIS_PROCESS = ("/dev/std", "/dev/fd/", "/proc/")
"""In names of files that are others in each process, as `<(...)` gives them in a shell."""
_LONGEST_NAME = 100  # bytes; the system takes 104 or 108


def main() -> None:
    """Run the command line, by the daemon if it can."""
    if _is_for_daemon(sys.argv[1:]) and (answer := ask(sys.argv)):
        raise SystemExit(deliver(answer))
    from rwkvsearch.ui.cli import main as run

    run()


def _is_for_daemon(arguments: list[str]) -> bool:
    """Whether it is a query that can be run elsewhere, with streams to write to."""
    return (
        arguments[:1] == ["query"]
        and not any(word in _STAYS_HERE or word.endswith("=-") for word in arguments)
        and not any(name in word for name in _OF_THIS_PROCESS for word in arguments)
        and None not in (sys.stdin, sys.stdout, sys.stderr)
        and "_RWKVSEARCH_COMPLETE" not in os.environ
    )


def socket_path() -> str:
    """Where the user's daemon listens: in a folder that nobody else may enter."""
    user = os.geteuid()
    base = _whole("XDG_RUNTIME_DIR") or f"/run/user/{user}"
    folder, name = f"{base}/rwkvsearch", "daemon.sock"
    shared = _whole("TMPDIR") or "/tmp"
    if not os.path.isdir(base):  # noqa: PTH112
        folder = f"{shared}/rwkvsearch-{user}"
    if len(os.fsencode(f"{folder}/{name}")) > _LONGEST_NAME:
        folder = f"/tmp/rwkvsearch-{user}-{zlib.crc32(os.fsencode(folder)):08x}"
    return f"{folder}/{name}"


def _whole(name: str) -> str:
    """A path out of the environment; a relative one is none: the daemon is in another folder."""
    path = os.environ.get(name, "")
    return path if path.startswith("/") else ""


def is_private(folder: str) -> bool:
    """Whether a folder is the user's own, and nobody else may enter it."""
    found = os.lstat(folder)
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not stat.S_IMODE(found.st_mode) & 0o077
    )


def connect() -> socket.socket:
    """A connection to the daemon; `OSError` if there is none, or none that can be trusted."""
    path = socket_path()
    if not is_private(os.path.dirname(path)):  # noqa: PTH120
        raise PermissionError(f"{path}: others may enter its folder")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def ask(argv: list[str]) -> dict[str, Any] | None:
    """The daemon's answer to a command, None if it cannot give one.

    The answer has `code`, the exit code, and `output`, what to write: pairs of 1 (stdout) or 2
    (stderr) and a text whose surrogates stand for undecodable bytes.
    """
    try:
        question = _question(argv)
        answer = _exchange(question)
        if answer.get("ask") == "terminal":  # only this process can find out about its own
            from rwkvsearch.ui.terminal import look

            found = look()
            shown = {"shown": [found.graphics, found.columns, *found.cell]}
            answer = _exchange(question | shown)
        whole = isinstance(answer["code"], int) and all(
            to in (1, 2) and isinstance(text, str) for to, text in answer["output"]
        )
        return answer if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _question(argv: list[str]) -> dict[str, Any]:
    """A command with all of its surroundings that it can notice."""
    mask = os.umask(0o077)
    os.umask(mask)
    here = os.stat(".")  # noqa: PTH116
    return {
        "do": "run",
        "version": VERSION,
        "argv": argv,
        "cwd": os.getcwd(),  # noqa: PTH109
        "place": [here.st_dev, here.st_ino],
        "umask": mask,
        "encoding": sys.getfilesystemencoding(),
        "environ": DEFAULTS | os.environ | _terminal_size(),
        "terminal": [sys.stdout.isatty(), sys.stderr.isatty()],
    }


def _exchange(question: dict[str, Any]) -> dict[str, Any]:
    with connect() as connection:
        send(connection, question)
        first = receive(connection, MOST_ANSWERED)
        if not first.get("begun"):
            return first
        connection.settimeout(None)
        return receive(connection, MOST_ANSWERED)


def deliver(answer: dict[str, Any]) -> int:
    """Write an answer to stdout and stderr; the exit code."""
    try:
        for to, text in answer["output"]:
            stream = (sys.stdout if to == 1 else sys.stderr).buffer
            stream.write(text.encode("utf-8", "surrogateescape"))
            stream.flush()
    except (OSError, KeyboardInterrupt) as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python writes the rest of its buffer
        if isinstance(error, KeyboardInterrupt):
            return 130
        if not isinstance(error, BrokenPipeError):  # as in `rwkvsearch query ... | head -1`
            os.write(2, f"rwkvsearch: {error}\n".encode())
        return 1
    return int(answer["code"])


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message: four bytes that say how long it is, then JSON."""
    content = json.dumps(message).encode()
    connection.sendall(len(content).to_bytes(4, "big") + content)


def receive(connection: socket.socket, most: int) -> dict[str, Any]:
    """Receive one message of `most` bytes at most.

    Raises:
        ValueError: it is too long, breaks off or is no JSON object.
        OSError: the connection has failed, or nothing came in time.
    """
    size = int.from_bytes(_read(connection, 4), "big")
    if size > most:
        raise ValueError(f"a message of {size:,} bytes")
    message = json.loads(_read(connection, size))
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def _read(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 16))
        if not part:
            raise ValueError("a message that breaks off")
        parts += part
    return bytes(parts)


def _terminal_size() -> dict[str, str]:
    """What `shutil.get_terminal_size` would find out here, as it takes it from the environment."""
    try:
        columns, lines = os.get_terminal_size(1)
    except OSError:
        return {}
    size = {"COLUMNS": columns, "LINES": lines}
    return {name: str(n) for name, n in size.items() if n and not os.environ.get(name)}
