"""The daemon: answers queries of one user over a Unix socket, one at a time, from warm engines.

Messages are JSON of a limited size (`main.py`), never pickle. Threads receive and send; the main
thread alone runs commands, so that nobody waits for a slow client. It stops by itself: when nobody
has asked for a while, on SIGTERM, when its socket is not its own any more, or when the code of the
package has changed. `python -m rwkvsearch.ui.daemon` is started by `daemon_client.start`.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import struct
import time
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore, Event, Thread
from typing import Any

from rwkvsearch.ui.daemon_run import Question, Refused, run_as_client
from rwkvsearch.ui.engines import Engines
from rwkvsearch.ui.main import DEFAULTS, MOST_ASKED, VERSION, is_private, receive, send, socket_path

IDLE = 15 * 60.0  # seconds
TICK = 2.0
"""Seconds between two looks at whether to stop."""
READ_TIME = 5.0
"""Seconds that a client has to send its question, and to take in each part of the answer."""
MOST_CLIENTS = 128


@dataclass
class _Job:
    question: Question
    connection: socket.socket
    done: Event = field(default_factory=Event)
    answer: dict[str, Any] = field(default_factory=dict)


class Daemon:
    """Serves until there is a reason to stop; the caller holds the lock of the folder."""

    def __init__(self, listener: socket.socket, path: Path, idle: float) -> None:
        self._listener = listener
        self._path = path
        self._inode = path.stat().st_ino
        self._idle = idle
        self._engines = Engines()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._clients = BoundedSemaphore(MOST_CLIENTS)
        self._reason = ""
        self._began = self._last = time.monotonic()
        self._environ = dict(os.environ)
        self._code = code_state()
        self._answered = self._refused = 0

    def run(self) -> None:
        """Serve; returns when it stops, with the engines closed and the socket removed."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop("SIGTERM"))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Thread(target=self._listen, daemon=True).start()
        log(f"started, pid {os.getpid()}, stops after {self._idle:g} s without a query")
        while not self._reason:
            try:
                job = self._jobs.get(timeout=min(TICK, max(self._idle / 4, 0.05)))
            except Empty:
                self._look_around()
                continue
            if job is not None:
                self._answer(job)
                self._last = time.monotonic()
        remove_socket(self._path, self._inode)
        self._listener.close()
        self._refuse_the_rest()
        until = time.monotonic() + 1  # for the last answers to be taken
        for _ in range(MOST_CLIENTS):
            self._clients.acquire(timeout=max(until - time.monotonic(), 0))
        self._engines.close()
        log(f"stopped: {self._reason}; {self._answered} answered, {self._refused} refused")

    def stop(self, reason: str) -> None:
        """Stop after the command that is being run; safe in a signal handler."""
        self._reason = self._reason or reason
        self._jobs.put(None)

    def _look_around(self) -> None:
        self._engines.drop_gone()
        if time.monotonic() - self._last >= self._idle:
            self.stop("idle")
        elif not _is_own(self._path, self._inode):
            self.stop("its socket was removed")
        elif code_state() != self._code:
            self.stop("the package has changed")

    def _answer(self, job: _Job) -> None:
        try:
            if code_state() != self._code:
                self.stop("the package has changed")
                raise Refused("the package has changed")
            send(job.connection, {"begun": True})  # fails if the client waits no longer
            job.answer = run_as_client(job.question, self._engines, self._environ)
            self._answered += 1
        except (Refused, OSError) as refusal:
            job.answer = self._refusal(str(refusal))
        except Exception as error:  # the client shows it, as it runs the command by itself
            job.answer = self._refusal(_without_values(error))
        finally:
            job.done.set()

    def _refusal(self, why: str) -> dict[str, Any]:
        self._refused += 1
        log(f"refused: {why}")
        return {"refused": why}

    def _refuse_the_rest(self) -> None:
        with suppress(Empty):
            while True:
                if job := self._jobs.get_nowait():
                    job.answer = self._refusal("stopping")
                    job.done.set()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed: it stops
                return
            if self._clients.acquire(blocking=False):
                Thread(target=self._serve, args=(connection,), daemon=True).start()
            else:
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(READ_TIME)
                if _is_same_user(connection):
                    self._reply(connection, receive(connection, MOST_ASKED))
        except (OSError, ValueError, RecursionError) as error:
            log(f"a client was not answered: {type(error).__name__}")
        finally:
            self._clients.release()

    def _reply(self, connection: socket.socket, message: dict[str, Any]) -> None:
        asked = message.get("do")
        if asked in ("status", "stop"):
            send(connection, self.status())
            if asked == "stop":
                self.stop("asked to")
        elif message.get("version") != VERSION:
            send(connection, self._refusal("another version"))
        elif asked == "run":
            try:
                job = _Job(Question.read(message), connection)
            except Refused as refusal:
                send(connection, self._refusal(str(refusal)))
                return
            self._jobs.put(job)
            job.done.wait()
            send(connection, job.answer)
        else:
            send(connection, self._refusal("not a question"))

    def status(self) -> dict[str, Any]:
        """What `rwkvsearch daemon status` shows."""
        now = time.monotonic()
        return {
            "pid": os.getpid(),
            "version": VERSION,
            "uptime_seconds": round(now - self._began, 1),
            "idle_seconds": round(now - self._last, 1),
            "stops_after_seconds": self._idle,
            "answered": self._answered,
            "refused": self._refused,
            "engines": self._engines.number,
            "reopened": self._engines.reopened,
            "processor_seconds": round(time.process_time(), 3),
            "memory_bytes": _memory(),
        }


