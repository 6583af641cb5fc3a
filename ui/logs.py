"""Log lines on stderr: one JSON object each for programs, or words for a person."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

from rwkvsearch.ui.words import printable

LogFormat = Literal["json", "text"]
FIELDS = "fields"
"""Under this name `extra` of a record holds what becomes fields of its line."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered: in every line that is written meanwhile."""


class Lines(logging.Formatter):
    """Makes one line of a record, whatever is in it."""

    def __init__(self, how: LogFormat) -> None:
        super().__init__()
        self._as_json = how == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        level, said = record.levelname.lower(), record.getMessage()
        why = self.formatException(record.exc_info) if record.exc_info else None
        number = request_id.get()
        if not self._as_json:
            parts = [moment, level, printable(said), *([f"[{number}]"] if number else [])]
            return " ".join(parts) + (f"\n{why}" if why else "")
        fields: dict[str, Any] = getattr(record, FIELDS, None) or {"message": said}
        line = {"time": moment, "level": level} | fields
        line |= {"request_id": number} if number else {}
        return json.dumps(line | ({"exception": why} if why else {}))


def start_logging(how: LogFormat, *told: logging.Logger) -> None:
    """Let warnings of all go to stderr, and what the loggers `told` say of their work."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines(how))
    logging.getLogger().handlers = [handler]
    for logger in told:
        logger.setLevel(logging.INFO)
