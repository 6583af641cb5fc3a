"""The process that is tortured: syncs when told to, and writes down every picture it embeds.

    python torture.py LIBRARY LOG

Each line on stdin is a JSON list of roots; each answer on stdout is the report, with lines of
progress before it. As root it goes on as nobody, so that permissions mean something.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from conftest import FakeEncoder

from rwkvsearch.data.errors import RwkvSearchError
from rwkvsearch.indexer.library import Library
from rwkvsearch.indexer.protocols import SyncEvent
from rwkvsearch.indexer.sync import SyncOptions, sync


class Logged(FakeEncoder):
    """Writes the hash of the pixels it encodes into a file, before anything can be stored."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    def encode_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        lines = "".join(hashlib.sha256(one.tobytes()).hexdigest() + "\n" for one in pixels)
        with self.log.open("a") as stream:
            stream.write(lines)
        return super().encode_pixels(pixels)


def say(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def on_event(event: SyncEvent) -> None:
    say({"embedded": event.embedded})


def main(home: Path, log: Path) -> None:
    os.umask(0)
    if os.geteuid() == 0:
        os.setuid(65534)
    encoder = Logged(log)
    options = SyncOptions(batch_size=4, workers=2)
    say({"ready": True})
    for line in sys.stdin:
        try:
            with Library.create(home) as library:
                shards = {root for root in library.stats().roots if root.suffix == ".tar"}
                roots = sorted(shards | {Path(root) for root in json.loads(line)})
                report = sync(library, roots, encoder, options, progress=on_event)
            errors = {str(path): reason for path, reason in report.errors}
            say({"errors": errors, "unreachable": [str(path) for path, _ in report.unreachable]})
        except RwkvSearchError as error:
            say({"refused": str(error)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
