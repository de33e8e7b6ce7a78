"""Exceptions that pass from the process where they are raised to the one that asked, and are raised there again.

The invariant: **what is carried is raised as what it was, and nothing else is carried.** These are answers: of a
decision (a `Refusal`), of the log or the views that cannot be written or read, of a file that is missing. Their types
are compared exactly: whoever derives a class that shall be carried names it in `_TABLE`. Any other exception is a
defect of the process that raises it, and stays there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from relay.mail_reading import NotReadNow
from relay.message.key_files import KeyFileError
from relay.refusals import Refusal
from spool.errors import (
    CorruptionError,
    LogClosedError,
    LogDeposedError,
    LogFollowsError,
    LogPoisonedError,
    LogStalledError,
    ReadersFullError,
    SequenceNotFoundError,
)


class Raised(msgspec.Struct, frozen=True, array_like=True):
    """An exception, on its way."""

    name: str
    values: list[Any]


class _Way(NamedTuple):
    #: What has to be known of it.
    taken: Callable[[Any], list[Any]]
    made: Callable[..., Exception]


def _refusal(code: str, message: str, retry_after_seconds: int | None) -> Refusal:
    return Refusal(code, message, retry_after_seconds=retry_after_seconds)


def _corruption(file: str, offset: int, seq: int, part: str, problem: str) -> CorruptionError:
    return CorruptionError(file=file, offset=offset, seq=seq, part=part, problem=problem)


def _by_arguments(made: Callable[..., Exception]) -> _Way:
    return _Way(lambda error: [str(argument) for argument in error.args], made)


_TABLE: Final[dict[type[Exception], _Way]] = {
    Refusal: _Way(lambda error: [error.code, error.message, error.retry_after_seconds], _refusal),
    CorruptionError: _Way(
        lambda error: [error.file, error.offset, error.seq, error.part, error.problem], _corruption
    ),
    ReadersFullError: _Way(lambda error: [], ReadersFullError),
    LookupError: _by_arguments(LookupError),
    SequenceNotFoundError: _by_arguments(SequenceNotFoundError),
    LogStalledError: _by_arguments(LogStalledError),
    LogPoisonedError: _by_arguments(LogPoisonedError),
    LogClosedError: _by_arguments(LogClosedError),
    LogDeposedError: _by_arguments(LogDeposedError),
    LogFollowsError: _by_arguments(LogFollowsError),
    NotReadNow: _by_arguments(NotReadNow),
    KeyFileError: _by_arguments(KeyFileError),
}
_BY_NAME: Final = {type_.__name__: way for type_, way in _TABLE.items()}

CARRIED: Final = tuple(_TABLE)


def taken(error: Exception) -> Raised | None:
    """What is sent of it; None: it is not carried."""
    way = _TABLE.get(type(error))
    return None if way is None else Raised(type(error).__name__, way.taken(error))


def made(raised: Raised) -> Exception:
    """The same exception again. Raises LookupError, TypeError or ValueError where it is none that is carried."""
    return _BY_NAME[raised.name].made(*raised.values)
