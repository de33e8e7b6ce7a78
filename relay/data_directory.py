"""A data directory: who may write into it, and how to read one that nobody serves."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from relay.codec import Recorded, decode
from relay.config import Config, load_config
from relay.message.keys import KeyRing, load_pepper
from relay.refusals import Refusal
from relay.store import LOG_DIRECTORY
from relay.surroundings import Surroundings
from relay.views import open_temporary_views
from spool.backup.format import BEGUN_NAME as BACKUP_BEGUN
from spool.backup.restore import UNFINISHED_NAME as RESTORE_UNFINISHED
from spool.reader import LogReader
from spool.views import Snapshot, Views


class Readable(Protocol):
    """What commands that only read need: a Core, or a directory that nobody has open."""

    @property
    def config(self) -> Config: ...
    @property
    def keyring(self) -> KeyRing: ...
    @property
    def operator_stem(self) -> str: ...
    @property
    def store(self) -> ReadableStore: ...
    @property
    def in_hand(self) -> Container[int]: ...
    @property
    def sites(self) -> Mapping[str, str]: ...


class ReadableStore(Protocol):
    """What `Store` answers, for those who only ask."""

    def now_us(self) -> int: ...
    def read(self) -> AbstractContextManager[Snapshot]: ...
    def get(self, seq: int) -> Recorded: ...


class LogToRead(ReadableStore, Protocol):
    """The views and the log behind them, which have a beginning and an end."""

    @property
    def last_seq(self) -> int: ...
    @property
    def first_seq(self) -> int: ...


def check_may_write(directory: Path, *, restoring: bool = False) -> None:
    """Raises Refusal where a directory has all that a data directory has, and is none: a backup, or one that is still
    being restored."""
    if (directory / BACKUP_BEGUN).exists():
        # What a relay would write into it, its manifest would call damage.
        raise Refusal(
            "CONFLICT", f"{directory} is a backup: make a data directory of it with `atmos-relay log restore`"
        )
    if not restoring and (directory / RESTORE_UNFINISHED).exists():
        # Its mail may have to be held first.
        raise Refusal(
            "CONFLICT",
            f"the restore of {directory} has not ended: run the same `atmos-relay log restore` again",
        )


@dataclass(frozen=True)
class _Reading:
    config: Config
    keyring: KeyRing
    operator_stem: str
    store: ReadableStore
    #: Nobody runs on this directory.
    in_hand: Container[int] = frozenset()
    sites: Mapping[str, str] = field(default_factory=dict)


class _Folded:
    """Views that were folded from a log, and that log."""

    def __init__(self, views: Views[Recorded], reader: LogReader, clock: Callable[[], int]) -> None:
        self._reader = reader
        self.read = views.read
        self.now_us = clock

    def get(self, seq: int) -> Recorded:
        return decode(self._reader.get(seq))


@contextmanager
def open_for_reading(directory: Path) -> Iterator[Readable]:
    """A data directory that nobody serves, or a copy of one, without writing a byte into it.

    The views are folded from the log into a temporary directory: those of the directory may be behind it, or missing,
    and only a writer may mend that. Raises ConfigError, KeyFileError, or an error of `spool`.
    """
    config = load_config(directory)
    load_pepper(directory)  # not needed here, but whoever looks should hear of secrets that others can read
    keyring = KeyRing(directory)
    keyring.check()
    operator_stem = keyring.operator_stem(config.operator_domain)
    with (
        open_temporary_views() as views,
        LogReader(directory / LOG_DIRECTORY, locate=views.locate) as reader,
    ):
        if reader.directory.is_dir():
            views.catch_up(reader)
        folded = _Folded(views, reader, Surroundings().clock)
        yield _Reading(config, keyring, operator_stem, folded)
