"""The process that makes the map for a server: told what it does in lines of JSON.

It ends when its stdin does: the server is no more. Killed, it leaves the map before.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from threading import Thread

_GONE = 1


def main() -> None:
    """Make a map as the one argument says, a JSON object."""
    os.nice(19)  # of this thread alone: all others start later and take it over
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    Thread(target=_end_with_stdin, daemon=True).start()
    from rwkvsearch.data.errors import RwkvSearchError
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.retrieval.mapping import make_map

    asked = json.loads(sys.argv[1])
    try:
        with Library.open(Path(asked["library"])) as library:
            model = library.model(asked["model_id"], asked["preprocessing_id"])
            make_map(library, model, anew=asked["anew"], on_step=lambda step: _say(step=step))
        _say(done=True)
    except (RwkvSearchError, OSError, MemoryError) as error:
        _say(error=str(error) or "there is not enough memory")


def _say(**line: object) -> None:
    os.write(1, f"{json.dumps(line)}\n".encode())


def _end_with_stdin() -> None:
    while os.read(0, 4096):  # no buffer: Python could not end while one is waited for
        pass
    os._exit(_GONE)


if __name__ == "__main__":
    main()
