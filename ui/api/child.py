"""What a process does that works for a server: it is nice, tells what it does, ends with stdin."""

from __future__ import annotations

import _thread
import json
import os
import signal
import time
from threading import Thread
from typing import Any


def begin(patience: float) -> None:
    """Take the lowest priority; once stdin ends, be interrupted, and `patience` seconds later end.

    Then the server has asked for it, or is no more. Call it first of all.
    """
    os.nice(19)  # of this thread alone: all others start later and take it over
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    Thread(target=_end_with_stdin, args=(patience,), daemon=True).start()


def say(**line: Any) -> None:
    """Tell the server something."""
    os.write(1, f"{json.dumps(line)}\n".encode())


def _end_with_stdin(patience: float) -> None:
    while os.read(0, 4096):  # no buffer: Python could not end while one is waited for
        pass
    _thread.interrupt_main()
    time.sleep(patience)
    os._exit(1)
