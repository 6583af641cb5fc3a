"""The process that syncs for a server: what `rwkvsearch index --nice` does, told in lines of JSON.

It ends in good order when it is asked to stop: what is done is kept.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from rwkvsearch.data.remote import shown
from rwkvsearch.ui.api.child import begin, say
from rwkvsearch.ui.api.sync_state import STOPPED

if TYPE_CHECKING:
    from rwkvsearch.indexer.address import Place
    from rwkvsearch.indexer.protocols import Progress, SyncEvent, SyncReport
    from rwkvsearch.retrieval.models import Precision

_PAUSE = 0.2  # seconds between two lines that only count
_PATIENCE = 20.0  # seconds until a batch that does not end is left


def main() -> None:
    """Sync as the one argument says, a JSON object: library, model, device, precision and ann."""
    lines = _Lines()
    from rwkvsearch.data.errors import LibraryBusy, RwkvSearchError
    from rwkvsearch.indexer.address import place_of

    try:
        begin(_PATIENCE)
        asked = json.loads(sys.argv[1])
        library = place_of(asked["library"])
        model, device, precision = asked["model"], asked["device"], asked["precision"]
        report = run(library, model, device, precision, lines, asked["ann"])
        lines.end("done", _as_text(report, library))
    except KeyboardInterrupt:
        lines.end("stopped", STOPPED)
    except LibraryBusy as error:
        lines.end("busy", str(error))
    except (RwkvSearchError, OSError) as error:
        lines.end("failed", str(error))


def run(
    place: Place,
    model: str | None,
    device: str | None,
    precision: Precision | None,
    progress: Progress,
    ann: str | None = None,
) -> SyncReport:
    """Sync all that was indexed before, with what the library was made by unless asked for."""
    import warnings

    warnings.filterwarnings("ignore", module="PIL")
    from rwkvsearch.indexer.library import Library
    from rwkvsearch.indexer.sync import SyncOptions, sync
    from rwkvsearch.retrieval.choose import choose_model
    from rwkvsearch.retrieval.encoder import Encoder

    with Library.open(place) as library:
        name, precision = choose_model(library, model, precision)
        encoder = Encoder.load(name, device=device, precision=precision)
        return sync(library, None, encoder, SyncOptions(ann=ann), progress=progress)


class _Lines:
    """Tells the server how far it is: every file that is skipped, and a few counts a second."""

    def __init__(self) -> None:
        self._stage = ""
        self._told = 0.0

    def __call__(self, event: SyncEvent) -> None:
        now = time.monotonic()
        if event.path is not None:
            say(event="skipped", path=shown(event.path), reason=event.reason)
        elif event.stage != self._stage or now - self._told >= _PAUSE:
            self._stage, self._told = event.stage, now
            counts = {"total": event.total, "done": event.done, "errors": event.errors}
            say(event="progress", stage=event.stage, **counts)

    def end(self, outcome: str, message: str) -> None:
        """The last line."""
        with suppress(OSError):  # nobody listens any more
            say(event="end", outcome=outcome, message=message)


def _as_text(report: SyncReport, library: Place) -> str:
    from rwkvsearch.ui.render import report_as_text

    return report_as_text(report, str(library)).splitlines()[0]


if __name__ == "__main__":
    main()