def code_state() -> int:
    """What differs once the package is another one on disk."""
    found = []
    folders = [Path(__file__).parents[1] / room for room in ("data", "indexer", "kernels")]
    folders += [Path(__file__).parents[1] / room for room in ("retrieval", "ui")]
    for folder in folders:
        for place, inner, names in os.walk(folder):
            inner[:] = [name for name in inner if not name.startswith((".", "__"))]
            for name in names:
                if name.endswith(".py"):
                    with suppress(OSError):
                        stat = os.stat(f"{place}/{name}")  # noqa: PTH116
                        found.append((place, name, stat.st_size, stat.st_mtime_ns))
    return hash(tuple(sorted(found)))


def log(line: str) -> None:
    """Add a line to the log, which fd 1 is whatever `sys.stdout` is; never anything of a query."""
    os.write(1, f"{time.strftime('%F %T')} {line}\n".encode())


def main() -> None:
    """Listen for the user, unless another daemon does."""
    asked = argparse.ArgumentParser(prog="python -m rwkvsearch.ui.daemon", description=__doc__)
    asked.add_argument("--idle", type=float, default=IDLE, help="seconds until it stops by itself")
    idle = asked.parse_args().idle
    os.environ.update(DEFAULTS | os.environ)
    warnings.filterwarnings("ignore", module="PIL")
    path = Path(socket_path())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_private(str(path.parent)):
        raise SystemExit(f"{path.parent}: others may enter it, or it is not yours")
    with path.with_name("daemon.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        os.chdir("/")
        with listening(path) as listener:
            Daemon(listener, path, idle).run()


def listening(path: Path) -> socket.socket:
    """A socket at `path`, in the place of what a daemon that was killed has left there."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(MOST_CLIENTS)
    return listener


def remove_socket(path: Path, inode: int) -> None:
    """Remove the socket if it is still the one with this inode."""
    if _is_own(path, inode):
        path.unlink(missing_ok=True)


def _is_own(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except OSError:
        return False


def _is_same_user(connection: socket.socket) -> bool:
    """Whether the client is of this user; where the system does not say, the folder has to do."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return bool(user == os.geteuid())


def _without_values(error: Exception) -> str:
    """Where an error was raised, without its message, which may quote the query."""
    places = traceback.extract_tb(error.__traceback__)[-3:]
    shown = " < ".join(f"{Path(place.filename).name}:{place.lineno}" for place in reversed(places))
    return f"{type(error).__name__} at {shown}"


def _memory() -> int:
    """Bytes of this process in memory, 0 where the system does not say."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


if __name__ == "__main__":
    main()
