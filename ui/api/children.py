"""Long work of a server in a process of its own, which tells of it in lines of JSON.

Searches stay quick beside it, as it has the lowest priority and an interpreter of its own; and what
crashes a decoder takes that process down, not the server. It ends with the server: its stdin does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from signal import Signals
from threading import Thread
from typing import IO, Any

from rwkvsearch.data.errors import LibraryError


class Child:
    """A process that runs; its lines and its end are told in a thread of this one."""

    def __init__(
        self,
        module: str,
        asked: Mapping[str, Any],
        on_line: Callable[[dict[str, Any]], None],
        on_end: Callable[[str], None],
    ) -> None:
        """Run `module` with `asked` as its argument; `on_end` is told how it ended, in words.

        In a session of its own: Ctrl-C is for the server, which ends it. The folder that the server
        was started in is not searched for modules: it may hold anybody's files.

        Raises:
            LibraryError: no process can be started.
        """
        self._on_line = on_line
        self._on_end = on_end
        log = tempfile.TemporaryFile()  # noqa: SIM115  closed by the reader
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, json.dumps(asked)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            log.close()
            raise LibraryError(f"no process can be started: {error.strerror}") from error
        self._reader = Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end; it may take a moment."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def end(self, patience: float) -> None:
        """Ask it to end, and kill it if it has not done so within so many seconds."""
        self.stop()
        if not self.wait(patience):
            self._process.kill()
            self.wait()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; whether it has."""
        self._reader.join(seconds)
        return not self._reader.is_alive()

    def _read(self, log: IO[bytes]) -> None:
        with self._process, log:
            for line in self._process.stdout or ():
                with suppress(ValueError):  # cut off by a kill
                    said = json.loads(line)
                    if isinstance(said, dict):
                        self._on_line(said)
            why = _why(self._process.wait(), log)
        self._on_end(why)


def _why(code: int, log: IO[bytes]) -> str:
    """Such as `was ended by SIGKILL`, with the last line it wrote if it ended by itself."""
    if code < 0:
        with suppress(ValueError):
            return f"was ended by {Signals(-code).name}"
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    last = f" ({lines[-1].strip()[:200]})" if lines else ""
    return f"ended with exit code {code}{last}"
