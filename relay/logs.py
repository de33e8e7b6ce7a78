"""Application logs: JSON lines on standard error.

What may be in them: ids, codes, counts, times, file names. Never a key, a token, an address or a body (SPEC 8): so no
module logs a value that a client or a remote server sent, and exceptions are logged by type and place, since their text
may quote such a value.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

#: Among them "process", which would be a number.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """`process`: which of the relay's processes this is; the core does not say it of itself."""

    def __init__(self, process: str | None = None) -> None:
        super().__init__()
        self._process = {} if process is None else {"process": process}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._process,
            "event": record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe(record.exc_info[1])
        return json.dumps(line, default=repr)


def describe(error: BaseException) -> list[str]:
    """An exception without its text: the types and the places, innermost last, groups flattened."""
    if isinstance(error, BaseExceptionGroup):
        return [line for inner in error.exceptions for line in describe(inner)]
    places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    lines = [f"{type(error).__module__}.{type(error).__qualname__} at {' > '.join(places[-6:])}"]
    cause = error.__cause__ or error.__context__
    return [*lines, *describe(cause)] if cause is not None else lines


def configure_logging(level: int = logging.INFO, *, process: str | None = None) -> None:
    """`process`: the name of a process that is not the core, which each of its lines says."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Its access and error logs would hold URLs (recipients are in some) and exception texts.
    logging.getLogger("hypercorn").setLevel(logging.CRITICAL)
