"""Starting, asking and stopping the daemon, out of a command that has been imported anyway."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from rwkvsearch.data.errors import DaemonError
from rwkvsearch.ui.main import (
    MOST_ASKED,
    VERSION,
    ask,
    connect,
    deliver,
    is_private,
    receive,
    send,
    socket_path,
)

START_TIME = 60.0
"""Seconds until a daemon that was started has to answer."""
ANSWER_TIME = 20.0
"""Seconds for what it says of itself, which waits while a library is being loaded."""
STOP_TIME = 10.0
"""Seconds for the query that is being answered, before a daemon is killed."""


def hand_over(idle: float | None = None) -> None:
    """Let the daemon run the command of this process; it is started if there is none.

    Ends this process with the command's exit code. Returns only if the daemon cannot run it, or
    cannot be started, which is told: then the command has to go on here.
    """
    try:
        start(idle)
    except (DaemonError, OSError) as error:
        sys.stderr.write(f"rwkvsearch: answered without a daemon: {error}\n")
        return
    if answer := ask(sys.argv):
        raise SystemExit(deliver(answer))


def start(idle: float | None = None) -> dict[str, Any]:
    """The status of the user's daemon, started if there is none; one of another version gives way.

    Raises:
        DaemonError: it does not answer in time.
    """
    until, child = time.monotonic() + START_TIME, None
    while True:
        found = _tell("status")
        if found and found["version"] == VERSION:
            return found
        if found:
            stop()
        if child is None or child.poll() is not None:
            if child and child.returncode:
                raise DaemonError(f"the daemon did not start: {_last_line()} ({log_file()})")
            child = _spawn(idle)
            Thread(target=child.wait, daemon=True).start()  # so that it leaves no zombie
        if time.monotonic() > until:
            child.kill()
            raise DaemonError(f"the daemon does not answer; see {log_file()}")
        time.sleep(0.05)


def status() -> dict[str, Any] | None:
    """What the daemon says of itself; None if there is none.

    Raises:
        DaemonError: there is one, but it does not answer.
    """
    found = _tell("status")
    if found is None and (pid := _holder()):
        raise DaemonError(f"the daemon, pid {pid}, does not answer: `rwkvsearch daemon restart`")
    return found


def stop() -> bool:
    """Stop the daemon and wait until it has; whether there was one."""
    found = _tell("stop")
    pid = _holder()
    if pid is None:
        return found is not None
    for ending in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + STOP_TIME
        while time.monotonic() < until:
            if _holder() != pid:
                return True
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.kill(pid, ending)
    Path(socket_path()).unlink(missing_ok=True)
    return True


def log_file() -> Path:
    """What the daemon writes to: when it began and ended, and what it refused."""
    return Path(socket_path()).with_name("daemon.log")


def _tell(what: str) -> dict[str, Any] | None:
    with suppress(OSError, ValueError), connect() as connection:
        connection.settimeout(ANSWER_TIME)
        send(connection, {"do": what, "version": VERSION})
        return receive(connection, MOST_ASKED)
    return None


def _holder() -> int | None:
    """The process that holds the daemon's lock, None if nobody does."""
    path = Path(socket_path()).with_name("daemon.lock")
    with suppress(OSError, ValueError):
        if is_private(str(path.parent)):  # else anybody may have written a number there
            with path.open() as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(lock.read())
    return None


def _spawn(idle: float | None) -> subprocess.Popen[bytes]:
    """A process of its own session, without the terminal and the folder of this one."""
    folder = log_file().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(str(folder)):  # else the log may be a link to a file of this user
        raise DaemonError(f"{folder}: others may enter it, or it is not yours")
    command = [sys.executable, "-m", "rwkvsearch.ui.daemon"]
    command += [] if idle is None else ["--idle", str(idle)]
    with log_file().open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )


def _last_line() -> str:
    lines = log_file().read_text("utf-8", "replace").splitlines()
    return lines[-1] if lines else "no reason was given"
